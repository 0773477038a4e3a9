"""What is written of one upscaled picture: itself, the pictures after each step, the maps of confidence."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realsrt.batch.plan import Job
from realsrt.version import __version__

if TYPE_CHECKING:
    import numpy as np

    from realsrt.inference.result import Upscaled
    from realsrt.io.metadata.provenance import Provenance

CONFIDENCE = "_confidence.png"


@dataclass(frozen=True)
class Files:
    """How files are read and written."""

    max_pixels: int
    quality: int | None
    strip: bool
    provenance: bool
    confidence: bool
    save_steps: bool

    def settings(self) -> dict[str, Any]:
        """What of it decides about the files that are made."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "max_pixels"}


def told(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `Upscaler.upscale` that decide about a picture's pixels. Batches round, and are left out."""
    return {key: value for key, value in options.items() if key not in ("confidence", "keep_steps", "max_minibatch")}


def save(job: Job, out: "Upscaled", files: Files, made: "Provenance | None") -> tuple[tuple[str, ...], list[Path]]:
    """Write everything; the notices and the files. The target last: that it exists stands for a finished picture."""
    paths: list[Path] = []
    if files.save_steps:
        for number, step in enumerate(out.steps, 1):
            _save(job, step, files, made, paths, f"_step{number}")
    return _save(job, out, files, made, paths), paths


def _save(
    job: Job, out: "Upscaled", files: Files, made: "Provenance | None", paths: list[Path], mark: str = ""
) -> tuple[str, ...]:
    from realsrt.io import image as imageio

    if files.confidence and out.confidence is not None:
        image, path = out.image, job.beside(mark + CONFIDENCE)
        imageio.write(path, confidence_picture(out.confidence, image.width, image.height))
        paths.append(path)
    target = job.beside(mark + job.target.suffix)
    notices = imageio.write(target, out.image, quality=files.quality, strip=files.strip, provenance=made)
    paths.append(target)
    return notices


def confidence_picture(confidence_hw: "np.ndarray", width: int, height: int) -> Any:
    """A map in [0,1] on the grid of 8-px cells as an 8-bit gray Picture of the output's size; brighter = surer."""
    import numpy as np

    from realsrt.io.picture import Picture

    gray = np.rint(np.clip(confidence_hw, 0, 1) * 255).astype(np.uint8)
    return Picture.from_array(gray.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


def settings_of(model_sha256: str, precision: str, options: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """What decides about the bytes of an output, but for the input. Batches and devices round, and are left out."""
    return {
        "version": __version__, "model": model_sha256, "precision": precision,
        **told(options), **files.settings(),
    }  # fmt: skip
