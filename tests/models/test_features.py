from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from realsrt.checkpoint.published import load_squeeze_features
from realsrt.errors import CheckpointError, UsageError
from realsrt.models.features import TAPS, SqueezeFeatures, check_taps, squeeze_distance

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


def test_an_unknown_tap_is_refused():
    check_taps(TAPS)
    with pytest.raises(UsageError, match="fire4"):
        check_taps(["conv1", "fire4"])


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


def test_half_precision_is_kept_in_single(features, picture_BCHW, tmp_path):
    save_file({key: value.half() for key, value in features.state_dict().items()}, tmp_path / "half.safetensors")
    loaded = load_squeeze_features(tmp_path / "half.safetensors")
    assert loaded.conv1.weight.dtype == torch.float32
    assert not loaded.conv1.weight.requires_grad
    torch.testing.assert_close(loaded(picture_BCHW)[0], features(picture_BCHW)[0], rtol=1e-2, atol=1.0)


def test_files_of_other_networks_are_refused(features, tmp_path):
    def message(state):
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(CheckpointError, match=r"w\.safetensors") as caught:
            load_squeeze_features(tmp_path / "w.safetensors")
        return str(caught.value)

    state = features.state_dict()
    assert "lacks 'fire5.expand1x1.bias'" in message({k: v for k, v in state.items() if k != "fire5.expand1x1.bias"})
    assert "holds 'extra'" in message({**state, "extra": torch.zeros(1)})
    assert "'conv1.bias' has shape (63,), (64,)" in message({**state, "conv1.bias": torch.zeros(63)})


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"not weights", "no weight file")])
def test_files_that_can_not_be_read_are_refused(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"bad\.safetensors.*{reason}"):
        load_squeeze_features(tmp_path / "bad.safetensors")


def test_the_distance_falls_under_descent():
    features, taps = load_squeeze_features(WEIGHTS), ("conv1", "fire3", "fire5")
    noise_BCHW = torch.rand(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    moving = (noise_BCHW * 0.5 + 0.25).requires_grad_()
    before = squeeze_distance(features, moving, noise_BCHW, taps).mean()
    (gradient,) = torch.autograd.grad(before, moving)
    moved = moving - 0.01 * gradient / gradient.abs().max()
    assert squeeze_distance(features, moved, noise_BCHW, taps).mean() < before


def test_trained_features_rank_blur_by_strength():
    features = load_squeeze_features(WEIGHTS)
    rng = torch.Generator().manual_seed(3)
    sharp = torch.rand(1, 3, 64, 64, generator=rng).round()
    mild, strong = (torch.nn.functional.avg_pool2d(sharp, k, 1, k // 2, count_include_pad=False) for k in (3, 9))
    assert 0 < squeeze_distance(features, mild, sharp).item() < squeeze_distance(features, strong, sharp).item()
