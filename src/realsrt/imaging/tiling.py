"""Whole images through a fixed window: plan → window_at → blend, each a separate step that knows nothing of the others'
state.

A plan lays a regular grid of windows over the image plus a mirrored border. `window_at` cuts one window without
building the padded image. `blend` takes the windows' results one by one, at any whole multiple or fraction of the
resolution (pixels of the output, or tokens).

Legend: C channels, H W image, n window side in the units of what is blended.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS = 64  # at most so many are given at a time
GAUSSIAN_VARIANCE = 0.05  # of the blending weight, in squared window sides (the authors' value)


@dataclass(frozen=True)
class TilePlan:
    """Where the windows lie. All lengths are low-quality pixels; positions count from the padded image's corner."""

    height: int
    width: int
    window: int
    stride: int
    top: int
    bottom: int
    left: int
    right: int
    ys: tuple[int, ...]
    xs: tuple[int, ...]

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.ys) * len(self.xs)

    def position(self, index: int) -> tuple[int, int]:
        """(y, x) of window `index`'s corner in the padded image; windows are numbered row by row."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        return self.ys[index // len(self.xs)], self.xs[index % len(self.xs)]


def plan(height: int, width: int, window: int, stride: int) -> TilePlan:
    """Lay square windows at a regular stride over an image of any size from 1x1.

    The border is the smallest that makes the windows fit: half of it before the image, an odd pixel after. At window
    64 and stride 32 this is the authors' layout. Raises ValueError for a size below 1 or a stride not in 1…window.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an image needs at least one pixel each way, got {height}x{width}")
    if not 1 <= stride <= window:
        raise ValueError(f"stride must be between 1 and the window's {window} px, got {stride}")
    top, bottom, ys = _axis(height, window, stride)
    left, right, xs = _axis(width, window, stride)
    return TilePlan(height, width, window, stride, top, bottom, left, right, ys, xs)


def _axis(size: int, window: int, stride: int) -> tuple[int, int, tuple[int, ...]]:
    count = 1 + max(0, -(-(size - window) // stride))
    border = window + (count - 1) * stride - size
    return border // 2, border - border // 2, tuple(range(0, count * stride, stride))


def mirror_index(start: int, stop: int, size: int) -> Tensor:
    """Indices into an axis of `size` px for the positions start…stop−1, which may lie outside: mirrored at the border
    pixels, as often as needed (a triangular wave; equals reflect padding where that is defined). One pixel is repeated.
    int64."""
    period = max(1, 2 * (size - 1))
    phase = torch.arange(start, stop).remainder(period)
    return torch.minimum(phase, period - phase) if size > 1 else torch.zeros_like(phase)


def window_at(tiles: TilePlan, index: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the image that window `index` shows, (window,) each, int64, with the border mirrored in."""
    y, x = tiles.position(index)
    rows = mirror_index(y - tiles.top, y - tiles.top + tiles.window, tiles.height)
    return rows, mirror_index(x - tiles.left, x - tiles.left + tiles.window, tiles.width)


def columns_of(tiles: TilePlan, indices: Sequence[int]) -> range:
    """The columns of the image that some windows show."""
    seen = torch.cat([window_at(tiles, index)[1] for index in indices])
    return range(int(seen.min()), int(seen.max()) + 1)


def gaussian_weight(n: int) -> Tensor:
    """The one-dimensional blending weight of a window of n samples, (n,) float32 in (0,1]; the window's is its outer
    product."""
    x = torch.arange(n, dtype=torch.float64)
    return torch.exp(-(((x - (n - 1) / 2) / n) ** 2) / (2 * GAUSSIAN_VARIANCE)).float()


def tapered_weight(n: int, overlap: int) -> Tensor:
    """The Gaussian weight, falling to nearly nothing over the `overlap` samples at either end, (n,) float32 in (0,1]:
    a window comes in smoothly however little it overlaps. Half a cosine wave; without overlap, the Gaussian itself."""
    x = torch.arange(n, dtype=torch.float64)
    inside = (torch.minimum(x, n - 1 - x) + 0.5).div(max(overlap, 1)).clamp(max=1)
    taper = 0.5 - 0.5 * torch.cos(torch.pi * inside) if overlap else torch.ones_like(x)
    return gaussian_weight(n) * taper.float()


def blend(
    windows: Iterable[Tensor], tiles: TilePlan, n: int, *, crop: bool = True, taper: bool = False
) -> Iterator[Tensor]:
    """The weighted mean of the overlapping windows (C,n,n) of a plan, in its order → rows (C,h,W), from the top, as
    soon as no later window touches them.

    `n` samples a window side: 256 px, or 32 tokens, for 64 px. `taper`: weights fall to nothing at the borders (ours);
    else they are the authors' Gaussian, cut off there. With crop=False the mirrored border stays in (what the token
    grid needs, see `crop_tokens`). Sums are float32 on the CPU, not clamped; only the rows under the current row of
    windows are held. The weights are separable, so no canvas of weights is kept. Raises ValueError.
    """
    edges = (tiles.stride, tiles.top, tiles.left) if crop else (tiles.stride,)
    if any(edge * n % tiles.window for edge in edges):
        raise ValueError(
            f"window {tiles.window}, stride {tiles.stride} do not fall on the grid of {n} samples a window"
        )
    ys, xs = ([p * n // tiles.window for p in axis] for axis in (tiles.ys, tiles.xs))
    weight_n = _weight(tiles, n, taper)
    weight_nn = weight_n[:, None] * weight_n[None, :]
    norm_y, norm_x = _coverage(ys, weight_n), _coverage(xs, weight_n)
    top, left, height, width = 0, 0, len(norm_y), len(norm_x)
    if crop:
        top, left, height, width = (v * n // tiles.window for v in (tiles.top, tiles.left, tiles.height, tiles.width))
    band, columns, count = torch.empty(0), slice(left, left + width), 0
    for count, window in enumerate(windows, 1):
        if count == 1:
            band = torch.zeros(len(window), n, len(norm_x))
        if window.shape != (len(band), n, n):
            raise ValueError(f"expected a window of {(len(band), n, n)}, got {tuple(window.shape)}")
        row, column = divmod(count - 1, len(xs))
        band[:, :, xs[column] : xs[column] + n] += window.detach().to("cpu", torch.float32) * weight_nn
        if column < len(xs) - 1:
            continue
        y, done = ys[row], n if row == len(ys) - 1 else ys[row + 1] - ys[row]
        stop = min(y + done, top + height)
        for first in range(max(y, top), stop, _ROWS):
            last = min(first + _ROWS, stop)
            rows = band[:, first - y : last - y, columns] / norm_x[columns]
            yield rows.div_(norm_y[first:last, None])
        for channel in band:
            channel[: n - done] = channel[done:].clone()
        band[:, n - done :] = 0
    if count != len(tiles):
        raise ValueError(f"{count} windows came, the plan has {len(tiles)}")


def _weight(tiles: TilePlan, n: int, taper: bool) -> Tensor:
    return tapered_weight(n, n - tiles.stride * n // tiles.window) if taper else gaussian_weight(n)


def _coverage(positions: list[int], weight: Tensor) -> Tensor:
    total = torch.zeros(positions[-1] + len(weight))
    for position in positions:
        total[position : position + len(weight)] += weight
    return total


def crop_tokens(grid: Tensor, tiles: TilePlan, token: int) -> Tensor:
    """Bring a blended map of the padded token grid (C, h, w) onto the image's own grid, (C, ceil(H/token),
    ceil(W/token)).

    `token` is a token's side in low-quality pixels. Where the border is no whole number of tokens, each cell is the
    mean of the tokens under it by area; else this is a plain crop.
    """
    for axis, before, size in ((-2, tiles.top, tiles.height), (-1, tiles.left, tiles.width)):
        cells = -(-size // token)
        first = before // token
        if before % token == 0:
            grid = grid.narrow(axis, first, cells)
            continue
        pixels = torch.arange(cells * token).clamp_(max=size - 1) + before
        grid = grid.index_select(axis, pixels // token).unflatten(axis, (cells, token)).mean(axis)
    return grid


class Patch:
    """Weighted mean of the windows of a plan given by `indices`, at `n` samples a window side, with the weights of
    `blend`: where every window that shows a sample is among them, the values are the same up to rounding.

    `box`: rows and columns that hold the windows, counted from the padded image's corner; or the whole padded grid.
    """

    def __init__(self, tiles: TilePlan, n: int, indices: Sequence[int], *, taper: bool, whole: bool = False) -> None:
        self._tiles, self._n = tiles, n
        corners = [self._corner(index) for index in (range(len(tiles)) if whole else indices)]
        self._top, self._left = (min(axis) for axis in zip(*corners, strict=True))
        bottom, right = (max(axis) + n for axis in zip(*corners, strict=True))
        self.box = slice(self._top, bottom), slice(self._left, right)
        weight = _weight(tiles, n, taper)
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
