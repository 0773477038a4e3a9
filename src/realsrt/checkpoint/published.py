"""Networks that the Real-ESRGAN project publishes, SRVGGNetCompact and RRDBNet, read from ``.pth`` or safetensors.

To start from, to learn from and to be compared with; the files are BSD-3-Clause, Copyright (c) 2021 Xintao Wang.
"""

import math
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from realsrt.checkpoint.official import PICKLE_SUFFIXES, read_pickle
from realsrt.checkpoint.weights import bounded_building, check_state
from realsrt.errors import CheckpointError, NoModelError
from realsrt.models.rrdbnet import RRDBConfig, RRDBNet
from realsrt.models.srvgg import SRVGGConfig, SRVGGNetCompact


def load_published(path: str | os.PathLike[str]) -> SRVGGNetCompact | RRDBNet:
    """The network of a file, in eval mode and float32; which one, and its sizes, follow from the tensors.

    Reading a ``.pth`` (``params_ema`` or ``params``) runs no code from it. Raises CheckpointError: missing, damaged, of
    another kind, or not x4.
    """
    path = Path(path)
    state = _read(path)
    config = _config(state, str(path))
    try:
        with torch.device("meta"), bounded_building():
            network = config.build()
    except ValueError as error:
        raise CheckpointError(f"{path} describes a network that can't be built: {error}") from None
    check_state(state, {key: tuple(value.shape) for key, value in network.state_dict().items()}, str(path))
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise NoModelError(f"no file {path}; give a published network, such as realesr-general-x4v3.pth")
    if path.suffix.lower() in PICKLE_SUFFIXES:
        state = read_pickle(path, ("params_ema", "params"))
        if not state or not all(isinstance(value, Tensor) for value in state.values()):
            raise CheckpointError(f"{path} holds no state dict; download it again")
        return state
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        raise CheckpointError(f"{path} is no weight file, or a damaged one; download it again") from None


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
