"""Regions that a person paints: runs of cells, the squares of 8x8 output pixels that the confidence map is made of."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from realsrt.inference.regions import CELL

Run = Annotated[list[int], Field(min_length=3, max_length=3)]
MOST_RUNS = 8192


def check_runs(runs: Sequence[Sequence[int]]) -> None:
    """Raises ValueError for a run that is none: row, first column, column after the last."""
    if any(not (0 <= row < 2**17 and 0 <= first < stop <= 2**17) for row, first, stop in runs):
        raise ValueError("cells are [row, first, stop] with first < stop, none below 0")


def runs_of(cells_hw: np.ndarray) -> list[list[int]]:
    """The runs of a mask of cells, bool (h,w)."""
    steps = np.diff(np.pad(cells_hw, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (rows, firsts), (_, stops) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    return np.stack([rows, firsts, stops], 1).tolist()


def bounds(runs: Sequence[Sequence[int]]) -> tuple[int, int, int, int]:
    """The box (x0, y0, x1, y1) around them in output pixels, which may reach beyond the image by less than a cell."""
    rows = [row for row, _, _ in runs]
    return (
        min(first for _, first, _ in runs) * CELL,
        min(rows) * CELL,
        max(stop for _, _, stop in runs) * CELL,
        (max(rows) + 1) * CELL,
    )


def pixel_mask(runs: Sequence[Sequence[int]], width: int, height: int) -> np.ndarray:
    """A bool array (height, width), True inside."""
    cells = np.zeros((-(-height // CELL), -(-width // CELL)), bool)
    for row, first, stop in runs:
        cells[row, first:stop] = True
    return cells.repeat(CELL, axis=0).repeat(CELL, axis=1)[:height, :width]
