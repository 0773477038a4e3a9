"""One call of the pipeline: its checked options and inputs, and what becomes of the windows' results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from realsrt.errors import UsageError
from realsrt.imaging import tiling
from realsrt.inference import adapters, alpha
from realsrt.inference.adapters import Pixels, Planes
from realsrt.inference.runner import Settings
from realsrt.io.picture import out_size

MOST_STEPS = 256
COLOR_FIXES = ("adain", "wavelet", "none")
REFINES = ("dense", "sparse")


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


@dataclass(frozen=True)
class Job:
    """What to do to which pictures (all of one size): lengths in low-quality pixels but for out_hw."""

    inputs: list[Planes | Pixels]
    pack: adapters.Pack
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
        """The work, in windows times steps."""
        return len(self.inputs) * len(self.tiles) * self.settings.num_steps


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
    if steps < 1:
        raise UsageError(f"steps must be at least 1, got {steps}")
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
    out_size(1, 1, options.outscale)  # known to be possible before the picture is read
    inputs, pack = adapters.unpack(image)
    height, width = inputs[0].hw
    out_width, out_height = out_size(width, height, options.outscale, options.size)
    return Job(
        inputs=alpha.as_inputs(inputs, options.alpha),
        pack=pack,
        batched=isinstance(image, Tensor),
        tiles=tiling.plan(height, width, window, stride),
        settings=Settings(
            steps, options.fidelity, color_fix == "adain", options.confidence, options.seed, refine == "sparse", leave
        ),
        max_minibatch=options.max_minibatch,
        wavelet=color_fix == "wavelet",
        taper=config.blend == "taper",
        scale=config.scale,
        cell=config.cell,
        out_hw=(out_height, out_width),
    )
