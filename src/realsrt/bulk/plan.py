"""What is asked of a run, checked before any work: options against the model, and what decides about outputs."""

import json
from typing import Any

import numpy as np
import torch

from realsrt.batch.outputs import Files, settings_of
from realsrt.checkpoint import load_model
from realsrt.inference.options import UpscaleOptions
from realsrt.inference.request import make_request
from realsrt.inference.runner import PRECISIONS, pick_precision
from realsrt.model import CheckpointInfo


def checked_model(weights: str, options: UpscaleOptions, precision: str) -> CheckpointInfo:
    """The model's name and hash, once its options are known to be possible. Raises UsageError, CheckpointError."""
    pick_precision(precision, torch.device("cpu"))
    model = load_model(weights)
    make_request(np.zeros((8, 8, 3), np.uint8), options, model.config)
    return model.info


def settings_on(device: str, precision: str, model_sha256: str, options: UpscaleOptions, files: Files) -> Any:
    """`BulkRun.settings`, as JSON has them, where actors compute on `device`: which auto is, depends on that."""
    dtype = f"auto on {device}" if precision == "auto" else str(PRECISIONS[precision])
    return json.loads(json.dumps(settings_of(model_sha256, dtype, options, files)))
