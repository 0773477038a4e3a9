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
from realsrt.imaging.resize import Taps
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


class Lanczos:
    """A plane (C,H,W) resampled to (height, width), in parts.

    Lanczos' filter of three lobes, widened when shrinking, cut off and renormalised at the borders; then kept between
    the least and the most of the 3x3 input pixels around, so that there are no rings and opaque stays exactly opaque.
    """

    def __init__(self, plane: Tensor, hw: tuple[int, int]) -> None:
        self._plane, self._hw = plane, hw
        old = plane.shape[1:]
        self._taps = [None if n == m else Taps(n, m, "lanczos") for n, m in zip(old, hw, strict=True)]
        self._nearest = [
            ((torch.arange(m) + 0.5) * n / m).long().clamp(max=n - 1) for n, m in zip(old, hw, strict=True)
        ]
        enlarges = hw[0] >= old[0] and hw[1] >= old[1]
        self._range = (-_most(-plane), _most(plane)) if enlarges else None

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows start…stop−1 of the result."""
        down, across = self._taps
        out = self._plane[:, start:stop] if down is None else down.along(self._plane, 1, start, stop)
        out = out if across is None else across.along(out, 2)
        if self._range is None:
            return out.clamp(0, 1)
        rows, columns = self._nearest[0][start:stop], self._nearest[1]
        low, high = (x.index_select(1, rows).index_select(2, columns) for x in self._range)
        return torch.minimum(torch.maximum(out, low), high)


def lanczos(plane: Tensor, hw: tuple[int, int]) -> Tensor:
    """The whole of it, see `Lanczos`."""
    return Lanczos(plane, hw).rows(0, hw[0])


def _most(plane: Tensor) -> Tensor:
    return F.max_pool2d(plane, 3, 1, 1)
