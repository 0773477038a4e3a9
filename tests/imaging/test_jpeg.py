import sys

import pytest
import torch

from realsrt.errors import UsageError
from realsrt.imaging.jpeg import jpeg, jpeg_each


@pytest.fixture(scope="module")
def picture_BCHW() -> torch.Tensor:
    pytest.importorskip("kornia", reason="kornia is in the extra `train`")
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 12, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, size=(72, 56), mode="bicubic")
    return (smooth + 0.05 * torch.randn(1, 3, 72, 56, generator=rng)).clamp(0, 1)


def test_lower_quality_means_larger_error_sample_by_sample(picture_BCHW):
    out = jpeg(picture_BCHW.repeat(3, 1, 1, 1), torch.tensor([95.0, 60.0, 30.0]))
    error = (out - picture_BCHW).square().mean((1, 2, 3)).sqrt()
    assert out.shape == (3, 3, 72, 56)
    assert out.min() >= 0
    assert out.max() <= 1
    assert 0 < error[0] < error[1] < error[2] < 0.2


def test_samples_do_not_touch_each_other(picture_BCHW):
    both = jpeg(torch.cat((picture_BCHW, picture_BCHW.flip(2))), torch.tensor([40.0, 80.0]))
    torch.testing.assert_close(both[1:], jpeg(picture_BCHW.flip(2), 80.0), atol=1e-5, rtol=0)


def test_pictures_of_different_sizes_together_come_close_to_one_by_one(picture_BCHW):
    images = [picture_BCHW, picture_BCHW[:, :, :33, :19]]
    for image, quality, out in zip(images, (50.0, 70.0), jpeg_each(images, [50.0, 70.0]), strict=True):
        assert out.shape == image.shape
        torch.testing.assert_close(out, jpeg(image, quality), atol=1e-5, rtol=0)


def test_missing_kornia_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia.enhance", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[train\]'"):
        jpeg(torch.zeros(1, 3, 16, 16), 50.0)
