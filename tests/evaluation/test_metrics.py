import math
import sys

import pytest
import torch

from realsrt.errors import UsageError
from realsrt.evaluation.metrics import bootstrap_interval, luma, ms_ssim, psnr, psnr_y, ssim


@pytest.fixture
def y_BCHW() -> torch.Tensor:
    return torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2


def test_psnr_per_sample(y_BCHW):
    offset = torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    torch.testing.assert_close(psnr(y_BCHW + offset, y_BCHW), torch.tensor([20.0, 40.0]).double(), atol=1e-3, rtol=0)
    assert psnr(y_BCHW, y_BCHW).tolist() == [math.inf, math.inf]


def test_psnr_clamps_the_restored_picture():
    white = torch.ones(1, 3, 8, 8)
    assert psnr(white + 0.5, white).item() == math.inf


def test_shapes_must_agree(y_BCHW):
    with pytest.raises(ValueError, match="shapes differ"):
        psnr(y_BCHW[:1], y_BCHW)


def test_luma_is_bt601_with_studio_swing():
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0]]).view(4, 3, 1, 1)
    assert (luma(colours).flatten() * 255).tolist() == pytest.approx([16, 235, 81.481, 144.553], abs=1e-3)


def test_psnr_y_of_a_gray_offset(y_BCHW):
    # luma spans 219 of 255 levels, so an offset shrinks by that much
    expected = -20 * math.log10(0.1 * 219 / 255)
    assert psnr_y(y_BCHW + 0.1, y_BCHW).tolist() == pytest.approx([expected] * 2, abs=1e-3)


def test_psnr_y_does_not_see_colour(y_BCHW):
    shift = torch.tensor([0.05, -0.05 * 65.481 / 128.553, 0.0]).view(3, 1, 1)
    assert (psnr_y(y_BCHW + shift, y_BCHW) > 100).all()
    assert (psnr(y_BCHW + shift, y_BCHW) < 40).all()


def test_ssim_is_one_for_equals_and_falls_with_noise(y_BCHW):
    pytest.importorskip("torchmetrics", reason="torchmetrics is in the extra `metrics`")
    noise = torch.randn(y_BCHW.shape, generator=torch.Generator().manual_seed(1))
    strength = torch.tensor([0.02, 0.1]).view(2, 1, 1, 1)
    assert ssim(y_BCHW, y_BCHW).tolist() == pytest.approx([1, 1], abs=1e-5)
    weak, strong = ssim(y_BCHW + strength * noise, y_BCHW).tolist()
    assert 0 < strong < weak < 1
    torch.testing.assert_close(
        ssim(y_BCHW + strength * noise, y_BCHW)[1:], ssim(y_BCHW[1:] + 0.1 * noise[1:], y_BCHW[1:])
    )


def test_ms_ssim_forgives_fine_noise_more_than_ssim_does():
    pytest.importorskip("torchmetrics", reason="torchmetrics is in the extra `metrics`")
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 12, 11, generator=rng)  # 192x176 px below
    y_BCHW = torch.nn.functional.interpolate(coarse, scale_factor=16, mode="bilinear") * 0.6 + 0.2
    noisy = y_BCHW + torch.tensor([0.02, 0.1]).view(2, 1, 1, 1) * torch.randn(y_BCHW.shape, generator=rng)
    assert ms_ssim(y_BCHW, y_BCHW).tolist() == pytest.approx([1, 1], abs=1e-5)
    weak, strong = ms_ssim(noisy, y_BCHW).tolist()
    assert 0 < strong < weak < 1
    assert strong > ssim(noisy, y_BCHW)[1] + 0.1
    with pytest.raises(ValueError, match="176 px or more"):
        ms_ssim(noisy[..., 1:], y_BCHW[..., 1:])


def test_missing_torchmetrics_says_what_to_install(monkeypatch, y_BCHW):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[metrics\]'"):
        ssim(y_BCHW, y_BCHW)
    with pytest.raises(UsageError, match=r"pip install '\.\[metrics\]'"):
        ms_ssim(y_BCHW, y_BCHW)


def test_bootstrap_interval_covers_the_mean_and_has_the_normal_width():
    values = torch.randn(100, generator=torch.Generator().manual_seed(0)) * 2 + 5
    low, high = bootstrap_interval(values, seed=0, resamples=4000)
    assert low < values.mean().item() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std().item() / 10, rel=0.1)
    narrow = bootstrap_interval(values, seed=0, level=0.5, resamples=4000)
    assert low < narrow[0] < narrow[1] < high


def test_bootstrap_interval_by_seed():
    values = [1.0, 2.0, 4.0, 8.0, 3.0]
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval([2.5], seed=0) == (2.5, 2.5)
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([], seed=0)
