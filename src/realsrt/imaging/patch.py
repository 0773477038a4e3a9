"""Blending some windows of a plan, where the others are not at hand.

Legend: C channels, n window side in the patch's units, h w the box.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from realsrt.imaging.tiling import TilePlan, gaussian_weight, tapered_weight


class Patch:
    """Weighted mean of windows given by `indices`, at `n` samples a window side, with the weights of `blend`: where
    every window of the plan that shows a sample is among them, the values are the same up to rounding.

    `box`: rows and columns that hold the windows, counted from the padded image's corner; or the whole padded grid.
    """

    def __init__(self, tiles: TilePlan, n: int, indices: Sequence[int], *, taper: bool, whole: bool = False) -> None:
        self._tiles, self._n = tiles, n
        corners = [self._corner(index) for index in (range(len(tiles)) if whole else indices)]
        self._top, self._left = (min(axis) for axis in zip(*corners, strict=True))
        bottom, right = (max(axis) + n for axis in zip(*corners, strict=True))
        self.box = slice(self._top, bottom), slice(self._left, right)
        overlap = n - tiles.stride * n // tiles.window
        weight = tapered_weight(n, overlap) if taper else gaussian_weight(n)
        self._weight = weight[:, None] * weight[None, :]
        self._sum: Tensor | None = None
        self._norm = torch.zeros(bottom - self._top, right - self._left)

    def _corner(self, index: int) -> tuple[int, int]:
        y, x = self._tiles.position(index)
        return y * self._n // self._tiles.window, x * self._n // self._tiles.window

    def add(self, index: int, window: Tensor) -> None:
        """The result (C,n,n) of a window."""
        y, x = self._corner(index)
        y, x = slice(y - self._top, y - self._top + self._n), slice(x - self._left, x - self._left + self._n)
        if self._sum is None:
            self._sum = torch.zeros(len(window), *self._norm.shape)
        self._sum[:, y, x] += window.detach().to("cpu", torch.float32) * self._weight
        self._norm[y, x] += self._weight

    def finish(self) -> tuple[Tensor, Tensor]:
        """The mean (C,h,w), 0 where there is none, and where there is one, (h,w) bool."""
        if self._sum is None:
            raise ValueError("no window was added")
        there = self._norm > 0
        return torch.where(there, self._sum / self._norm.clamp_min(1e-30), 0), there
