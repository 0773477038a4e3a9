"""Lanczos resampling of a plane, a strip of rows at a time.

Legend: C channels, H W image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.imaging.resize import Taps


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


def _most(plane: Tensor) -> Tensor:
    return F.max_pool2d(plane, 3, 1, 1)
