import pytest
import torch

from realsrt.imaging.noise import add_noise


def add_gaussian_noise(x_BCHW, strength_B, gray_B, rng, poisson=False):
    count = len(x_BCHW)
    strength, gray = (torch.as_tensor(value).expand(count).tolist() for value in (strength_B, gray_B))
    return torch.cat(add_noise(x_BCHW.split(1), [poisson] * count, strength, gray, [rng] * count))


def add_poisson_noise(*args):
    return add_gaussian_noise(*args, poisson=True)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def gradient(batch: int = 2) -> torch.Tensor:
    """A gray picture with all values from .2 to .8."""
    return torch.linspace(0.2, 0.8, 128 * 128).view(1, 1, 128, 128).repeat(batch, 3, 1, 1)


def test_gaussian_has_each_samples_sigma_and_no_bias():
    x_BCHW = torch.full((2, 3, 128, 128), 0.5)
    noise = add_gaussian_noise(x_BCHW, torch.tensor([2.0, 20.0]), False, rng()) - x_BCHW
    assert noise[0].std().item() * 255 == pytest.approx(2, rel=0.02)
    assert noise[1].std().item() * 255 == pytest.approx(20, rel=0.02)
    assert noise.mean().abs().item() < 1e-3


@pytest.mark.parametrize("add", [add_gaussian_noise, add_poisson_noise])
def test_gray_noise_is_the_same_in_all_channels_of_its_samples_only(add):
    x_BCHW = gradient()
    noise = add(x_BCHW, torch.tensor([1.0, 1.0]), torch.tensor([True, False]), rng()) - x_BCHW
    torch.testing.assert_close(noise[0, 0], noise[0, 2])
    assert (noise[1, 0] - noise[1, 2]).std() > noise[1].std()


@pytest.mark.parametrize("gray", [False, True])
def test_poisson_variance_grows_with_brightness_and_scale(gray):
    x_BCHW = gradient()  # more than 128 distinct levels: 256 photons for white
    noise = add_poisson_noise(x_BCHW, torch.tensor([0.5, 2.0]), gray, rng()) - x_BCHW
    for part in (slice(0, 16), slice(112, 128)):
        expected = (x_BCHW[0, 0, part].mean() / 256).sqrt().item()
        assert noise[0, :, part].std().item() == pytest.approx(0.5 * expected, rel=0.1)
        assert noise[1, :, part].std().item() == pytest.approx(2.0 * expected, rel=0.1)
    assert noise.mean().abs().item() < 3e-3


def test_few_levels_mean_few_photons():
    x_BCHW = torch.full((1, 3, 64, 64), 0.4)
    x_BCHW[..., :32] = 0.6  # two levels: two photons for white
    noise = add_poisson_noise(x_BCHW, 0.05, False, rng()) - x_BCHW
    assert noise[..., :32].std().item() == pytest.approx(0.05 * (0.6 / 2) ** 0.5, rel=0.05)


@pytest.mark.parametrize("add", [add_gaussian_noise, add_poisson_noise])
def test_range_is_kept_and_the_seed_decides(add):
    x_BCHW = torch.rand(1, 3, 32, 32, generator=rng()).round()
    first = add(x_BCHW, 25.0, False, rng())
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, add(x_BCHW, 25.0, False, rng()))
    assert not torch.equal(first, add(x_BCHW, 25.0, False, torch.Generator().manual_seed(1)))


def test_each_with_its_own_numbers_is_one_by_one():
    generators = lambda: [torch.Generator().manual_seed(i) for i in range(4)]  # noqa: E731
    images = [torch.rand(1, 3, 20 + 7 * i, 40 - 6 * i, generator=rng()) for i in range(4)]
    strength, gray, poisson = [9.0, 1.5, 20.0, 0.5], [True, True, False, False], [False, True, False, True]
    together = add_noise(images, poisson, strength, gray, generators())
    for i, own in enumerate(generators()):
        add = add_poisson_noise if poisson[i] else add_gaussian_noise
        torch.testing.assert_close(together[i], add(images[i], strength[i], gray[i], own))
