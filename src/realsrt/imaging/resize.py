"""Resampling: the bicubic x4 of the method, and the filters that degradations draw from.

Shape suffixes: B batch, C channels, H W pixels.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Mode = Literal["area", "bilinear", "bicubic"]


def upscale_bicubic(x_BCHW: Tensor, scale: int) -> Tensor:
    """Enlarge `scale` times by bicubic interpolation (a = -0.75, pixel areas aligned), not clamped."""
    return F.interpolate(x_BCHW, scale_factor=scale, mode="bicubic", align_corners=False)


def resize(x_BCHW: Tensor, size: tuple[int, int], mode: Mode, *, antialias: bool = False) -> Tensor:
    """Resample to `size` (height, width), not clamped.

    With `antialias` the filter widens when shrinking, as in Pillow; without it bilinear and bicubic look at 2 and 4
    pixels however far they shrink. `area` averages what a pixel covers, so it ignores the flag.
    """
    if tuple(x_BCHW.shape[2:]) == tuple(size):
        return x_BCHW
    if mode == "area":
        return F.interpolate(x_BCHW, size=size, mode="area")
    return F.interpolate(x_BCHW, size=size, mode=mode, align_corners=False, antialias=antialias)


def resize_each(
    images: Sequence[Tensor], sizes: Sequence[tuple[int, int]], modes: Sequence[Mode], antialias: Sequence[bool]
) -> list[Tensor]:
    """`resize` for images (1,C,H,W) of different sizes, those that agree in everything in one call."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault((tuple(image.shape[2:]), tuple(sizes[i]), modes[i], antialias[i]), []).append(i)
    out = list(images)
    for first, *rest in groups.values():
        together = torch.cat([images[i] for i in (first, *rest)]) if rest else images[first]
        resized = resize(together, sizes[first], modes[first], antialias=antialias[first]).split(1)
        for i, image in zip((first, *rest), resized, strict=True):
            out[i] = image
    return out


def stack_padded(images: Sequence[Tensor], *, mode: str) -> Tensor:
    """Images (1,C,H,W) of different sizes as one batch, filled up at the right and bottom by a mode of F.pad."""
    height, width = (max(image.shape[axis] for image in images) for axis in (2, 3))
    return torch.cat([F.pad(i, (0, width - i.shape[3], 0, height - i.shape[2]), mode=mode) for i in images])


def unstack(x_BCHW: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    """A batch back to images (1,C,height,width), cut to their sizes."""
    return [image[:, :, :h, :w] for image, (h, w) in zip(x_BCHW.split(1), sizes, strict=True)]


class Taps:
    """One axis of a separable, antialiased resampling: any part of the result can be made of a part of the input.

    `indices` (n_out, K) int64 are the input samples that an output looks at, from first to last, clamped to the axis;
    `weights` (n_out, K) float64 sum to 1 and are 0 where a tap lies outside.
    """

    def __init__(self, n_in: int, n_out: int, mode: Literal["bicubic", "lanczos"]) -> None:
        """Lanczos has three lobes; bicubic has a = -0.5, as where `resize` antialiases."""
        reach, kernel = (3, _lanczos) if mode == "lanczos" else (2, _cubic)
        step = n_in / n_out
        width = max(step, 1.0)
        centre = (torch.arange(n_out, dtype=torch.float64) + 0.5) * step - 0.5
        first = torch.floor(centre - reach * width).long() + 1
        taps = first[:, None] + torch.arange(int(2 * reach * width) + 1)
        weight = torch.where((taps >= 0) & (taps < n_in), kernel((taps - centre[:, None]) / width), 0.0)
        self.weights = weight / weight.sum(1, keepdim=True)
        self.indices = taps.clamp(0, n_in - 1)

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """The input samples (first, one past the last) that outputs start…stop−1 look at."""
        return int(self.indices[start, 0]), int(self.indices[stop - 1, -1]) + 1

    def along(self, x: Tensor, axis: int, start: int = 0, stop: int | None = None, *, offset: int = 0) -> Tensor:
        """Outputs start…stop−1 (all) of `x`, whose axis begins at the input's sample `offset`. Sums tap by tap, so the
        numbers do not depend on which part is asked for."""
        indices, weights = self.indices[start:stop].to(x.device) - offset, self.weights[start:stop].to(x)
        out = x.new_zeros(1).expand(*(len(indices) if a == axis else n for a, n in enumerate(x.shape)))
        shape = [len(indices) if a == axis else 1 for a in range(x.ndim)]
        for tap in range(indices.shape[1]):
            out = torch.addcmul(out, x.index_select(axis, indices[:, tap]), weights[:, tap].reshape(shape))
        return out


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


def _cubic(x: Tensor) -> Tensor:
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


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


def enlarge_linear(planes_CHW: Tensor, scale: int) -> Tensor:
    """The bilinear enlargement (C,sH,sW), edges repeated; each number by the same roundings wherever it stands, as
    those of ``F.interpolate`` are not: they depend on how threads and vector instructions share out an image."""
    for dim in (1, 2):
        side = planes_CHW.shape[dim]
        before, after = (planes_CHW.narrow(dim, start, side - 1) for start in (0, 1))
        before = torch.cat([planes_CHW.narrow(dim, 0, 1), before], dim)
        after = torch.cat([after, planes_CHW.narrow(dim, side - 1, 1)], dim)
        parts = []
        for number in range(scale):
            offset = (number + 0.5) / scale - 0.5
            parts.append(planes_CHW + ((before if offset < 0 else after) - planes_CHW) * abs(offset))
        planes_CHW = torch.stack(parts, dim + 1).flatten(dim, dim + 1)
    return planes_CHW
