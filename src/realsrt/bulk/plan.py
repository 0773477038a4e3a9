"""What is asked of a run, checked before any work: options against the model, and what decides about outputs."""

import json
import secrets

import numpy as np
import torch

from realsrt.batch.outputs import Files, settings_of
from realsrt.bulk.work import BulkRun
from realsrt.checkpoint import load_model
from realsrt.inference.options import UpscaleOptions
from realsrt.inference.request import make_request
from realsrt.inference.runner import PRECISIONS, pick_precision
from realsrt.io.metadata.provenance import provenance
from realsrt.model import CheckpointInfo


def checked_model(weights: str, options: UpscaleOptions, precision: str) -> CheckpointInfo:
    """The model's name and hash, once its options are known to be possible. Raises UsageError, CheckpointError."""
    pick_precision(precision, torch.device("cpu"))
    model = load_model(weights)
    make_request(np.zeros((8, 8, 3), np.uint8), options, model.config)
    return model.info


def make_work(
    output: str, weights: str, info: CheckpointInfo, options: UpscaleOptions, files: Files, *, device: str,
    precision: str, threads: int, max_tries: int,
) -> BulkRun:  # fmt: skip
    """`device`: where the actors compute."""
    # which one auto is, depends on where they are
    dtype = f"auto on {device}" if precision == "auto" else str(PRECISIONS[precision])
    settings = settings_of(info.sha256, dtype, options, files)
    return BulkRun(
        run=secrets.token_hex(8),
        output=output,
        options=options,
        settings=json.loads(json.dumps(settings)),
        files=files,
        made=provenance(info.source, info.sha256, options.pixel_options()) if files.provenance else None,
        weights=weights,
        device=device,
        precision=precision,
        threads=threads,
        max_tries=max_tries,
        model=info.source,
        model_sha256=info.sha256,
    )
