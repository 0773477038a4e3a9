"""From the windows of an image to its finished rows, in the order of the data: blended → colours fixed → resized.

Every stage is a generator of strips of rows, so that no image has to be held whole. Legend: s scale (4), H W the
output's sides in pixels at that scale, h some rows.
"""

import mmap
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.config import ColorFix
from realsrt.imaging import tiling
from realsrt.imaging.color import COARSE_REACH, coarse, luma, wavelet
from realsrt.imaging.resize import Lanczos, Taps, enlarge_linear, resize
from realsrt.inference import alpha as transparency
from realsrt.inference.adapters import Pixels, Planes, to_hwc
from realsrt.inference.regions import CELL
from realsrt.inference.request import UpscaleRequest
from realsrt.inference.runner import View, WindowResult
from realsrt.io.atomic import BINARY, temporary_beside
from realsrt.io.metadata.provenance import Restored
from realsrt.io.picture import Picture

Rows = Callable[[int, Planes], None]
_STRIP_PIXELS = 2**20  # about so many are finished at a time, at least 64 rows
_BORDER = 4  # low-quality pixels around a part, more than bicubic enlarging looks at
IN_MEMORY = 2**27  # bytes of a result that are kept in memory; more than that goes to a scratch file


@dataclass(frozen=True)
class Assembled:
    """One image after one step: planes, confidence (h,w) or None, ids (windows,h,w), steps that each window has
    taken, how a trunk restored it. Planes and ids are None where the rows went elsewhere."""

    planes: Planes | None
    confidence: np.ndarray | None
    ids: np.ndarray | None
    step: int
    window_steps: np.ndarray
    restored: Restored | None


def assemble(
    job: UpscaleRequest, view: View, step: int, results: Iterable[WindowResult], rows: Rows | None = None
) -> Assembled:
    """An image from its decoded windows, which are drawn in the plan's order; `view` is the input.

    Finished rows are kept, or given to `rows(first, planes)`, which takes a job that `streams`. Raises ValueError if
    windows are missing.
    """
    ids: list[np.ndarray] = []
    confidence: list[Tensor] = []
    steps: list[int] = []

    def images() -> Iterator[Tensor]:
        for result in results:
            assert result.image is not None
            if result.index != len(steps):
                raise ValueError(f"windows must come in order: expected {len(steps)}, got {result.index}")
            steps.append(result.steps)
            if rows is None:
                ids.append(result.ids.numpy())
            if result.confidence is not None:
                confidence.append(result.confidence[None])
            yield result.image

    blended = tiling.blend(images(), job.tiles, job.tiles.window * job.scale, taper=job.taper)
    planes = _finished(job, view.source, blended, rows)
    taken = np.array(steps)
    kept = np.stack(ids) if ids else None
    return Assembled(planes, _confidence_map(job, confidence), kept, step, taken, view.restored)


def assemble_base(
    job: UpscaleRequest, view: View, count: Callable[[int], object] | None = None, rows: Rows | None = None
) -> Assembled:
    """The image of a job of 0 steps: what the trunk makes of its input. `count` is told how many rows of windows are
    done."""
    assert view.trunk is not None
    lines, strips = len(job.tiles.ys), view.trunk.strips

    def counted(base: Iterable[Tensor]) -> Iterator[Tensor]:
        for number, strip in enumerate(base):
            yield strip
            if count:
                count(lines * (number + 1) // strips - lines * number // strips)

    planes = _finished(job, view.source, counted(view.trunk.base_strips()), rows)
    return Assembled(planes, None, None, 0, np.zeros(len(job.tiles), dtype=int), view.restored)


def with_alpha(colour: Assembled, alpha: Assembled | None = None) -> Assembled:
    """An image together with its alpha, where the model has enlarged that as an image of its own."""
    if alpha is None:
        return colour
    assert colour.planes is not None
    assert alpha.planes is not None
    return replace(colour, planes=transparency.merged(colour.planes, alpha.planes))


@torch.inference_mode()
def _finished(
    job: UpscaleRequest, source: Planes | Pixels, blended: Iterable[Tensor], rows: Rows | None
) -> Planes | None:
    """The whole image of blended rows, or None where its rows went to `rows`."""
    fixed = fix_colors(blended, source, job.scale, job.color_fix)
    finished = fit(fixed, (source.hw[0] * job.scale, source.hw[1] * job.scale), job.out_hw, source.alpha)
    if rows is None:
        whole = Planes(torch.empty(3, *job.out_hw), None if source.alpha is None else torch.empty(1, *job.out_hw))
    first = 0
    for strip in finished:
        stop = first + strip.hw[0]
        if rows is not None:
            rows(first, strip)
        else:
            whole.rgb[:, first:stop] = strip.rgb
            if strip.alpha is not None and whole.alpha is not None:
                whole.alpha[:, first:stop] = strip.alpha
        first = stop
    return None if rows is not None else whole


def fix_colors(blended: Iterable[Tensor], source: Planes | Pixels, scale: int, color_fix: ColorFix) -> Iterator[Tensor]:
    """Blended rows (3,h,W) → the same in [0,1], gray where the input is, and with the coarse colours of the input in
    place of their own, if the fix is wavelet or coarse.

    Where strips begin and end depends on the image's size and the plan only, so the numbers do too.
    """
    if source.gray:
        blended = (luma(rows).expand_as(rows) for rows in blended)
    if color_fix == "coarse":
        blended = keep_coarse(blended, source, scale)
    match = color_fix == "wavelet"
    height, width = (side * scale for side in source.hw)
    reach, high_strip = COARSE_REACH if match else 0, max(64, _STRIP_PIXELS // width)
    held, first, done = torch.empty(3, 0, width), 0, 0  # `first`: the row that `held` begins with
    for rows in blended:
        held = torch.cat([held, rows], 1)
        while done < height:
            stop = min(done + high_strip, height)
            low, high = max(0, done - reach), min(height, stop + reach)
            if first + held.shape[1] < high:
                break
            strip = held[:, low - first : high - first]
            if match:
                strip = wavelet(strip, enlarged(source, scale, (low, high), (0, width)))
            yield strip[:, done - low : stop - low].clamp(0, 1)
            done = stop
        keep = max(0, done - reach - first)
        held = held[:, keep:].clone() if keep else held
        first += keep


def keep_coarse(blended: Iterable[Tensor], source: Planes | Pixels, scale: int) -> Iterator[Tensor]:
    """Rows (3,h,W) of an image → the same, each place with as much more of a colour as its surroundings, some 13 input
    pixels wide, have less of it than those in the input. Not clamped, but what goes beyond [0,1] counts as clamped.

    The numbers do not depend on where strips begin and end.
    """
    height, width = source.hw
    reach, least = COARSE_REACH + 1, max(16, _STRIP_PIXELS // width // scale**2)
    held, lost = torch.empty(3, 0, width * scale), torch.empty(3, 0, width)
    first = known = done = 0  # input rows: that `lost` begins with; that it ends before; that `held` begins with
    for rows in blended:
        held = torch.cat([held, rows], 1)
        there = done + held.shape[1] // scale
        if there > known:
            seen = F.avg_pool2d(held[:, (known - done) * scale : (there - done) * scale].clamp(0, 1), scale)
            lost = torch.cat([lost, source.pick(torch.arange(known, there), torch.arange(width)) - seen], 1)
            known = there
        stop = height if known == height else known - reach
        if stop < height and stop - done < least:
            continue
        low, high = max(first, done - 1), min(known, stop + 1)  # what enlarging looks at
        shift = coarse(lost)[:, low - first : high - first]
        shift = enlarge_linear(shift, scale)
        yield held[:, : (stop - done) * scale] + shift[:, (done - low) * scale : (stop - low) * scale]
        held = held[:, (stop - done) * scale :].clone()
        keep = max(0, stop - reach - first)
        lost, first, done = lost[:, keep:], first + keep, stop


def enlarged(source: Planes | Pixels, scale: int, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """A part (3,h,w) of the bicubically enlarged input: its rows and columns, from the first to one past the last."""
    spans, cuts = [], []
    for (first, stop), side in zip((rows, columns), source.hw, strict=True):
        low, high = max(0, first // scale - _BORDER), min(side, -(-stop // scale) + _BORDER)
        spans.append(torch.arange(low, high))
        cuts.append(slice(first - low * scale, stop - low * scale))
    size = len(spans[0]) * scale, len(spans[1]) * scale
    return resize(source.pick(*spans)[None], size, "bicubic", antialias=True)[0][:, *cuts]


def fit(
    strips: Iterable[Tensor], hw: tuple[int, int], out_hw: tuple[int, int], alpha: Tensor | None
) -> Iterator[Planes]:
    """Rows (3,h,W) of an image of size `hw` → rows of `out_hw`, bicubic, widened when shrinking; beside them those of
    `alpha` (1,h,w), of any size, resampled."""
    taps = None if hw[0] == out_hw[0] else Taps(hw[0], out_hw[0], "bicubic")
    resampled = None if alpha is None else Lanczos(alpha, out_hw)
    high_strip = max(16, _STRIP_PIXELS // max(hw[1], out_hw[1]))
    held, first, done = torch.empty(3, 0, out_hw[1]), 0, 0

    def planes(rows: Tensor) -> Planes:
        return Planes(rows.clamp(0, 1), resampled and resampled.rows(done, done + rows.shape[1]))

    for rows in strips:
        if rows.shape[2] != out_hw[1]:
            rows = resize(rows[None], (rows.shape[1], out_hw[1]), "bicubic", antialias=True)[0]
        if taps is None:
            yield planes(rows)
            done += rows.shape[1]
            continue
        held = torch.cat([held, rows], 1)
        while done < out_hw[0]:
            stop = min(done + high_strip, out_hw[0])
            if taps.needs(done, stop)[1] > first + held.shape[1]:
                break
            yield planes(taps.along(held, 1, done, stop, offset=first))
            done = stop
        if done < out_hw[0] and (low := taps.needs(done, done + 1)[0]) > first:
            held, first = held[:, low - first :].clone(), low


def _confidence_map(job: UpscaleRequest, confidence: list[Tensor]) -> np.ndarray | None:
    if not confidence:
        return None
    grid = torch.cat(
        [*tiling.blend(confidence, job.tiles, job.tiles.window // job.fold, crop=False, taper=job.taper)], 1
    )
    grid = tiling.crop_tokens(grid, job.tiles, job.fold)
    height, width = (-(-side // CELL) for side in job.out_hw)
    if grid.shape[-2:] != (height, width):
        grid = resize(grid[None], (height, width), "bilinear", antialias=True)[0]
    return grid.clamp(0, 1)[0].numpy()


class RowStore:
    """Collects the finished rows of an image of the kind of `like`: in memory, or beyond IN_MEMORY bytes in a scratch
    file beside `target`, which `close` removes."""

    def __init__(self, like: Picture, width: int, height: int, target: Path) -> None:
        self._like, self._shape = like, (height, width, like.pixels.shape[2])
        self._next = 0
        large = int(np.prod(self._shape)) * like.pixels.itemsize > IN_MEMORY
        self._path = temporary_beside(target) if large else None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY
        self._file = None if self._path is None else os.open(self._path, flags, 0o600)
        self._pixels = None if large else np.empty(self._shape, like.pixels.dtype)
        self._map: mmap.mmap | None = None

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

    def image(self) -> Picture:
        """The whole image, once every row is in; its pixels are a read-only map of the scratch file if there is
        one."""
        if self._next != self._shape[0]:
            raise ValueError(f"only {self._next} of {self._shape[0]} rows were added")
        if self._path is None:
            assert self._pixels is not None
            return replace(self._like, pixels=self._pixels)
        with self._path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return replace(self._like, pixels=np.frombuffer(self._map, self._like.pixels.dtype).reshape(self._shape))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except PermissionError:  # on Windows a file goes once no map of it is left
                if self._map is not None:
                    weakref.finalize(self._map, self._path.unlink, missing_ok=True)
            self._map = None
