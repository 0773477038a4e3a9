import pytest
import torch
import torch.nn.functional as F

from realsrt.imaging import color


def test_adain_gives_the_reference_its_moments():
    image, reference = torch.rand(2, 3, 64, 64) * 0.3, torch.rand(2, 3, 16, 16)
    out = color.adain(image, reference)
    torch.testing.assert_close(out.mean((2, 3)), reference.mean((2, 3)))
    torch.testing.assert_close(out.std((2, 3)), reference.std((2, 3)), rtol=1e-3, atol=0)


def test_adain_uses_unbiased_variance_plus_epsilon():
    image, reference = torch.rand(1, 1, 2, 2), torch.rand(1, 1, 3, 3)
    a, b = image.double().flatten(), reference.double().flatten()
    std_a = (((a - a.mean()) ** 2).sum() / 3 + 1e-5).sqrt()
    std_b = (((b - b.mean()) ** 2).sum() / 8 + 1e-5).sqrt()
    expected = (a - a.mean()) / std_a * std_b + b.mean()
    torch.testing.assert_close(color.adain(image, reference).flatten().double(), expected, rtol=1e-5, atol=1e-6)


def test_adain_of_constants_is_the_references_colour():
    out = color.adain(torch.full((1, 3, 8, 8), 0.9), torch.full((1, 3, 2, 2), 0.25))
    torch.testing.assert_close(out, torch.full((1, 3, 8, 8), 0.25))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (90, 70)])
def test_wavelet_takes_the_cast_away_and_keeps_detail(size):
    reference = torch.rand(3, 1, 1).expand(3, *size)
    detail = torch.rand(3, *size) * 0.2
    cast = torch.rand(3, 1, 1)
    out = color.wavelet(reference + detail + cast, reference + detail)
    torch.testing.assert_close(out, reference + detail)


def test_wavelet_takes_low_frequencies_from_the_reference_and_high_ones_from_the_image():
    x = torch.arange(256.0)
    slow = (x / 256 * 2 * torch.pi).sin().expand(1, 256, 256)
    fast = (x / 2 * 2 * torch.pi + 0.5).sin().expand(1, 256, 256)
    inner = (slice(None), slice(64, -64), slice(64, -64))
    torch.testing.assert_close(color.wavelet(fast, slow)[inner], (fast + slow)[inner], rtol=0, atol=0.1)
    torch.testing.assert_close(color.wavelet(slow, fast)[inner], 0 * slow[inner], rtol=0, atol=0.1)


def test_coarse_is_five_a_trous_smoothings():
    plane = torch.rand(40, 50)
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16)[None, None]
    expected = plane[None, None]
    for reach in (1, 2, 4, 8, 16):
        expected = F.conv2d(F.pad(expected, (reach,) * 4, mode="replicate"), kernel, dilation=reach)
    torch.testing.assert_close(color.coarse(plane), expected[0, 0])


def test_wavelet_leaves_its_input_alone_and_checks_sizes():
    image = torch.rand(3, 8, 8)
    before = image.clone()
    color.wavelet(image, torch.rand(3, 8, 8))
    assert torch.equal(image, before)
    with pytest.raises(ValueError, match="sizes differ"):
        color.wavelet(image, torch.rand(3, 8, 9))


def test_luma_keeps_gray_to_the_last_bit_and_weighs_colours():
    gray = torch.rand(1, 50, 50)
    assert torch.equal(color.luma(gray.expand(3, 50, 50)), gray)
    primaries = torch.eye(3)[:, :, None]  # three pixels: red, green, blue
    torch.testing.assert_close(color.luma(primaries).flatten(), torch.tensor([0.299, 0.587, 0.114]))


def alpha_with_a_hole(height, width):
    alpha = torch.zeros(height, width)
    alpha[: height // 2 + 1, : width // 2 + 1] = 1
    alpha[0, 0] = 0.004
    return alpha


@pytest.mark.parametrize("size", [(1, 2), (7, 9), (33, 64)])
def test_no_invisible_colour_survives(size):
    rgb = torch.rand(3, *size)
    alpha = alpha_with_a_hole(*size)
    invisible = alpha == 0
    first = color.fill_transparent(rgb, alpha)
    second = color.fill_transparent(torch.where(invisible, torch.rand(3, *size), rgb), alpha)
    assert torch.equal(first, second)
    assert torch.equal(first[:, ~invisible], rgb[:, ~invisible])


def test_the_fill_continues_the_visible_colour():
    alpha = alpha_with_a_hole(40, 50)
    rgb = torch.where(alpha > 0, torch.tensor([0.9, 0.5, 0.1])[:, None, None], torch.zeros(3, 1, 1))
    out = color.fill_transparent(rgb, alpha)
    torch.testing.assert_close(out, torch.tensor([0.9, 0.5, 0.1])[:, None, None].expand(3, 40, 50))


def test_one_faint_pixel_colours_a_large_picture():
    rgb, alpha = torch.rand(3, 300, 200), torch.zeros(300, 200)
    alpha[120, 77] = 1 / 65535
    out = color.fill_transparent(rgb, alpha)
    torch.testing.assert_close(out, rgb[:, 120:121, 77:78].expand_as(out), rtol=1e-4, atol=1e-5)


def test_opaque_and_empty_pictures():
    rgb = torch.rand(3, 5, 6)
    assert color.fill_transparent(rgb, torch.ones(5, 6)) is rgb
    assert not color.fill_transparent(rgb, torch.zeros(5, 6)).any()
