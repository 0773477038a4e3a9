"""Transparency through the pipeline: enlarged by a resampler, or by the model as a gray picture of its own.

The colour under transparent pixels is `imaging.color.fill_transparent`'s business. Legend: C channels, H W picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.imaging.color import fill_transparent
from realsrt.inference.adapters import Pixels, Planes

_FLAT = 1e-4  # how near to 0 or 1 alpha must be, and all around it, to be left as it is
_AROUND = 9  # output pixels


def as_inputs(pictures: list[Planes] | list[Pixels], alpha: str) -> list[Planes | Pixels]:
    """What the model is to see: the pictures and, with "model", each one's alpha as a gray picture after them.

    All pictures have alpha, or none.
    """
    planes = [p.alpha for p in pictures if p.alpha is not None]
    filled: list[Planes | Pixels] = [
        Planes(fill_transparent(p.rgb, p.alpha[0]), p.alpha) if isinstance(p, Planes) and p.alpha is not None else p
        for p in pictures
    ]
    if alpha != "model" or all(bool((plane == plane.flatten()[0]).all()) for plane in planes):
        return filled  # a plain alpha stays plain
    return [*filled, *(Planes(plane.expand(3, -1, -1)) for plane in planes)]


def joined(planes: list[Planes]) -> list[Planes]:
    """Take the results of `as_inputs` together again: alpha as the model made it, but for places where the resampled
    alpha is all opaque or all clear: these stay so."""
    count = sum(p.alpha is not None for p in planes)
    if len(planes) != 2 * count:
        return planes
    pairs = zip(planes[:count], planes[count:], strict=True)
    return [Planes(one.rgb, _mixed(one, two)) for one, two in pairs]


def _mixed(colour: Planes, made: Planes) -> Tensor:
    plain = colour.alpha
    assert plain is not None
    opaque = -F.max_pool2d(-plain, _AROUND, 1, _AROUND // 2) > 1 - _FLAT
    clear = F.max_pool2d(plain, _AROUND, 1, _AROUND // 2) < _FLAT
    return torch.where(opaque | clear, plain, made.rgb.mean(0, keepdim=True))
