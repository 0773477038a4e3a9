"""Convert between the authors' ``.pth`` and our ``.safetensors``."""

import os
from pathlib import Path

from realsrt import presets
from realsrt.checkpoint.load import load_model
from realsrt.checkpoint.official import PICKLE_SUFFIXES, to_official
from realsrt.checkpoint.weights import save_model, write_torch
from realsrt.errors import UsageError


def convert_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> str:
    """Authors' ``.pth`` → our ``.safetensors``, or the reverse, by suffix; returns a line on what was written.

    Raises UsageError for suffixes that leave the direction open and for a model of another architecture.
    """
    source, target = Path(source), Path(target)
    to_ours = target.suffix.lower() == ".safetensors"
    known = to_ours or target.suffix.lower() in PICKLE_SUFFIXES
    if not known or to_ours == (source.suffix.lower() == ".safetensors"):
        raise UsageError(f"convert goes from .pth to .safetensors or back, not from {source.name} to {target.name}")
    model = load_model(source)
    if to_ours:
        save_model(model, target)
    else:
        if model.config != presets.base():
            raise UsageError(f"{source} is of preset {model.config.preset!r}; the authors' format holds 'base' only")
        write_torch(target, {"params_ema": to_official(model.state_dict())})
    return (
        f"{target}: {model.parameter_count / 1e6:.1f} M parameters of preset {model.config.preset}, read from {source}"
    )
