import numpy as np
import pytest
import torch

from realsrt.imaging import resize as resize_module
from realsrt.imaging.resize import enlarge_linear, resize, resize_each, upscale_bicubic

MODES = ("area", "bilinear", "bicubic")


@pytest.fixture
def noise_BCHW() -> torch.Tensor:
    return torch.rand(2, 3, 48, 36, generator=torch.Generator().manual_seed(0))


def test_upscale_is_bicubic_with_a_075_and_may_overshoot():
    x_BCHW = torch.zeros(1, 1, 4, 8)
    x_BCHW[..., 4:] = 1
    up = upscale_bicubic(x_BCHW, 4)
    assert up.shape == (1, 1, 16, 32)
    assert up.max() > 1
    assert up.min() < 0
    a, near, far = -0.75, 0.875, 1.875  # output pixel 14 lies at input 3.125, this far before the first two ones
    expected = (a + 2) * near**3 - (a + 3) * near**2 + 1 + a * far**3 - 5 * a * far**2 + 8 * a * far - 4 * a
    assert up[0, 0, 8, 14].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("antialias", [False, True])
def test_size_mean_and_constants_are_kept(noise_BCHW, mode, antialias):
    flat = resize(torch.full((1, 3, 40, 40), 0.3), (17, 61), mode, antialias=antialias)
    torch.testing.assert_close(flat, torch.full((1, 3, 17, 61), 0.3), atol=1e-5, rtol=0)
    assert resize(noise_BCHW, (12, 9), mode, antialias=antialias).shape == (2, 3, 12, 9)
    assert resize(noise_BCHW, (48, 36), mode) is noise_BCHW


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialias_averages_noise_away(noise_BCHW, mode):
    plain, smooth = (resize(noise_BCHW, (12, 9), mode, antialias=flag) for flag in (False, True))
    assert smooth.std() < 0.6 * plain.std()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(12, 9), (31, 50)])
def test_antialiased_filters_are_pillows(noise_BCHW, mode, size):
    image = pytest.importorskip("PIL.Image", reason="Pillow is in the extra `train`")
    plane = noise_BCHW[:1, :1]
    expected = image.fromarray(plane[0, 0].numpy()).resize(size[::-1], getattr(image.Resampling, mode.upper()))
    torch.testing.assert_close(
        resize(plane, size, mode, antialias=True)[0, 0], torch.from_numpy(np.array(expected)), atol=2e-5, rtol=0
    )


def test_area_averages_what_a_pixel_covers(noise_BCHW):
    expected = noise_BCHW.view(2, 3, 12, 4, 9, 4).mean((3, 5))
    torch.testing.assert_close(resize(noise_BCHW, (12, 9), "area"), expected)


def test_each_is_one_by_one_and_equal_ones_go_together(monkeypatch):
    images = [torch.rand(1, 3, side, 24) for side in (24, 32, 24, 24)]
    sizes, modes, antialias = [(12, 12)] * 4, ["bicubic", "bicubic", "area", "bicubic"], [True] * 4
    expected = [resize(i, s, m, antialias=a) for i, s, m, a in zip(images, sizes, modes, antialias, strict=True)]
    calls = []
    monkeypatch.setattr(resize_module, "resize", lambda x, *a, **k: calls.append(len(x)) or resize(x, *a, **k))
    for image, alone in zip(resize_each(images, sizes, modes, antialias), expected, strict=True):
        torch.testing.assert_close(image, alone)
    assert sorted(calls) == [1, 1, 2]


@pytest.mark.parametrize("hw", [(7, 9), (1, 5), (150, 90)])
def test_the_linear_enlargement_is_torchs_and_the_same_bytes_in_parts(hw):
    planes = torch.rand(3, *hw)
    whole = enlarge_linear(planes, 4)
    torch.testing.assert_close(whole, torch.nn.functional.interpolate(planes[None], scale_factor=4, mode="bilinear")[0])
    if hw[0] > 9:
        for start in range(1, 140, 7):
            part = enlarge_linear(planes[:, start - 1 : start + 8], 4)[:, 4:-4]
            assert torch.equal(part, whole[:, 4 * start : 4 * start + 28])
