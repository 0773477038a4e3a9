import numpy as np
import torch

from realsrt.sampling.noise import PlacedNoise, from_rng


def test_windows_that_overlap_get_the_same_noise_where_they_do():
    noise = PlacedNoise((1, 0), [(0, 0), (2, 5)], (8, 8))
    a, b = noise((2, 64, 7)).unflatten(1, (8, 8))
    torch.testing.assert_close(a[2:, 5:], b[:-2, :-5], rtol=0, atol=0)
    assert (a[:6, :3] != b[:6, :3]).float().mean() > 0.99


def test_it_does_not_depend_on_the_batch_and_differs_by_call_and_seed():
    both = PlacedNoise((1, 0), [(0, 0), (3, 4)], (4, 4))
    alone = PlacedNoise((1, 0), [(3, 4)], (4, 4))
    first = both((2, 16, 5))
    torch.testing.assert_close(first[1:], alone((1, 16, 5)))
    second = both((2, 16, 5))
    assert (first != second).all()
    torch.testing.assert_close(second[1:], alone((1, 16, 5)))
    for seed in ((2, 0), (1, 1), (-1, 0)):
        assert (PlacedNoise(seed, [(0, 0), (3, 4)], (4, 4))((2, 16, 5)) != first).all()


def test_both_are_gumbel_noise():
    """Mean 0.5772, variance pi²/6."""
    placed = PlacedNoise((0,), [(0, 0)], (50, 50))((1, 2500, 40))
    drawn = from_rng(torch.Generator().manual_seed(0), torch.device("cpu"))((1, 2500, 40))
    for noise in (placed, drawn):
        assert abs(float(noise.mean()) - 0.5772) < 0.02
        assert abs(float(noise.var()) - np.pi**2 / 6) < 0.05
