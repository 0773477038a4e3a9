"""One call of the pipeline: its checked options and inputs, and what becomes of the windows' results."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from realsrt.config import ColorFix, ModelConfig
from realsrt.errors import UsageError
from realsrt.imaging import tiling
from realsrt.inference import adapters, alpha
from realsrt.inference.options import UpscaleOptions
from realsrt.inference.runner import WindowSettings


@dataclass(frozen=True)
class UpscaleRequest:
    """What to do to which images (all of one size): lengths in low-quality pixels but for out_hw."""

    inputs: list[alpha.ModelInput]
    pack: adapters.Restore
    batched: bool
    tiles: tiling.TilePlan
    settings: WindowSettings
    max_minibatch: int | None
    color_fix: ColorFix
    taper: bool
    scale: int
    fold: int
    out_hw: tuple[int, int]
    strength: float = 1.0

    @property
    def streams(self) -> bool:
        """Whether rows of the result are final as soon as they are blended: one image, whose alpha, if any, is not the
        model's to make."""
        return len(self.inputs) == 1 and self.inputs[0].alpha is None

    @property
    def window_steps(self) -> int:
        """The work, in windows times steps; of a base image in rows of windows."""
        return sum(len(own.sources) for own in self.inputs) * (
            len(self.tiles) * self.settings.num_steps or len(self.tiles.ys)
        )


def make_request(image: Any, options: UpscaleOptions, config: ModelConfig) -> UpscaleRequest:
    """Check the options against a model's config, and take the image apart. Raises UsageError, ImageError."""
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
    if config.trunk is None and steps < 1:
        raise UsageError(f"steps must be at least 1 for preset {config.preset!r}, got {steps}")
    if config.trunk is None and options.denoise != "auto":
        raise UsageError(f"preset {config.preset!r} has no denoising strength to set")
    color_fix = options.color_fix or config.color_fix
    refine = options.refine or config.refine
    leave = config.confidence_exit if options.confidence_exit is None else options.confidence_exit
    inputs, pack = adapters.to_planes(image)
    height, width = inputs[0].hw
    out_width, out_height = options.out_size(width, height)
    return UpscaleRequest(
        inputs=alpha.as_inputs(inputs, options.alpha),
        pack=pack,
        batched=isinstance(image, Tensor),
        tiles=tiling.plan(height, width, window, stride),
        settings=WindowSettings(
            num_steps=steps,
            fidelity=options.fidelity,
            match_color=color_fix == "adain",
            confidence=options.confidence and steps > 0,
            sparse=refine == "sparse",
            confidence_exit=leave,
            denoise=None if options.denoise == "auto" else options.denoise,
        ),
        max_minibatch=options.max_minibatch,
        color_fix=color_fix,
        taper=config.blend == "taper",
        scale=config.scale,
        fold=config.fold,
        out_hw=(out_height, out_width),
        strength=options.strength,
    )
