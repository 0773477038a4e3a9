"""The table of how often the mask of trust keeps its promise."""

import sys
from pathlib import Path

import numpy as np
import pytest

from realsrt.evaluation.trust import Calibration

pytest.importorskip("PIL")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
trust = pytest.importorskip("trust")


def test_the_range_leaves_out_at_most_a_fortieth_on_each_side():
    assert trust.binomial_range(24, 0.9) == (18, 24)  # 17 or fewer: 0.7 %, 18 or fewer: 2.8 %
    assert trust.binomial_range(24, 0.5) == (7, 17)


def test_kept_counts_masks_within_the_bound_and_empty_ones():
    calibration = Calibration(model_sha256="", options={}, scores={8.0: [0.5] * 9})
    pixels = np.full((4, 4), 64.0)
    good, bad, empty = (
        (np.full((4, 4), confidence), np.full((4, 4), error) * pixels, pixels)
        for confidence, error in ((0.9, 8.0), (0.9, 8.1), (0.1, 99.0))
    )
    assert trust.kept(calibration, [good, bad, empty], 0.9, 8.0) == (2, pytest.approx(2 / 3))
    assert "2 (67%)" in trust.table(calibration, [good, bad, empty], [0.9], [8.0])
