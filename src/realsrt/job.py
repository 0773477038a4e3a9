"""One call of the pipeline: its checked options and inputs, and what becomes of the windows' results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsrt import alpha, kinds
from realsrt.errors import UsageError
from realsrt.imaging import tiling
from realsrt.imaging.resize import resize
from realsrt.kinds import Pixels, Planes
from realsrt.picture import out_size
from realsrt.strips import Finisher, Resizer
from realsrt.windows import Result, Settings, View

MOST_STEPS = 256
COLOR_FIXES = ("adain", "wavelet", "none")
REFINES = ("dense", "sparse")
Rows = Callable[[int, Planes], None]
CONFIDENCE_CELL = 8  # output pixels a side of a cell of the confidence map


@dataclass(frozen=True)
class Options:
    """What `Upscaler.upscale` was asked for, unchecked; None means the model's own."""

    steps: int | None = None
    stride: int | None = None
    tile: int | None = None
    max_minibatch: int | None = None
    fidelity: float = 1.0
    color_fix: str | None = None
    outscale: float = 4.0
    size: tuple[int, int] | None = None
    confidence: bool = True
    seed: int | None = None
    alpha: str = "lanczos"
    refine: str | None = None
    confidence_exit: float | None = None
    denoise: float | None = None


@dataclass(frozen=True)
class Job:
    """What to do to which pictures (all of one size): lengths in low-quality pixels but for out_hw."""

    inputs: list[Planes | Pixels]
    pack: kinds.Pack
    batched: bool
    tiles: tiling.TilePlan
    settings: Settings
    max_minibatch: int | None
    wavelet: bool
    taper: bool
    scale: int
    cell: int
    out_hw: tuple[int, int]

    @property
    def streams(self) -> bool:
        """Whether rows of the result are final as soon as they are blended: one picture, whose alpha, if any, is not
        the model's to make."""
        return len(self.inputs) == 1

    @property
    def window_steps(self) -> int:
        """The work, in windows times steps; of a base picture in rows of windows."""
        return len(self.inputs) * (len(self.tiles) * self.settings.num_steps or len(self.tiles.ys))


def make_job(image: Any, options: Options, config: Any) -> Job:
    """Check the options against a model's config, and take the picture apart. Raises UsageError, ImageError."""
    token = config.fold
    window = options.tile or config.window
    fixed = config.generator.position != "rope"  # positions are known for one size of window only
    if window != config.window and (fixed or window < 16 or window % token):
        allowed = f"{config.window}" if fixed else f"a multiple of {token}, at least 16"
        raise UsageError(f"tile must be {allowed} for this model, got {window}")
    scaled_stride = max(token, config.stride * window // config.window // token * token)
    stride = scaled_stride if options.stride is None else options.stride
    if not token <= stride <= window or stride % token:
        raise UsageError(f"stride must be a multiple of {token} from {token} to the tile's {window}, got {stride}")
    steps = config.num_steps if options.steps is None else options.steps
    least = 0 if config.trunk is not None else 1
    if steps < least:
        raise UsageError(f"steps must be at least {least} for this model, got {steps}")
    if steps > MOST_STEPS:
        raise UsageError(f"steps must be at most {MOST_STEPS}, got {steps}")
    if not 0 <= options.fidelity <= 1:
        raise UsageError(f"fidelity goes from 0 to 1, got {options.fidelity}")
    color_fix = config.color_fix if options.color_fix is None else options.color_fix
    if color_fix not in COLOR_FIXES:
        raise UsageError(f"color fix {color_fix!r} is none of {', '.join(COLOR_FIXES)}")
    if options.size is not None and min(options.size) < 1:
        raise UsageError(f"the output size must be at least 1x1, got {options.size[0]}x{options.size[1]}")
    if options.max_minibatch is not None and options.max_minibatch < 1:
        raise UsageError(f"max_minibatch must be at least 1, got {options.max_minibatch}")
    refine = config.refine if options.refine is None else options.refine
    if refine not in REFINES:
        raise UsageError(f"refine {refine!r} is none of {', '.join(REFINES)}")
    leave = config.confidence_exit if options.confidence_exit is None else options.confidence_exit
    if not 0 <= leave <= 1:
        raise UsageError(f"confidence_exit goes from 0 to 1, got {leave}")
    if options.denoise is not None:
        if config.trunk is None:
            raise UsageError(f"preset {config.preset!r} has no denoising strength to set")
        if not 0 <= options.denoise <= 1:
            raise UsageError(f"denoise goes from 0 to 1, or is auto; got {options.denoise}")
    out_size(1, 1, options.outscale)  # known to be possible before the picture is read
    inputs, pack = kinds.unpack(image)
    height, width = inputs[0].hw
    out_width, out_height = out_size(width, height, options.outscale, options.size)
    return Job(
        inputs=alpha.as_inputs(inputs, options.alpha),
        pack=pack,
        batched=isinstance(image, Tensor),
        tiles=tiling.plan(height, width, window, stride),
        settings=Settings(
            num_steps=steps,
            fidelity=options.fidelity,
            match_color=color_fix == "adain",
            confidence=options.confidence and steps > 0,
            seed=options.seed,
            sparse=refine == "sparse",
            confidence_exit=leave,
            denoise=options.denoise,
        ),
        max_minibatch=options.max_minibatch,
        wavelet=color_fix == "wavelet",
        taper=config.blend == "taper",
        scale=config.scale,
        cell=config.cell,
        out_hw=(out_height, out_width),
    )


@dataclass(frozen=True)
class Blended:
    """One picture after one step: planes, confidence (h,w) or None, ids (windows,h,w[,G]), steps that each window has
    taken. Planes and ids are None where the rows went elsewhere."""

    planes: Planes | None
    confidence: np.ndarray | None
    ids: np.ndarray | None
    step: int
    window_steps: np.ndarray


class Mosaic:
    """The windows of one picture after one step, on their way to becoming a picture.

    `source` is the input. Finished rows are kept, or given to `rows(first, planes)`, which takes a job that `streams`.
    """

    def __init__(self, job: Job, step: int, source: Planes | Pixels, rows: Rows | None = None) -> None:
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

    def add(self, results: list[Result]) -> None:
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


def base_picture(job: Job, view: View, mosaic: Mosaic, count: Callable[[int], object]) -> Blended:
    """The picture of a job of 0 steps: what the trunk makes of its input. `count` is told how many rows of windows are
    done."""
    assert view.trunk is not None
    rows, last = len(job.tiles.ys), view.trunk.strips - 1
    for number, (first, strip) in enumerate(view.trunk.base_strips()):
        mosaic.add_rows(first, strip)
        count(rows * (number + 1) // (last + 1) - rows * number // (last + 1))
    return mosaic.finish()
