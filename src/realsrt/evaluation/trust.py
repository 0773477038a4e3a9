"""A mask with a guarantee: which cells of a result can be trusted, by split conformal calibration.

A cell's trust is the mean confidence around it; the mask at a threshold is the cells of a higher trust, or empty where
they are few. Every pair of an input and its target gives one score: the lowest threshold such that at it, and at any
higher one, the mean error within the mask is at most a bound. The k-th smallest of n scores, k = ceil((n + 1)·level),
is the calibrated threshold: the score of a further image, drawn as the pairs were, is at most that with a probability
of at least `level`, whatever the model does, and then the mean error within its mask is at most the bound.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from realsrt.config import ModelConfig
from realsrt.errors import UsageError
from realsrt.io.atomic import write_whole

CELL = 8
"""Side of a cell of the confidence map, in output pixels."""
BOUNDS = (4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 24.0)
"""Mean errors that a calibration has thresholds for, in levels of 255."""
_AROUND = 5  # cells a side of the square whose mean confidence is a cell's trust: single cells know little
_LEAST = 0.05  # share of an image's cells below which a mask is left empty: the mean of few says little
FORMAT = 1
_SUFFIX = ".calibration.json"


def cell_errors(image_HWC: np.ndarray, target_HWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sums (h,w) over each cell's pixels of the error, which is the mean absolute difference over R, G and B in
    levels of 255, and the number of these pixels; of images in [0,1]."""
    error_HW = np.abs(image_HWC.astype(np.float64) - target_HWC).mean(2) * 255
    height, width = error_HW.shape

    def cells(values_HW: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(values_HW, range(0, height, CELL), 0), range(0, width, CELL), 1)

    return cells(error_HW), cells(np.ones_like(error_HW))


def trust_map(confidence_hw: np.ndarray) -> np.ndarray:
    """The trust (h,w) of each cell, float64 in [0,1]: the mean confidence of 5x5 cells around it, edges repeated."""
    padded = np.pad(confidence_hw.astype(np.float64), _AROUND // 2, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (_AROUND, _AROUND)).mean((2, 3))


def trust_mask(confidence_hw: np.ndarray, threshold: float) -> np.ndarray:
    """The mask (h,w) at a threshold, bool; empty where it would have less than 5 % of the cells."""
    mask_hw = trust_map(confidence_hw) > threshold
    return mask_hw & (mask_hw.sum() >= _LEAST * mask_hw.size)


def scores(
    confidence_hw: np.ndarray, error_hw: np.ndarray, pixels_hw: np.ndarray, bounds: Sequence[float]
) -> list[float]:
    """The score of one pair for each bound; -1 if the mean error of the whole image and of every mask is within it."""
    trust = trust_map(confidence_hw)
    order = np.argsort(-trust, axis=None, kind="stable")
    trust, error, pixels = (values.ravel()[order] for values in (trust, error_hw, pixels_hw))
    mean, count = np.cumsum(error) / np.cumsum(pixels), np.arange(1, len(trust) + 1)
    ends = np.append(trust[1:] != trust[:-1], True)  # equal trust comes into a mask together
    trust, mean = (values[ends & (count >= _LEAST * len(count))] for values in (trust, mean))
    return [float(trust[over.argmax()]) if (over := mean > bound).any() else -1.0 for bound in bounds]


def calibrated_options(pixel_options: Mapping[str, Any], precision: object, config: ModelConfig) -> dict[str, Any]:
    """What a calibration holds for, as plain data: the options of upscaling and how numbers are rounded. An option that
    is the model's own (``steps``, ``stride`` …) is None, given or not."""
    own = {"steps": config.num_steps, **{key: getattr(config, key, None) for key in pixel_options if key != "steps"}}
    given = {key: None if value == own.get(key) else value for key, value in pixel_options.items()}
    return json.loads(json.dumps({**given, "precision": str(precision).removeprefix("torch.")}))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What pairs have shown of one model with one set of options.

    model_sha256: of the weight file. options: see `calibrated_options`. scores: by bound, in levels of 255, the scores
    of all pairs, ascending. about: what the pairs were, for people. where: the file it came from.
    """

    model_sha256: str
    options: Mapping[str, Any]
    scores: Mapping[float, Sequence[float]]
    about: str = ""
    where: str = field(default="", compare=False)

    @property
    def pairs(self) -> int:
        return len(next(iter(self.scores.values())))

    def threshold(self, level: float, bound: float) -> float:
        """Of `trust_mask`. Raises UsageError where so few pairs cannot promise it."""
        if not 0 < level < 1:
            raise UsageError(f"trust is a share of images, above 0 and below 1, got {level:g}")
        if bound not in self.scores:
            known = ", ".join(f"{one:g}" for one in self.scores)
            raise UsageError(f"the calibration has no thresholds for a mean error of {bound:g}; it has {known}")
        rank = math.ceil((self.pairs + 1) * level - 1e-9)
        if rank > self.pairs:
            most = self.pairs / (self.pairs + 1)
            raise UsageError(
                f"{self.pairs} pairs promise nothing at a trust of {level:g}, but up to "
                f"{math.floor(most * 1000) / 1000:g}; calibrate on more"
            )
        return self.scores[bound][rank - 1]

    def check(self, model_sha256: str, options: Mapping[str, Any]) -> None:
        """Raise UsageError for another model or other options than were calibrated."""
        where = self.where or "the calibration"
        if self.model_sha256 != model_sha256:
            raise UsageError(
                f"{where} is of other weights ({self.model_sha256[:16]}…) than these "
                f"({model_sha256[:16] or 'no file'}…): make one with realsrt calibrate"
            )
        if other := [name for name in {**self.options, **options} if self.options.get(name) != options.get(name)]:
            told = ", ".join(f"{name} {self.options.get(name)}, not {options.get(name)}" for name in other)
            raise UsageError(f"{where} is of other options: {told}; give the same, or make one with realsrt calibrate")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, whole or not at all. Raises UsageError."""
        document = {
            "format": FORMAT, "model_sha256": self.model_sha256, "about": self.about, "pairs": self.pairs,
            "options": dict(self.options), "scores": {f"{bound:g}": list(own) for bound, own in self.scores.items()},
        }  # fmt: skip
        try:
            write_whole(Path(path), (json.dumps(document, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise UsageError(f"can't write {path}: {error.strerror}") from None


def load_calibration(path: Path) -> Calibration:
    """Raises UsageError for a file that is none."""
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            raise UsageError(
                f"{path} has format {document['format']!s:.20}, this version reads {FORMAT}; update realsrt"
            )
        scores = {float(bound): sorted(map(float, own)) for bound, own in document["scores"].items()}
        found = Calibration(
            model_sha256=str(document["model_sha256"]), options=dict(document["options"]), scores=scores,
            about=str(document["about"]), where=str(path),
        )  # fmt: skip
        if len({len(own) for own in scores.values()}) != 1 or not found.pairs:
            raise ValueError("scores")
        if not all(math.isfinite(score) for own in scores.values() for score in own):
            raise ValueError("not finite")
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{path} is no calibration; make one with realsrt calibrate") from None
    return found


def embedded_calibration(model_sha256: str) -> Calibration:
    """The one inside the package for these weights. Raises UsageError where there is none."""
    for file in files("realsrt.weights").iterdir():
        if file.name.endswith(_SUFFIX):
            found = load_calibration(Path(str(file)))
            if found.model_sha256 == model_sha256:
                return found
    raise UsageError(
        "there is no calibration for these weights: make one with realsrt calibrate, give it by --calibration"
    )
