"""Numbers in 8 bits: an int8 tensor, and beside it its scales: of each output channel one for four input channels.

Scales have four significant bits. Half precision therefore holds every product, and what is packed again stays the
same.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"
"""What the name of a tensor's scales has beyond the tensor's own."""
_MOST = 127
_GROUP = 4
_MOST_HALF = 65504.0


def pack(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A state dict in which the kernels (three axes or more) whose names begin so are packed. One that half precision
    could not hold stays as it is."""
    packed: dict[str, Tensor] = {}
    for key, value in state.items():
        if not key.startswith(prefix) or not _may_be_packed(value) or not float(value.abs().max()) < _MOST_HALF:
            packed[key] = value
            continue
        packed[key], packed[key + SCALE] = _packed(value.detach().to("cpu", torch.float32))
    return packed


def unpack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with plain numbers; what is no pair of levels and scales stays as it is."""
    plain = dict(state)
    for key, levels in state.items():
        scale = state.get(key + SCALE)
        if scale is None or levels.dtype != torch.int8 or scale.dtype != torch.float16 or not _may_be_packed(levels):
            continue
        if not bool((scale.isfinite() & (scale >= 0)).all()) or scale.shape != _grouped(levels).shape[:2]:
            continue
        plain[key] = (_grouped(levels).float() * scale.float()[..., None]).view(levels.shape)
        del plain[key + SCALE]
    return plain


def _may_be_packed(kernel: Tensor) -> bool:
    return kernel.ndim >= 3 and kernel.numel() > 0


def _packed(kernel: Tensor) -> tuple[Tensor, Tensor]:
    groups = _grouped(kernel)
    while True:
        mantissa, exponent = torch.frexp(groups.abs().amax(2) / _MOST)
        scale = torch.ldexp((mantissa * 16).ceil() / 16, exponent).half().float()[..., None]
        levels = (groups / scale).nan_to_num(0).round().clamp(-_MOST, _MOST)
        if torch.equal(levels * scale, groups):
            return levels.to(torch.int8).view(kernel.shape), scale[..., 0].half()
        groups = levels * scale


def _grouped(kernel: Tensor) -> Tensor:
    """(outputs, groups of input channels, the rest)."""
    channels = kernel.shape[1]
    return kernel.reshape(len(kernel), max(1, channels // _GROUP) if channels % _GROUP == 0 else 1, -1)
