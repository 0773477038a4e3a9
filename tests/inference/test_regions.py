import numpy as np
import pytest
import torch

from realsrt.inference.regions import cells, feather, pixel_mask, shrunk


def test_a_box_has_exclusive_ends():
    mask = pixel_mask((2, 3, 5, 4), (8, 9), None)
    assert mask.nonzero().tolist() == [[3, 2], [3, 3], [3, 4]]


def test_cells_below_a_confidence_are_cut_to_the_picture():
    mask = pixel_mask(0.5, (12, 10), np.array([[0.9, 0.1], [0.4, 0.9]], np.float32))
    assert mask.shape == (12, 10)
    assert mask[:8, 8:].all()
    assert mask[8:, :8].all()
    assert mask.sum() == 8 * 2 + 4 * 8


@pytest.mark.parametrize("hw", [(3, 4), (24, 32), (5, 7), (50, 60)])
def test_a_shrunk_mask_holds_every_pixel(hw):
    mask = torch.zeros(24, 32, dtype=torch.bool)
    mask[13, 20] = True
    small = shrunk(mask, hw)
    assert small.shape == hw
    y, x = int(13.5 * hw[0] / 24), int(20.5 * hw[1] / 32)
    assert small[y, x]
    assert small.sum() <= max(1, -(-hw[0] // 24) + 1) * max(1, -(-hw[1] // 32) + 1)


def test_cells_are_those_touched():
    mask = torch.zeros(20, 17, dtype=torch.bool)
    mask[7:9, 16] = True
    assert cells(mask).nonzero().tolist() == [[0, 2], [1, 2]]


@pytest.mark.parametrize("corner", [(0, 0), (20, 30), (47, 51)])
def test_the_feather_is_whole_inside_and_ends_at_the_margin(corner):
    mask = torch.zeros(60, 64, dtype=torch.bool)
    y, x = corner
    mask[y : y + 13, x : x + 13] = True
    (rows, columns), weight = feather(mask, 8)
    whole = torch.zeros(60, 64)
    whole[rows, columns] = weight
    assert (whole[mask] == 1).all()
    ys, xs = np.mgrid[:60, :64]
    away = np.maximum(np.maximum(y - ys, ys - y - 12), np.maximum(x - xs, xs - x - 12))
    assert (whole.numpy()[away > 8] == 0).all()
    assert (whole.numpy()[away == 1] > 0.75).all()
    assert (whole.numpy()[away == 8] > 0).any()
    assert whole.max() <= 1
