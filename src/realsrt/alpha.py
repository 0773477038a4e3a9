"""Transparency through the pipeline: enlarged by a resampler, or by the model as a gray picture of its own.

The colour under transparent pixels is `imaging.color.fill_transparent`'s business. Legend: C channels, H W picture.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.errors import UsageError
from realsrt.imaging.color import fill_transparent
from realsrt.kinds import Pixels, Planes

if TYPE_CHECKING:
    from realsrt.job import Blended

ALPHAS = ("lanczos", "model")
_FLAT = 1e-4  # how near to 0 or 1 alpha must be, and all around it, to be left as it is
_AROUND = 9  # output pixels


def as_inputs(pictures: list[Planes] | list[Pixels], alpha: str) -> list[Planes | Pixels]:
    """What the model is to see: the pictures and, with "model", each one's alpha as a gray picture after them.

    All pictures have alpha, or none. Raises UsageError for an `alpha` not in ALPHAS.
    """
    if alpha not in ALPHAS:
        raise UsageError(f"alpha {alpha!r} is none of {', '.join(ALPHAS)}")
    planes = [p.alpha for p in pictures if p.alpha is not None]
    filled: list[Planes | Pixels] = [
        Planes(fill_transparent(p.rgb, p.alpha[0]), p.alpha) if isinstance(p, Planes) and p.alpha is not None else p
        for p in pictures
    ]
    if alpha != "model" or all(bool((plane == plane.flatten()[0]).all()) for plane in planes):
        return filled  # a plain alpha stays plain
    return [*filled, *(Planes(plane.expand(3, -1, -1)) for plane in planes)]


def joined(results: "list[Blended]") -> "list[Blended]":
    """Take the results of `as_inputs` together again: alpha as the model made it, but for places where the resampled
    alpha is all opaque or all clear: these stay so."""
    planes = [result.planes for result in results if result.planes is not None]
    count = sum(p.alpha is not None for p in planes)
    if len(results) != 2 * count:
        return results
    pairs = zip(planes[:count], planes[count:], strict=True)
    mixed = [Planes(one.rgb, _mixed(one, two)) for one, two in pairs]
    return [replace(result, planes=p) for result, p in zip(results, mixed, strict=False)]


def _mixed(colour: Planes, made: Planes) -> Tensor:
    plain = colour.alpha
    assert plain is not None
    opaque = -F.max_pool2d(-plain, _AROUND, 1, _AROUND // 2) > 1 - _FLAT
    clear = F.max_pool2d(plain, _AROUND, 1, _AROUND // 2) < _FLAT
    return torch.where(opaque | clear, plain, made.rgb.mean(0, keepdim=True))


def lanczos(plane: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resample (C,H,W) to (height, width) by Lanczos' filter of three lobes, widened when shrinking, cut off and
    renormalised at the borders; then kept between the least and the most of the 3x3 input pixels around, so that there
    are no rings and opaque stays exactly opaque. Memory is a few times the result's."""
    out = _along(_along(plane, hw[0], 1), hw[1], 2)
    if hw[0] < plane.shape[1] or hw[1] < plane.shape[2]:
        return out.clamp_(0, 1)
    low, high = (F.interpolate(x[None], hw, mode="nearest-exact")[0] for x in (-_most(-plane), _most(plane)))
    return torch.minimum(torch.maximum(out, low), high)


def _most(plane: Tensor) -> Tensor:
    return F.max_pool2d(plane, 3, 1, 1)


def _along(plane: Tensor, size: int, axis: int) -> Tensor:
    old = plane.shape[axis]
    if old == size:
        return plane
    step = old / size
    width = max(step, 1.0)
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) * step - 0.5
    first = torch.floor(centre - 3 * width).long() + 1
    taps = first[:, None] + torch.arange(int(6 * width) + 1)
    x = (taps - centre[:, None]) / width
    weight = torch.where((x.abs() < 3) & (taps >= 0) & (taps < old), torch.sinc(x) * torch.sinc(x / 3), 0.0)
    weight = (weight / weight.sum(1, keepdim=True)).to(plane.dtype)
    out = plane.new_zeros(1).expand(*(size if a == axis else n for a, n in enumerate(plane.shape)))
    shape = [size if a == axis else 1 for a in range(plane.ndim)]
    for tap in range(taps.shape[1]):
        picked = plane.index_select(axis, taps[:, tap].clamp(0, old - 1))
        out = torch.addcmul(out, picked, weight[:, tap].reshape(shape))
    return out
