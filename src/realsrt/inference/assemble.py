"""Finishing a picture a strip of rows at a time, and keeping the strips, so that none of it has to be held whole.

Legend: s scale (4), H W the output's sides in pixels at that scale.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from realsrt.imaging import tiling
from realsrt.imaging.color import WAVELET_LEVELS, wavelet
from realsrt.imaging.lanczos import Lanczos
from realsrt.imaging.resize import Taps, resize
from realsrt.inference import alpha as transparency
from realsrt.inference.adapters import Pixels, Planes, to_hwc
from realsrt.inference.request import UpscaleRequest
from realsrt.inference.runner import View, WindowResult
from realsrt.io.atomic import temporary_beside
from realsrt.io.picture import Picture

Sink = Callable[[int, Tensor], None]
Rows = Callable[[int, Planes], None]
CONFIDENCE_CELL = 8  # output pixels a side of a cell of the confidence map
_REACH = 2**WAVELET_LEVELS - 1  # rows that the wavelet colour fix looks up and down
_STRIP_PIXELS = 2**20  # about so many are finished at a time, at least 64 rows
_BORDER = 4  # low-quality pixels around a part, more than bicubic enlarging looks at
IN_MEMORY = 2**27  # bytes of a result that are kept in memory; more than that goes to a scratch file


class Finisher:
    """Takes blended rows (3,h,W) in order; gives them to ``sink(first, rows)`` in order, colour-fixed and in [0,1].

    Where strips begin and end depends on the picture's size and the plan only, so the numbers do too.
    """

    def __init__(self, source: Planes | Pixels, scale: int, *, match_color: bool, sink: Sink) -> None:
        """`source` is the input; `match_color`: replace coarse colours by those of the input (wavelet)."""
        self._source, self._scale, self._sink = source, scale, sink
        self._height, self._width = (side * scale for side in source.hw)
        self._reach = _REACH if match_color else 0
        self._strip = max(64, _STRIP_PIXELS // self._width)
        self._held = torch.empty(3, 0, self._width)
        self._first = self._done = 0  # the row that `held` begins with; the row that comes out next

    @torch.inference_mode()
    def add(self, first: int, rows: Tensor) -> None:
        """The next rows; raises ValueError if they are not the next."""
        have = self._first + self._held.shape[1]
        if first != have:
            raise ValueError(f"rows must come in order: expected {have}, got {first}")
        self._held = torch.cat([self._held, rows], 1)
        have += rows.shape[1]
        while self._done < self._height:
            stop = min(self._done + self._strip, self._height)
            if have < min(stop + self._reach, self._height):
                break
            self._finish(stop)
        keep = max(0, self._done - self._reach - self._first)
        self._held = self._held[:, keep:].clone() if keep else self._held
        self._first += keep

    def _finish(self, stop: int) -> None:
        low, high = max(0, self._done - self._reach), min(self._height, stop + self._reach)
        rows = self._held[:, low - self._first : high - self._first]
        if self._reach:
            rows = wavelet(rows, enlarged(self._source, self._scale, (low, high), (0, self._width)))
        self._sink(self._done, rows[:, self._done - low : stop - low].clamp(0, 1))
        self._done = stop


def enlarged(source: Planes | Pixels, scale: int, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """A part (3,h,w) of the bicubically enlarged input: its rows and columns, from the first to one past the last."""
    spans, cuts = [], []
    for (first, stop), side in zip((rows, columns), source.hw, strict=True):
        low, high = max(0, first // scale - _BORDER), min(side, -(-stop // scale) + _BORDER)
        spans.append(torch.arange(low, high))
        cuts.append(slice(first - low * scale, stop - low * scale))
    size = len(spans[0]) * scale, len(spans[1]) * scale
    return resize(source.pick(*spans)[None], size, "bicubic", antialias=True)[0][:, *cuts]


class Resizer:
    """Takes finished rows (3,h,W) in order; gives the same of the final size to ``sink(first, planes)`` in order, the
    alpha resampled beside them. Bicubic, widened when shrinking."""

    def __init__(
        self, hw: tuple[int, int], out_hw: tuple[int, int], alpha: Tensor | None, sink: Callable[[int, Planes], None]
    ) -> None:
        """`hw` of what comes, `out_hw` of what goes; `alpha` (1,h,w), of any size, becomes the result's."""
        self._out_hw, self._sink = out_hw, sink
        self._taps = None if hw[0] == out_hw[0] else Taps(hw[0], out_hw[0], "bicubic")
        self._alpha = None if alpha is None else Lanczos(alpha, out_hw)
        self._strip = max(16, _STRIP_PIXELS // max(hw[1], out_hw[1]))
        self._held = torch.empty(3, 0, out_hw[1])
        self._first = self._done = 0

    @torch.inference_mode()
    def add(self, first: int, rows: Tensor) -> None:
        """The next rows."""
        if rows.shape[2] != self._out_hw[1]:
            rows = resize(rows[None], (rows.shape[1], self._out_hw[1]), "bicubic", antialias=True)[0]
        if self._taps is None:
            self._give(rows)
            return
        self._held = torch.cat([self._held, rows], 1)
        have = first + rows.shape[1]
        while self._done < self._out_hw[0]:
            stop = min(self._done + self._strip, self._out_hw[0])
            if self._taps.needs(self._done, stop)[1] > have:
                break
            self._give(self._taps.along(self._held, 1, self._done, stop, offset=self._first))
        if self._done < self._out_hw[0]:
            low, _ = self._taps.needs(self._done, self._done + 1)
            if low > self._first:
                self._held = self._held[:, low - self._first :].clone()
                self._first = low

    def _give(self, rows: Tensor) -> None:
        first, self._done = self._done, self._done + rows.shape[1]
        alpha = None if self._alpha is None else self._alpha.rows(first, self._done)
        self._sink(first, Planes(rows.clamp(0, 1), alpha))


@dataclass(frozen=True)
class Blended:
    """One picture after one step: planes, confidence (h,w) or None, ids (windows,h,w[,G]), steps that each window has
    taken. Planes and ids are None where the rows went elsewhere."""

    planes: Planes | None
    confidence: np.ndarray | None
    ids: np.ndarray | None
    step: int
    window_steps: np.ndarray


class ImageAssembler:
    """The windows of one picture after one step, on their way to becoming a picture.

    `source` is the input. Finished rows are kept, or given to `rows(first, planes)`, which takes a job that `streams`.
    """

    def __init__(self, job: UpscaleRequest, step: int, source: Planes | Pixels, rows: Rows | None = None) -> None:
        self._job, self._step, self._rows = job, step, rows
        window, (height, width) = job.tiles.window, source.hw
        self._whole = None
        if rows is None:
            self._whole = Planes(
                torch.empty(3, *job.out_hw), None if source.alpha is None else torch.empty(1, *job.out_hw)
            )
        resizer = Resizer((height * job.scale, width * job.scale), job.out_hw, source.alpha, self._keep)
        finisher = Finisher(source, job.scale, match_color=job.wavelet, sink=resizer.add)
        self.add_rows = finisher.add
        self._image = tiling.Blender(job.tiles, 3, window * job.scale, taper=job.taper, sink=finisher.add)
        self._map = None
        if job.settings.confidence:
            self._map = tiling.Blender(job.tiles, 1, window // job.cell, crop=False, taper=job.taper)
        self._ids: list[np.ndarray] = []
        self._steps: list[int] = []

    def add(self, results: list[WindowResult]) -> None:
        """The next windows, decoded, in the plan's order."""
        for result in results:
            assert result.image is not None
            self._image.add(result.index, result.image)
            if self._rows is None:
                self._ids.append(result.ids.numpy())
            self._steps.append(result.steps)
            if self._map is not None and result.confidence is not None:
                self._map.add(result.index, result.confidence[None])

    def _keep(self, first: int, rows: Planes) -> None:
        if self._rows is not None:
            self._rows(first, rows)
        elif self._whole is not None:
            place = slice(first, first + rows.hw[0])
            self._whole.rgb[:, place] = rows.rgb
            if rows.alpha is not None and self._whole.alpha is not None:
                self._whole.alpha[:, place] = rows.alpha

    @torch.inference_mode()
    def finish(self) -> Blended:
        """The picture, once every window is in."""
        job, steps = self._job, np.array(self._steps or [0] * len(self._job.tiles))
        if self._step and len(self._steps) != len(job.tiles):
            raise ValueError(f"only {len(self._steps)} of {len(job.tiles)} windows were added")
        ids = np.stack(self._ids) if self._ids else None
        return Blended(self._whole, self._confidence(), ids, self._step, steps)

    def _confidence(self) -> np.ndarray | None:
        if self._map is None:
            return None
        grid = tiling.crop_tokens(self._map.finish(), self._job.tiles, self._job.cell)
        height, width = (-(-side // CONFIDENCE_CELL) for side in self._job.out_hw)
        if grid.shape[-2:] != (height, width):
            grid = resize(grid[None], (height, width), "bilinear", antialias=True)[0]
        return grid.clamp(0, 1)[0].numpy()


def joined(results: list[Blended]) -> list[Blended]:
    """With ``alpha="model"``: each image together with its alpha, which the model enlarged as an image of its own."""
    planes = [result.planes for result in results if result.planes is not None]
    if len(planes) != len(results):
        return results
    return [replace(result, planes=p) for result, p in zip(results, transparency.joined(planes), strict=False)]


def base_picture(job: UpscaleRequest, view: View, mosaic: ImageAssembler, count: Callable[[int], object]) -> Blended:
    """The picture of a job of 0 steps: what the trunk makes of its input. `count` is told how many rows of windows are
    done."""
    assert view.trunk is not None
    rows, strips = len(job.tiles.ys), view.trunk.strips
    for number, (first, strip) in enumerate(view.trunk.base_strips()):
        mosaic.add_rows(first, strip)
        count(rows * (number + 1) // strips - rows * number // strips)
    return mosaic.finish()


class RowStore:
    """Collects the finished rows of a picture of the kind of `like`: in memory, or beyond IN_MEMORY bytes in a scratch
    file beside `target`, which `close` removes."""

    def __init__(self, like: Picture, width: int, height: int, target: Path) -> None:
        self._like, self._shape = like, (height, width, like.pixels.shape[2])
        self._next = 0
        large = int(np.prod(self._shape)) * like.pixels.itemsize > IN_MEMORY
        self._path = temporary_beside(target) if large else None
        self._file = None if self._path is None else os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._pixels = None if large else np.empty(self._shape, like.pixels.dtype)

    def add(self, first: int, planes: Planes) -> None:
        """The next rows. Raises ImageError if they are not finite, OSError if the disk does not take them."""
        if first != self._next:
            raise ValueError(f"rows must come in order: expected {self._next}, got {first}")
        alpha = None if planes.alpha is None else planes.alpha[0].numpy()
        rows = self._like.with_pixels(to_hwc(planes.rgb), alpha).pixels
        self._next += len(rows)
        if self._pixels is not None:
            self._pixels[first : self._next] = rows
            return
        assert self._file is not None
        left = memoryview(rows.tobytes())
        while left:
            left = left[os.write(self._file, left) :]

    def picture(self) -> Picture:
        """The whole picture, once every row is in; its pixels are a read-only map of the scratch file if there is
        one."""
        if self._next != self._shape[0]:
            raise ValueError(f"only {self._next} of {self._shape[0]} rows were added")
        if self._path is None:
            assert self._pixels is not None
            return replace(self._like, pixels=self._pixels)
        return replace(self._like, pixels=np.memmap(self._path, self._like.pixels.dtype, "r", shape=self._shape))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
