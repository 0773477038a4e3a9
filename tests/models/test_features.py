from pathlib import Path

import pytest
import torch

from realsrt.errors import CheckpointError, UsageError
from realsrt.losses import load_squeeze_features
from realsrt.models.features import TAPS, SqueezeFeatures, squeeze_distance

WEIGHTS = Path(__file__).resolve().parents[2] / "recipes" / "features" / "squeezenet1_1.safetensors"


@pytest.fixture(scope="module")
def features() -> SqueezeFeatures:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SqueezeFeatures()


@pytest.fixture(scope="module")
def picture_BCHW() -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 3, 9, 9, generator=rng)
    return torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic").clamp(0, 1)


def test_taps_have_the_widths_of_squeezenet(features, picture_BCHW):
    assert [f.shape[1] for f in features(picture_BCHW)] == [64, 128, 256, 384, 384, 512, 512]
    assert sum(p.numel() for p in features.parameters()) == 722_496
    assert not any(p.requires_grad for p in features.parameters())


def test_runs_no_deeper_than_the_deepest_tap(features, picture_BCHW):
    ran = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in features.named_children()
    ]
    maps = features(picture_BCHW, ("fire3", "conv1"))
    for hook in hooks:
        hook.remove()
    assert ran == ["conv1", "fire2", "fire3"]
    assert [f.shape[1] for f in maps] == [128, 64]


def test_first_layer_sees_bgr_minus_mean(features):
    x_BCHW = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    bgr = x_BCHW[:, [2, 1, 0]] * 255 - torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(features(x_BCHW, ("conv1",))[0], features.conv1(bgr).relu())


def test_unknown_tap_is_refused(features, picture_BCHW):
    with pytest.raises(UsageError, match="fire4"):
        features(picture_BCHW, ("fire4",))


def test_distance_is_zero_for_equals_symmetric_and_per_sample(features, picture_BCHW):
    other = picture_BCHW.flip(3)
    assert squeeze_distance(features, picture_BCHW, picture_BCHW).abs().max() == 0
    d_B = squeeze_distance(features, picture_BCHW, other)
    assert d_B.shape == (2,)
    assert (d_B > 0).all()
    assert (d_B <= 4 * len(TAPS)).all()
    torch.testing.assert_close(d_B, squeeze_distance(features, other, picture_BCHW))
    torch.testing.assert_close(d_B[1:], squeeze_distance(features, picture_BCHW[1:], other[1:]))


def test_distance_matches_its_definition(features, picture_BCHW):
    other = picture_BCHW.flip(2)
    expected = torch.zeros(2)
    for a, b in zip(features(picture_BCHW), features(other), strict=True):
        cosine = torch.nn.functional.cosine_similarity(a, b, dim=1)
        expected += (2 - 2 * cosine).mean((1, 2))  # |u-v|^2 of unit vectors
    torch.testing.assert_close(squeeze_distance(features, picture_BCHW, other), expected, rtol=1e-3, atol=1e-4)


def test_gradient_reaches_the_picture_even_when_flat(features, picture_BCHW):
    x_BCHW = torch.zeros_like(picture_BCHW).requires_grad_()
    squeeze_distance(features, x_BCHW, picture_BCHW).sum().backward()
    assert x_BCHW.grad is not None
    assert x_BCHW.grad.isfinite().all()
    assert x_BCHW.grad.abs().sum() > 0


def test_half_precision_state_is_kept_in_single(features, picture_BCHW):
    loaded = SqueezeFeatures.from_state({key: value.half() for key, value in features.state_dict().items()}, "f")
    assert loaded.conv1.weight.dtype == torch.float32
    assert not loaded.conv1.weight.requires_grad
    torch.testing.assert_close(loaded(picture_BCHW)[0], features(picture_BCHW)[0], rtol=1e-2, atol=1.0)


def test_wrong_states_are_refused_by_key(features):
    state = features.state_dict()
    without = {key: value for key, value in state.items() if key != "fire5.expand1x1.bias"}
    with pytest.raises(CheckpointError, match=r"^w\.st: .*missing key 'fire5.expand1x1.bias'"):
        SqueezeFeatures.from_state(without, "w.st")
    with pytest.raises(CheckpointError, match="unexpected key 'extra'"):
        SqueezeFeatures.from_state({**state, "extra": torch.zeros(1)}, "w.st")
    with pytest.raises(CheckpointError, match=r"conv1.bias.*\(63,\).*\(64,\)"):
        SqueezeFeatures.from_state({**state, "conv1.bias": torch.zeros(63)}, "w.st")


def test_trained_features_rank_blur_by_strength():
    features = load_squeeze_features(WEIGHTS)
    rng = torch.Generator().manual_seed(3)
    sharp = torch.rand(1, 3, 64, 64, generator=rng).round()
    mild, strong = (torch.nn.functional.avg_pool2d(sharp, k, 1, k // 2, count_include_pad=False) for k in (3, 9))
    assert 0 < squeeze_distance(features, mild, sharp).item() < squeeze_distance(features, strong, sharp).item()
