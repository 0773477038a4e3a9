"""What is written of one upscaled picture: itself, the pictures after each step, the maps of confidence."""

import os
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from realsrt.batch.plan import FileJob
from realsrt.errors import UsageError
from realsrt.inference.options import MAX_STEPS, UpscaleOptions
from realsrt.io.files import MAX_PIXELS
from realsrt.version import __version__

if TYPE_CHECKING:
    import numpy as np

    from realsrt.inference.result import Upscaled
    from realsrt.io.metadata.provenance import Provenance, Restored

CONFIDENCE = "_confidence.png"
TRUST = "_trust.png"


@dataclass(frozen=True, kw_only=True)
class Files:
    """How files are read and written."""

    max_pixels: int = MAX_PIXELS
    """Refuse larger inputs before decoding them."""
    quality: int | None = None
    """1 to 100, for JPEG, WebP and AVIF."""
    strip: bool = False
    """Leave all metadata but the ICC profile and density out of the output."""
    provenance: bool = True
    """Note software, model and settings in the output's XMP."""
    confidence: bool = False
    """Save how sure the model is as NAME_confidence.png, of the output's size; brighter = surer."""
    save_steps: bool = False
    """Save the image after each step as NAME_step1.EXT and so on, with --confidence its map too."""
    trusted_above: tuple[tuple[float, float], ...] | None = None
    """Save the mask of trust as NAME_trust.png, of the output's size, white on black: up to which mean
    confidence at which threshold (`Calibration.thresholds`)."""

    def __post_init__(self) -> None:
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"quality goes from 1 to 100, got {self.quality}")
        if self.max_pixels < 1:
            raise UsageError(f"max_pixels must be at least 1, got {self.max_pixels}")

    def settings(self) -> dict[str, Any]:
        """What of it decides about the files that are made."""
        return {field.name: getattr(self, field.name) for field in fields(Files) if field.name != "max_pixels"}


@dataclass(frozen=True)
class Finished:
    """What is written of an `Upscaled`, which see; those who write it need no torch."""

    image: Any
    confidence: "np.ndarray | None"
    window_steps: "np.ndarray | None"
    restored: "tuple[Restored, ...]" = ()
    steps: tuple[Any, ...] = ()


def file_names(job: FileJob, files: Files) -> list[Path]:
    """The longest names of what `save` writes: the target, its companions, and those of a step of three digits."""
    marks = ["", f"_step{MAX_STEPS}"] if files.save_steps else [""]
    endings = [job.target.suffix, CONFIDENCE] if files.confidence else [job.target.suffix]
    trust = [] if files.trusted_above is None else [job.beside(TRUST)]
    return [job.beside(mark + ending) for mark in marks for ending in endings] + trust


def save(
    job: FileJob, out: "Upscaled | Finished", files: Files, made: "Provenance | None"
) -> tuple[tuple[str, ...], list[Path]]:
    """Write everything; the notices and the files. The target last: that it exists stands for a finished image."""
    paths: list[Path] = []
    if files.save_steps:
        for number, step in enumerate(out.steps, 1):
            _save(job, step, files, made, paths, f"_step{number}")
    if (mask_hw := trusted(out.confidence, files)) is not None:
        from realsrt.io import image as imageio

        imageio.write(job.beside(TRUST), confidence_image(mask_hw, out.image.width, out.image.height))
        paths.append(job.beside(TRUST))
    return _save(job, out, files, made, paths), paths


def _save(
    job: FileJob, out: "Upscaled | Finished", files: Files, made: "Provenance | None", paths: list[Path], mark: str = ""
) -> tuple[str, ...]:
    from realsrt.io import image as imageio

    if files.confidence and out.confidence is not None:
        image, path = out.image, job.beside(mark + CONFIDENCE)
        imageio.write(path, confidence_image(out.confidence, image.width, image.height))
        paths.append(path)
    target = job.beside(mark + job.target.suffix)
    made = made.of(out.restored[0]) if made and out.restored else made
    notices = imageio.write(target, out.image, quality=files.quality, strip=files.strip, provenance=made)
    paths.append(target)
    return notices


def left_beside(
    targets: Iterable[PurePath], files: Files, results: Container[PurePath] = (),
    is_file: Callable[[PurePath], bool] = os.path.isfile,
) -> str:  # fmt: skip
    """One line on what lies beside images just made and is named like a map, mask or step of theirs, but was there
    before: how many of which kind, by their names, as whose they are is not known; "" for none. `results` are images,
    whatever their names."""
    kinds = {
        "mask{} of trust": (TRUST, files.trusted_above is None),
        "confidence map{}": (CONFIDENCE, not files.confidence),
        "image{} of a first step": ("_step1", not files.save_steps),
    }
    found: dict[str, list[PurePath]] = {kind: [] for kind in kinds}
    for target in targets:
        for kind, (ending, stale) in kinds.items():
            path = target.with_name(target.stem + ending + ("" if "." in ending else target.suffix))
            if stale and path not in results and is_file(path):  # not where a name is too long
                found[kind].append(path)
    told = [
        f"{len(paths)} {kind.format('s' * (len(paths) > 1))} ({paths[0]}{', …' * (len(paths) > 1)})"
        for kind, paths in found.items()
        if paths
    ]
    return f"named like files of these images, but made before: {', '.join(told)}" if told else ""


def trusted(confidence_hw: "np.ndarray | None", files: Files) -> "np.ndarray | None":
    """Which cells are in the mask of trust, bool; None if none is wanted."""
    if confidence_hw is None or files.trusted_above is None:
        return None
    from realsrt.evaluation.trust import threshold_for, trust_mask

    return trust_mask(confidence_hw, threshold_for(confidence_hw, files.trusted_above))


def confidence_image(confidence_hw: "np.ndarray", width: int, height: int) -> Any:
    """A map in [0,1] on the grid of 8-px cells as an 8-bit gray Picture of the output's size; brighter = surer."""
    import numpy as np

    from realsrt.io.picture import Picture

    gray = np.rint(np.clip(confidence_hw, 0, 1) * 255).astype(np.uint8)
    return Picture.from_array(gray.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


def settings_of(model_sha256: str, precision: str, options: UpscaleOptions, files: Files) -> dict[str, Any]:
    """What decides about the bytes of an output, but for the input. Batches and devices round, and are left out."""
    return {
        "version": __version__, "model": model_sha256, "precision": precision,
        **options.pixel_options(), **files.settings(),
    }  # fmt: skip
