"""Networks that others publish: the Real-ESRGAN project's SRVGGNetCompact and RRDBNet, from ``.pth`` or safetensors, to
start from, to learn from and to be compared with (BSD-3-Clause, Copyright (c) 2021 Xintao Wang); SqueezeNet's features.
"""

import math
import os
import re
from pathlib import Path

from torch import Tensor

from realsrt.checkpoint.official import PICKLE_SUFFIXES, read_pickle
from realsrt.checkpoint.weights import check_state, from_state, read_tensors
from realsrt.errors import CheckpointError, NoModelError
from realsrt.models.features import SqueezeFeatures
from realsrt.models.rrdbnet import RRDBConfig, RRDBNet
from realsrt.models.srvgg import SRVGGConfig, SRVGGNetCompact


def load_published(path: str | os.PathLike[str]) -> SRVGGNetCompact | RRDBNet:
    """The network of a file, in eval mode and float32; which one, and its sizes, follow from the tensors.

    Reading a ``.pth`` (``params_ema`` or ``params``) runs no code from it. Raises CheckpointError: missing, damaged, of
    another kind, or not x4.
    """
    path = Path(path)
    state = _read(path)
    return from_state(_config(state, str(path)).build, state, str(path)).requires_grad_(False)


def load_squeeze_features(path: str | os.PathLike[str]) -> SqueezeFeatures:
    """SqueezeNet 1.1 features from a safetensors file, any float type, kept as float32. Raises CheckpointError."""
    features, state = SqueezeFeatures(), read_tensors(Path(path))
    check_state(state, {key: tuple(value.shape) for key, value in features.state_dict().items()}, str(path))
    features.load_state_dict({key: value.float() for key, value in state.items()})
    return features


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise NoModelError(f"no file {path}; give a published network, such as realesr-general-x4v3.pth")
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return read_pickle(path, ("params_ema", "params"))
    return read_tensors(path)


def _config(state: dict[str, Tensor], where: str) -> SRVGGConfig | RRDBConfig:
    """Sizes from shapes; whether they all fit is checked afterwards."""
    blocks = {int(match[1]) for key in state if (match := re.match(r"body\.(\d+)\.", key))}
    try:
        if "conv_first.weight" in state:
            growth = state["body.0.rdb1.conv1.weight"].shape[0]
            return RRDBConfig(state["conv_first.weight"].shape[0], len(blocks), growth)
        last = state[f"body.{max(blocks)}.weight"]
        config = SRVGGConfig(state["body.0.weight"].shape[0], (len(blocks) - 3) // 2, math.isqrt(last.shape[0] // 3))
    except (KeyError, ValueError, IndexError):
        raise CheckpointError(
            f"{where} is neither an SRVGGNetCompact nor an RRDBNet of the Real-ESRGAN project"
        ) from None
    if config.scale != 4:
        raise CheckpointError(f"{where} enlarges {config.scale} times; a network for x4 is needed")
    return config
