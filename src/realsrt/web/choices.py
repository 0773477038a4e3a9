"""What a person chose on the page, as the options of `Upscaler.upscale` and of the file: the command's, no more."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from realsrt.batch.outputs import Files
from realsrt.errors import UsageError
from realsrt.inference.options import ColorFix, Refine, UpscaleOptions
from realsrt.io.files import MAX_PIXELS
from realsrt.io.suffixes import WRITABLE

SAME = "as the input"
OWN = "the model's own"


@dataclass(frozen=True)
class Choices(UpscaleOptions):
    """The options of upscaling, the model, and what concerns the file. SAME leaves the format to the input."""

    model: str = "small"
    format: str = SAME
    quality: int | None = None
    strip: bool = False
    provenance: bool = True

    def files(self, max_pixels: int = MAX_PIXELS) -> Files:
        """How the file is read and written."""
        return Files(max_pixels=max_pixels, quality=self.quality, strip=self.strip, provenance=self.provenance)

    def of_file(self, now: Choices) -> Choices:
        """These for the pixels, with the file's format, quality and metadata as in `now`."""
        return replace(self, format=now.format, quality=now.quality, strip=now.strip, provenance=now.provenance)

    def target(self, source: Path) -> str:
        """The file's name: `sign.gif` becomes `sign_x4.png`."""
        own = source.suffix.lower().lstrip(".")
        kept = source.suffix if own in WRITABLE else ".png"
        return f"{source.stem}_x{self.outscale:g}" + (kept if self.format == SAME else f".{self.format}")

    def command(self, source: Path) -> str:
        """The command that writes the same file."""
        words = ["realsrt", "upscale", source.name, "-o", self.target(source)]
        words += [] if self.model == "small" else ["--model-path" if Path(self.model).suffix else "-n", self.model]
        for field in fields(UpscaleOptions):
            value = getattr(self, field.name)
            if value != field.default:
                shown = f"{value:g}" if isinstance(value, float) else str(value)
                words += [f"--{field.name.replace('_', '-')}", shown]
        words += [] if self.quality is None else ["--quality", str(self.quality)]
        words += ["--strip"] if self.strip else []
        words += [] if self.provenance else ["--no-provenance"]
        return shlex.join(words)


def make(
    model: str, outscale: Any, format: str, steps: Any, stride: Any, fidelity: Any, color_fix: str, refine: str,
    quality: Any, strip: bool, provenance: bool, denoise: str = "auto", *, own_steps: int, own_stride: int,
) -> Choices:  # fmt: skip
    """Of the page's values; steps and stride at the model's own count as not given. Raises UsageError."""
    try:
        scale, closeness = float(outscale), float(fidelity)
        taken = [None if value is None else int(value) for value in (steps, stride)]
    except (TypeError, ValueError) as problem:
        raise UsageError("a number is missing: fill in scale, steps, stride and fidelity") from problem
    if not 0 < scale <= 16:
        raise UsageError(f"the scale {'goes up to 16' if scale > 16 else 'must be above 0'}, got {scale:g}")
    try:
        given = None if quality in (None, "") else int(quality)
    except (TypeError, ValueError) as problem:
        raise UsageError(f"quality is a whole number from 1 to 100, or nothing; got {quality}") from problem
    return Choices(
        model=model,
        outscale=scale,
        format=format,
        steps=None if taken[0] == own_steps else taken[0],
        stride=None if taken[1] == own_stride else taken[1],
        fidelity=closeness,
        color_fix=None if color_fix == OWN else cast(ColorFix, color_fix),
        refine=None if refine == OWN else cast(Refine, refine),
        quality=given,
        strip=strip,
        provenance=provenance,
        denoise="auto" if denoise == "auto" else float(denoise),
    )
