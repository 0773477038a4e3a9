"""The table of how often the mask of trust keeps its promise."""

import sys
from pathlib import Path

import numpy as np
import pytest

from realsrt.evaluation.trust import Calibration, Group

pytest.importorskip("PIL")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
trust = pytest.importorskip("trust")


def test_the_range_leaves_out_at_most_a_fortieth_on_each_side():
    assert trust.binomial_range(24, 0.9) == (18, 24)  # 17 or fewer: 0.7 %, 18 or fewer: 2.8 %
    assert trust.binomial_range(24, 0.5) == (7, 17)


def test_kept_counts_masks_within_the_bound_and_empty_ones():
    groups = [Group(up_to=0.2, scores={8.0: [0.5] * 9}), Group(up_to=1.0, scores={8.0: [0.6] * 9})]
    calibration = Calibration(model_sha256="", options={}, groups=groups)
    pixels = np.full((4, 4), 64.0)
    good, bad, empty = (
        (np.full((4, 4), confidence), np.full((4, 4), error) * pixels, pixels)
        for confidence, error in ((0.9, 8.0), (0.9, 8.1), (0.1, 99.0))
    )
    assert trust.kept(calibration, [good, bad, empty], 0.9, 8.0) == (2, pytest.approx(2 / 3))
    table = trust.table(calibration, [good, bad, empty], [0.9], [8.0])
    assert "2 (67%)" in table
    assert table.endswith("1 of 1 counts are as expected")
    assert "| **0** (100%) |" in trust.table(calibration, [bad] * 9, [0.9], [8.0])
    assert trust.table(calibration, [bad] * 9, [0.9], [8.0]).endswith("0 of 1 counts are as expected")
    assert trust.table(calibration, [good] * 99, [0.9], [8.0]).endswith("0 of 1 counts are as expected, 1 above")


def test_an_image_has_the_mask_of_its_group():
    """Of three images alike but for their mean confidence, the second's group trusts nothing."""
    groups = [Group(up_to=up_to, scores={8.0: [score] * 9}) for up_to, score in ((0.3, 0.0), (0.6, 2.0), (1.0, 0.0))]
    calibration = Calibration(model_sha256="", options={}, groups=groups)
    pixels = np.full((4, 4), 64.0)
    images = [(np.full((4, 4), mean), 9 * pixels, pixels) for mean in (0.2, 0.5, 0.8)]
    assert trust.kept(calibration, images, 0.9, 8.0) == (1, pytest.approx(2 / 3))
