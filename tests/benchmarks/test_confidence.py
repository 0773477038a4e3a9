"""benchmarks/confidence.py: the largest gap of the reliability curve, and how much it depends on the photographs."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from confidence import drawn_gaps, largest_gap  # pyright: ignore[reportMissingImports]


def test_the_largest_gap_is_that_of_the_worst_bin():
    confidence = torch.linspace(0, 1, 1000)[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    assert largest_gap(confidence, confidence) == 0
    assert largest_gap(confidence, confidence - 0.2 * (confidence > 0.899)) == pytest.approx(0.2, abs=1e-3)


def test_photographs_are_drawn_with_all_their_inputs():
    confidence = [torch.linspace(0, 1, 100)] * 4
    near, far = torch.linspace(0, 1, 100), torch.linspace(0, 1, 100) - 0.4
    together = drawn_gaps(confidence, [near, far, near, far], ["a", "a", "b", "b"])
    assert together == sorted(together)
    assert together == pytest.approx([0.2] * 200, abs=1e-3)
    apart = drawn_gaps(confidence, [near, far, near, far], ["a", "b", "a", "b"])
    assert apart[0] == pytest.approx(0, abs=1e-3)
    assert apart[-1] == pytest.approx(0.4, abs=1e-3)
