"""What a person chose on the page, as the options of `Upscaler.upscale` and of the file: the command's, no more."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from realsrt.errors import UsageError
from realsrt.io.suffixes import WRITABLE

SAME = "as the input"
OWN = "the model's own"


@dataclass(frozen=True)
class Choices:
    """None, "" and SAME leave it to the model or to the input, as an option not given on the command line does."""

    model: str = "small"
    outscale: float = 4.0
    format: str = SAME
    steps: int | None = None
    stride: int | None = None
    fidelity: float = 1.0
    color_fix: str | None = None
    refine: str | None = None
    quality: int | None = None
    strip: bool = False
    provenance: bool = True

    def options(self) -> dict[str, Any]:
        """For `Upscaler.upscale`: the very dictionary that `realsrt upscale` makes of the same options."""
        return {
            "steps": self.steps, "stride": self.stride, "tile": None, "max_minibatch": None,
            "fidelity": float(self.fidelity), "color_fix": self.color_fix, "outscale": float(self.outscale),
            "size": None, "confidence": True, "seed": None, "alpha": "lanczos",
            "keep_steps": False, "refine": self.refine, "confidence_exit": None,
        }  # fmt: skip

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
        words += [] if self.outscale == 4 else ["--outscale", f"{self.outscale:g}"]
        given = {"steps": self.steps, "stride": self.stride, "color-fix": self.color_fix, "refine": self.refine}
        for name, value in (given | {"quality": self.quality}).items():
            words += [] if value is None else [f"--{name}", str(value)]
        words += [] if self.fidelity == 1 else ["--fidelity", f"{self.fidelity:g}"]
        words += ["--strip"] if self.strip else []
        words += [] if self.provenance else ["--no-provenance"]
        return shlex.join(words)


def make(
    model: str, outscale: Any, format: str, steps: Any, stride: Any, fidelity: Any, color_fix: str, refine: str,
    quality: Any, strip: bool, provenance: bool, *, own_steps: int, own_stride: int,
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
        model,
        scale,
        format,
        None if taken[0] == own_steps else taken[0],
        None if taken[1] == own_stride else taken[1],
        closeness,
        None if color_fix == OWN else color_fix,
        None if refine == OWN else refine,
        given,
        strip,
        provenance,
    )
