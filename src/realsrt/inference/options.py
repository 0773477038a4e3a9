"""The options of upscaling and of regenerating: their meaning, defaults and bounds, for Python, the command line, bulk
and the service, which have a field that is added here at once. The page has its own form.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from operator import index
from typing import Any, Literal, Self, get_args

from realsrt.errors import UsageError

ColorFix = Literal["adain", "wavelet", "coarse", "none"]
Refine = Literal["sparse", "dense"]
Alpha = Literal["lanczos", "model"]
MAX_STEPS = 256


@dataclass(frozen=True, kw_only=True)
class _Options:
    @classmethod
    def of(cls, options: Self | None, changes: dict[str, Any]) -> Self:
        """`options`, or the defaults, with some changes. Raises TypeError for an unknown option, UsageError."""
        if unknown := set(changes) - {field.name for field in fields(cls)}:
            raise TypeError(f"unknown option: {', '.join(sorted(unknown))}")
        return replace(options or cls(), **changes)

    def _as(self, kind: Callable[[Any], Any], words: str, *names: str) -> None:
        """Make these fields, where they are given, of one kind: the same option, however it is written, is the same to
        the byte. Raises UsageError."""
        for name in names:
            value = getattr(self, name)
            if value is None and getattr(type(self), name) is None:
                continue
            try:
                object.__setattr__(self, name, kind(value))
            except (TypeError, ValueError, OverflowError) as error:
                raise UsageError(f"{name} must be {words}, got {value!r}") from error


def _pair(size: Any) -> tuple[int, int]:
    width, height = size
    return index(width), index(height)


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions(_Options):
    """How an image is upscaled; None leaves it to the model.

    Raises UsageError for values out of range; what depends on the model is checked with it.

    >>> UpscaleOptions(outscale=2).out_size(100, 50)
    (200, 100)
    """

    outscale: float = 4.0
    """Final scale, any number; x4, then resampled."""
    size: tuple[int, int] | None = None
    """Final width and height in pixels, in place of a scale."""
    tile: int | None = None
    """Side of a window in input pixels; 0 = the model's own."""
    stride: int | None = None
    """Input pixels from window to window (less: smoother, slower)."""
    steps: int | None = None
    """Generation steps; 0 = the base image, without tokens (fastest). The model's own if not given."""
    denoise: float | Literal["auto"] = "auto"
    """Denoising strength, 0 (mild, keeps texture) to 1 (strong); auto: what suits the image."""
    refine: Refine | None = None
    """From the second step on, compute masked tokens only (sparse: faster) or all (dense); the model's own."""
    confidence_exit: float | None = None
    """Windows of this mean confidence, 0 to 1, take no further step; 1 = all steps. The model's own."""
    max_minibatch: int | None = None
    """Windows computed at a time on a GPU."""
    fidelity: float = 1.0
    """How closely to follow the input, 0 to 1 (1: the paper's)."""
    strength: float = 1.0
    """How much of the result shows over the plain enlargement of the input, 0 to 1."""
    color_fix: ColorFix | None = None
    """How the colours of the input are kept: as a window's mean and deviation (adain), as what is coarse to the output
    (wavelet) or to the input (coarse); the model's own if not given."""
    seed: int | None = None
    """Changes nothing: upscaling draws no random numbers."""
    alpha: Alpha = "lanczos"
    """What enlarges transparency; the model takes twice the time."""
    confidence: bool = True
    """Whether to compute the confidence map."""

    def __post_init__(self) -> None:
        self._as(index, "a whole number", "tile", "stride", "steps", "max_minibatch", "seed")
        self._as(float, "a number", "outscale", "fidelity", "strength", "confidence_exit")
        self._as(_pair, "a width and a height in whole pixels", "size")
        object.__setattr__(self, "tile", self.tile or None)
        if not (math.isfinite(self.outscale) and self.outscale > 0):
            raise UsageError(f"outscale must be above 0, got {self.outscale}")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"the output size must be at least 1x1, got {self.size[0]}x{self.size[1]}")
        for name, least, most in (("steps", 0, MAX_STEPS), ("max_minibatch", 1, math.inf)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}")
            if value is not None and value > most:
                raise UsageError(f"{name} must be at most {most}, got {value}")
        number = isinstance(self.denoise, int | float) and not isinstance(self.denoise, bool)
        if self.denoise != "auto" and not (number and 0 <= self.denoise <= 1):
            raise UsageError(f"denoise is auto, or goes from 0 to 1; got {self.denoise}")
        for name in ("fidelity", "strength", "confidence_exit"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{name} goes from 0 to 1, got {value}")
        for name, kind in (("color_fix", ColorFix), ("refine", Refine), ("alpha", Alpha)):
            value = getattr(self, name)
            if value is not None and value not in get_args(kind):
                raise UsageError(f"{name.replace('_', ' ')} {value!r} is none of {', '.join(get_args(kind))}")

    def out_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the result of an image, at least 1x1."""
        return self.size or (max(1, round(width * self.outscale)), max(1, round(height * self.outscale)))

    def without_effect(self) -> list[str]:
        """Names of options that were given and do nothing at these steps: the base image has no windows or tokens."""
        if self.steps != 0:
            return []
        given = {name: getattr(self, name) for name in ("tile", "stride", "refine", "confidence_exit")}
        given |= {"fidelity": None if self.fidelity == 1 else self.fidelity}
        given |= {"color_fix": self.color_fix if self.color_fix == "adain" else None}
        return [name for name, value in given.items() if value is not None]

    def pixel_options(self) -> dict[str, Any]:
        """The options that decide about pixels, as plain data. Batches round, and are left out."""
        left_out = ("confidence", "max_minibatch")
        return {field.name: getattr(self, field.name) for field in fields(UpscaleOptions) if field.name not in left_out}


@dataclass(frozen=True, kw_only=True)
class Sampling(_Options):
    """How a region is generated anew. Raises UsageError for values out of range."""

    temperature: float = 1.0
    """How freely to choose: 1 = as the model believes, 0 = always the likeliest."""
    max_temperature: float | None = None
    """The candidates' temperatures rise from the temperature to this, by equal factors."""
    variety: float = 1.0
    """How far denoising and crispness go from the image's own, 0 to 1; 0: other tokens only, as without a trunk."""
    top_k: int | None = None
    """Choose among so many likeliest codes only."""
    seed: int = 0
    """Another seed, another result; the same seed, the same."""
    candidates: int = 1
    """Make so many; the surest is the result, unless another is picked."""

    def __post_init__(self) -> None:
        self._as(index, "a whole number", "top_k", "seed", "candidates")
        self._as(float, "a number", "temperature", "max_temperature", "variety")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"temperature must be 0 or above, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top_k must be at least 1, got {self.top_k}")
        if not (math.isfinite(self.variety) and 0 <= self.variety <= 1):
            raise UsageError(f"variety goes from 0 to 1, got {self.variety}")
        if self.candidates < 1:
            raise UsageError(f"candidates must be at least 1, got {self.candidates}")
        if self.max_temperature is not None and not (
            math.isfinite(self.max_temperature) and 0 < self.temperature <= self.max_temperature
        ):
            raise UsageError(
                f"max_temperature goes from the temperature ({self.temperature:g}, above 0) up, "
                f"got {self.max_temperature}"
            )
        if self.max_temperature is not None and self.candidates < 2:
            raise UsageError("max_temperature is for several candidates: ask for 2 or more")

    def at(self, number: int) -> float:
        """The temperature of candidate `number`, from 0."""
        if self.max_temperature is None:
            return self.temperature
        return self.temperature * (self.max_temperature / self.temperature) ** (number / (self.candidates - 1))
