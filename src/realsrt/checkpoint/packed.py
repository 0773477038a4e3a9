"""Numbers in 8 bits: an int8 tensor, and beside it one scale for each output channel.

Scales have four significant bits. Half precision therefore holds every product, and what is packed again stays the
same.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"
"""What the name of a tensor's scales has beyond the tensor's own."""
_MOST = 127


def pack(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A state dict in which the kernels (three axes or more) whose names begin so are packed."""
    packed: dict[str, Tensor] = {}
    for key, value in state.items():
        if not key.startswith(prefix) or value.ndim < 3:
            packed[key] = value
            continue
        packed[key], packed[key + SCALE] = _packed(value.detach().to("cpu", torch.float32))
    return packed


def unpack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with plain numbers; what is no pair of levels and scales stays as it is."""
    plain = dict(state)
    for key, levels in state.items():
        scale = state.get(key + SCALE)
        if scale is None or levels.dtype != torch.int8 or scale.shape != levels.shape[:1]:
            continue
        plain[key] = levels.float() * _over_channels(scale.float(), levels)
        del plain[key + SCALE]
    return plain


def _packed(kernel: Tensor) -> tuple[Tensor, Tensor]:
    while True:
        least = kernel.flatten(1).abs().amax(1) / _MOST
        mantissa, exponent = torch.frexp(least)
        scale = torch.ldexp((mantissa * 16).ceil() / 16, exponent).half().float()
        levels = (kernel / _over_channels(scale, kernel)).nan_to_num(0).round().clamp(-_MOST, _MOST)
        again = levels * _over_channels(scale, kernel)
        if torch.equal(again, kernel):
            return levels.to(torch.int8), scale.half()
        kernel = again


def _over_channels(scale: Tensor, kernel: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (kernel.ndim - 1))
