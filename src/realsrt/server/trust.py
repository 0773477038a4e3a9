"""What a finished job's mask of trust is made of (docs/trust.md), also after parts of it were regenerated."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from pydantic import BaseModel, Field

from realsrt.errors import UsageError
from realsrt.evaluation.trust import CELL, Calibration, embedded_calibration, load_calibration, trust_mask
from realsrt.io.atomic import write_whole
from realsrt.io.picture import Picture
from realsrt.server.cells import Run


class TrustMask(BaseModel):
    """In at least `level` of all pictures like those of `about`, the mean error in `cells` is at most `error`."""

    level: float
    error: float = Field(description="In levels of 255, over R, G, B and all pixels of the cells; more than was asked "
                         "for where regenerated cells were taken out.")  # fmt: skip
    about: str = Field(description="What was calibrated on.")
    share: float = Field(description="Of the result's pixels in the cells, 0 to 1.")
    cells: list[Run] = Field(description="Runs of cells of 8x8 pixels: row, first column, column after the last.")


@dataclass(frozen=True)
class FirstConfidence:
    """confidence_hw: float32 in [0,1], before anything of the result was regenerated; a value for each cell.
    changed_hw: bool, the cells in which its pixels have changed since."""

    confidence_hw: np.ndarray
    changed_hw: np.ndarray

    def after(self, before: Picture, made: Sequence[Picture]) -> "FirstConfidence":
        """Once `before` has become one of `made`, whichever."""
        differs_HW = np.zeros(before.pixels.shape[:2], bool)
        for one in made:
            differs_HW |= (one.pixels != before.pixels).any(2)
        return replace(self, changed_hw=self.changed_hw | _per_cell(np.logical_or, differs_HW))

    def mask(self, threshold: float, bound: float, width: int, height: int) -> tuple[np.ndarray, float, float]:
        """Of a result of so many pixels: which cells are trusted, bool (h,w); the mean error that is promised within
        them; the share of all pixels that they are.

        Where the mean error of the first mask is at most `bound`, that of a part of it is at most as much greater as
        the part is smaller: the error of what was taken away may have been 0.
        """
        pixels_hw = _per_cell(np.add, np.ones((height, width), np.int64))
        first_hw = trust_mask(self.confidence_hw, threshold)
        left_hw = first_hw & ~self.changed_hw
        first, left = pixels_hw[first_hw].sum(), pixels_hw[left_hw].sum()
        return left_hw, float(bound * first / left) if left else bound, float(left / (width * height))

    def write(self, folder: Path) -> None:
        file = io.BytesIO()
        np.savez_compressed(file, confidence_hw=self.confidence_hw, changed_hw=self.changed_hw)
        write_whole(_path(folder), file.getvalue())


def first_confidence(confidence_hw: np.ndarray | None) -> FirstConfidence | None:
    """Of a result of which nothing was regenerated; None after 0 steps."""
    return None if confidence_hw is None else FirstConfidence(confidence_hw, np.zeros(confidence_hw.shape, bool))


def read(folder: Path) -> FirstConfidence | None:
    """What `write` has left of a job, if it has."""
    try:
        with np.load(_path(folder)) as found:
            return FirstConfidence(found["confidence_hw"], found["changed_hw"])
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def calibration_of(model_sha256: str, path: Path | None) -> Calibration | None:
    """That of a file, or else the one inside the package, if there is one. Raises UsageError for a file that is none,
    or of other weights."""
    if path is None:
        try:
            found = embedded_calibration(model_sha256)
        except UsageError:
            return None
    else:
        found = load_calibration(path)
        found.check(model_sha256, found.options)
    return replace(found, where="")  # its place is nobody else's business


def _per_cell(join: np.ufunc, values_HW: np.ndarray) -> np.ndarray:
    height, width = values_HW.shape
    return join.reduceat(join.reduceat(values_HW, range(0, height, CELL), 0), range(0, width, CELL), 1)


def _path(folder: Path) -> Path:
    return folder / "confidence.npz"
