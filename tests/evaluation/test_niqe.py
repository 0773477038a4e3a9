import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from realsrt.evaluation.niqe import (
    FEATURES,
    NiqeModel,
    _asymmetric_gaussian,
    block_features,
    fit,
    gaussian_window,
    niqe,
)
from realsrt.evaluation.pairing import load

EXAMPLES = Path(__file__).parents[2] / "examples"


def natural(seed: int, height: int = 288, width: int = 384) -> torch.Tensor:
    """Noise with the 1/f spectrum of photographs, and some hard edges."""
    rng = torch.Generator().manual_seed(seed)
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    spectrum = torch.fft.rfft2(torch.randn(height, width, generator=rng)) / (rows**2 + columns**2).sqrt().clamp(
        min=0.01
    )
    field = torch.fft.irfft2(spectrum, s=(height, width))
    field = field / field.std()
    sharp = torch.where(field > torch.roll(field, 40, 1), field, 0.3 * field)
    return (0.5 + 0.15 * sharp).clamp(0, 1).expand(1, 3, -1, -1)


@pytest.fixture(scope="module")
def pristine() -> NiqeModel:
    return fit(natural(seed) for seed in range(8))


def test_blur_and_noise_are_worse_than_clean(pristine):
    for seed in (100, 101):
        clean = natural(seed)
        blurred = F.avg_pool2d(F.pad(clean, (2,) * 4, mode="replicate"), 5, 1)
        noise = 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
        values = niqe(torch.cat([clean, blurred, (clean + noise).clamp(0, 1)]), pristine).tolist()
        assert values[0] < 0.8 * values[1]
        assert values[0] < 0.8 * values[2]


def test_stronger_faults_are_worse_on_a_photograph(pristine):
    photograph = load(EXAMPLES / "sign.jpg")[..., :384, :384]
    noise = torch.randn(photograph.shape, generator=torch.Generator().manual_seed(0))
    values = [float(niqe((photograph + s * noise).clamp(0, 1), pristine)) for s in (0.05, 0.2)]
    assert values[0] < values[1]


def test_features_of_known_distributions():
    rng = torch.Generator().manual_seed(0)
    normal = torch.randn(1, 200_000, generator=rng, dtype=torch.float64)
    shape, left, right = (float(value) for value in _asymmetric_gaussian(normal))
    assert shape == pytest.approx(2, rel=0.03)  # a normal distribution is the generalised one of shape 2
    assert left == pytest.approx(math.sqrt(2), rel=0.02)
    assert right == pytest.approx(math.sqrt(2), rel=0.02)
    laplace = normal.sign() * -torch.log(torch.rand(normal.shape, generator=rng, dtype=torch.float64))
    assert float(_asymmetric_gaussian(laplace)[0]) == pytest.approx(1, rel=0.03)
    skewed = torch.where(normal > 0, 3 * normal, normal)
    _, left, right = _asymmetric_gaussian(skewed)
    assert float(right / left) == pytest.approx(3, rel=0.02)


def test_blocks_are_whole_ones_and_sharpness_sees_texture():
    image = torch.full((3, 100, 200), 0.5)
    image[..., 96:] = natural(0)[0, :, :100, :104]
    features_KF, sharpness_K = block_features(image, gaussian_window())
    assert features_KF.shape == (2, FEATURES)
    assert features_KF[1].isfinite().all()
    assert sharpness_K[0] < 0.1 * sharpness_K[1]


def test_the_mean_of_neighbours_has_the_sign_of_their_correlation():
    columns = (-1.0) ** torch.arange(192)
    noise = 0.03 * torch.randn(192, 192, generator=torch.Generator().manual_seed(0))
    image_HW = 0.5 + 0.03 * columns + noise  # pixels side by side are opposite, those above each other alike
    features_KF, _ = block_features(image_HW.expand(3, -1, -1), gaussian_window())
    beside, below = features_KF[:, 3], features_KF[:, 7]
    assert (beside < 0).all()
    assert (below > 0).all()


def test_the_distance_is_zero_where_the_means_agree(pristine):
    image = natural(3)
    features_KF, _ = block_features(image[0], pristine.window)
    own = NiqeModel(features_KF.mean(0), pristine.covariance_FF, pristine.window)
    assert float(niqe(image, own)) == pytest.approx(0, abs=1e-6)
    far = NiqeModel(features_KF.mean(0) + 1, torch.eye(FEATURES).double() * 2 - torch.cov(features_KF.T), own.window)
    assert float(niqe(image, far)) == pytest.approx(6, rel=1e-6)  # pooled covariance is the identity: sqrt(36)


def test_too_little_is_refused(pristine):
    with pytest.raises(ValueError, match="too small"):
        niqe(torch.rand(1, 3, 95, 300), pristine)
    with pytest.raises(ValueError, match="two blocks"):
        niqe(torch.full((1, 3, 192, 192), 0.5), pristine)
    with pytest.raises(ValueError, match="too few"):
        fit([natural(0)])
