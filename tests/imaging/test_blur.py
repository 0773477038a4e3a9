import math

import pytest
import torch

from realsrt.imaging.blur import bell_kernels, filter_each, reflect_pad, sinc_kernels


def bells(size=21, sigma_x=2.0, sigma_y=2.0, angle=0.0, beta=1.0, plateau=False) -> torch.Tensor:
    columns = (torch.tensor([v], dtype=torch.float64) for v in (size, sigma_x, sigma_y, angle, beta))
    return bell_kernels(*columns, torch.tensor([plateau]))[0]


def second_moment(kernel_kk: torch.Tensor, dim: int) -> float:
    axis = torch.arange(21, dtype=torch.float64) - 10
    return (kernel_kk.sum(1 - dim) * axis.square()).sum().item()


@pytest.mark.parametrize("plateau", [False, True])
@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_bells_sum_to_one_are_non_negative_and_stay_in_their_size(beta, plateau):
    kernel = bells(size=9, sigma_x=3, sigma_y=0.7, angle=0.4, beta=beta, plateau=plateau)
    assert kernel.sum().item() == pytest.approx(1, abs=1e-9)
    assert kernel.min() >= 0
    assert kernel.sum().item() == pytest.approx(kernel[6:15, 6:15].sum().item())
    torch.testing.assert_close(kernel, kernel.flip(0, 1))


def test_a_wide_bell_fills_its_square():
    assert (bells(size=9, sigma_x=5.0, sigma_y=5.0) > 0).sum() == 81


def test_gaussian_has_its_variance_along_its_axes():
    kernel = bells(sigma_x=2.0, sigma_y=1.0)
    assert second_moment(kernel, 1) == pytest.approx(4.0, rel=0.01)  # x runs along the columns
    assert second_moment(kernel, 0) == pytest.approx(1.0, rel=0.01)
    turned = bells(sigma_x=2.0, sigma_y=1.0, angle=math.pi / 2)
    torch.testing.assert_close(turned, kernel.T)


def test_isotropic_kernels_ignore_the_angle_and_beta_flattens():
    torch.testing.assert_close(bells(angle=0.7), bells(), rtol=0, atol=1e-12)
    peaked, gaussian, flat = (bells(beta=b)[10, 8:13] for b in (0.5, 1.0, 4.0))
    drop = [(row[2] - row[1]) / row[2] for row in (peaked, gaussian, flat)]
    assert drop[0] > drop[1] > drop[2]


def test_plateau_follows_its_formula():
    kernel = bells(sigma_x=1.5, sigma_y=1.5, beta=2.0, plateau=True)
    q = (3**2 + 4**2) / 1.5**2
    assert (kernel[13, 14] / kernel[10, 10]).item() == pytest.approx(1 / (1 + q**2), rel=1e-6)


@pytest.mark.parametrize("cutoff", [math.pi / 3, math.pi / 2])
def test_sinc_passes_below_its_cutoff_and_stops_above(cutoff):
    kernel = sinc_kernels(torch.tensor([21.0], dtype=torch.float64), torch.tensor([cutoff], dtype=torch.float64))[0]
    assert kernel.sum().item() == pytest.approx(1)
    assert kernel.min() < 0
    axis = torch.arange(21, dtype=torch.float64) - 10
    response = [(kernel.sum(0) * (axis * cutoff * share).cos()).sum().item() for share in (0.6, 1.4)]
    assert response[0] > 0.85
    assert abs(response[1]) < 0.15


def test_sinc_follows_its_formula():
    kernel = sinc_kernels(torch.tensor([21.0]), torch.tensor([math.pi / 2]))[0]
    assert (kernel[10, 10] / kernel[10, 11]).item() == pytest.approx(math.pi / 4 / 0.566824, rel=1e-4)  # J1(pi/2)


def test_sinc_stays_in_its_size():
    kernel = sinc_kernels(torch.tensor([7.0]), torch.tensor([2.0]))[0]
    assert kernel[:7].abs().max() == 0
    assert kernel[7:14, 7:14].sum().item() == pytest.approx(1, abs=1e-5)


def test_filter_uses_each_samples_own_kernel():
    rng = torch.Generator().manual_seed(0)
    x_BCHW = torch.rand(2, 3, 24, 30, generator=rng)
    shift = torch.zeros(21, 21)
    shift[10, 11] = 1  # looks one pixel to the right
    identity = torch.zeros(21, 21)
    identity[10, 10] = 1
    out = torch.cat(filter_each(x_BCHW.split(1), torch.stack((identity, shift))))
    torch.testing.assert_close(out[0], x_BCHW[0])
    torch.testing.assert_close(out[1, :, :, :-1], x_BCHW[1, :, :, 1:])
    torch.testing.assert_close(out[1, :, :, -1], x_BCHW[1, :, :, -2])  # mirrored, edge not repeated


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (9, 12), (30, 30)])
def test_reflect_pad_at_any_size(size):
    x_BCHW = torch.arange(size[0] * size[1], dtype=torch.float32).view(1, 1, *size)
    expected = torch.nn.functional.pad(x_BCHW, (0, 0, 0, 0))
    padded = reflect_pad(x_BCHW, 10)
    assert padded.shape[2:] == (size[0] + 20, size[1] + 20)
    torch.testing.assert_close(padded[:, :, 10:-10, 10:-10], expected)
    if min(size) > 1:
        torch.testing.assert_close(padded[0, 0, 10, 9], x_BCHW[0, 0, 0, 1])
        torch.testing.assert_close(padded[0, 0, -10, 10], x_BCHW[0, 0, -2, 0])


def test_pictures_of_different_sizes_together_equal_one_by_one():
    rng = torch.Generator().manual_seed(1)
    images = [torch.rand(1, 3, h, w, generator=rng) for h, w in ((9, 40), (33, 12), (20, 20))]
    kernels = torch.stack([bells(size=7, sigma_x=s, sigma_y=1.0, angle=s) for s in (0.5, 1.0, 3.0)])
    for image, kernel, out in zip(images, kernels, filter_each(images, kernels), strict=True):
        torch.testing.assert_close(out, filter_each([image], kernel[None])[0], atol=1e-6, rtol=0)
