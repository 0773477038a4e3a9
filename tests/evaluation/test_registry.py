import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from realsrt.errors import CheckpointError, UsageError
from realsrt.evaluation import registry
from realsrt.evaluation.niqe import FEATURES, gaussian_window
from realsrt.models.features import TAPS, SqueezeFeatures, squeeze_distance


def noise(seed: int) -> torch.Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_names():
    assert registry.parse_names("psnr, MS-SSIM,psnr") == ["psnr", "ms_ssim"]
    with pytest.raises(UsageError, match=r"no such metric: 'psrn'; choose from psnr, .*lpips"):
        registry.parse_names("psrn")
    with pytest.raises(UsageError, match="no metric"):
        registry.parse_names(" ,")


def test_squeeze_takes_the_taps_it_says(monkeypatch, tmp_path):
    torch.manual_seed(0)
    net = SqueezeFeatures()
    monkeypatch.setattr(registry, "load_squeeze_features", lambda path: net)
    all_taps, held_out = registry.build(["squeeze", "squeeze_held_out"], features=tmp_path, trained_taps=["fire3"])
    x, y = noise(0), noise(1)
    assert all_taps.measure(x, y) == pytest.approx(float(squeeze_distance(net, x, y)))
    others = [tap for tap in TAPS if tap != "fire3"]
    assert held_out.measure(x, y) == pytest.approx(float(squeeze_distance(net, x, y, others)))
    assert not all_taps.up
    with pytest.raises(UsageError, match="no such feature tap: 'fire1'"):
        registry.build(["squeeze"], trained_taps=["fire1"])
    with pytest.raises(UsageError, match="no layer left"):
        registry.build(["squeeze_held_out"], trained_taps=TAPS)


def test_a_missing_feature_file_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "a" / "b" / "registry.py"))
    with pytest.raises(UsageError, match="give --features FILE") as caught:
        registry.build(["squeeze"])
    assert "\n" not in str(caught.value)


def test_better_has_a_direction():
    up, down = registry.build(["psnr"])[0], registry.Metric("d", False, True, 4, lambda x, y: 0.0)
    assert up.better(2, 1)
    assert not up.better(1, 2)
    assert down.better(1, 2)
    assert not down.better(1, 1)


def test_pyiqa_is_named_when_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[iqa\]'") as caught:
        registry.build(["lpips"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "known", "arguments"),
    [("lpips", "lpips", 2), ("dists", "dists", 2), ("pyiqa_niqe", "niqe", 1), ("musiq", "musiq", 1),
     ("clipiqa", "clipiqa", 1), ("maniqa", "maniqa", 1)],
)  # fmt: skip
def test_pyiqa_is_asked_for_the_right_metric(monkeypatch, name, known, arguments):
    asked = []

    def create_metric(metric, device):
        asked.append((metric, device.type))
        return lambda *images: torch.tensor([[float(len(images))]])

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    (metric,) = registry.build([name])
    assert asked == [(known, "cpu")]
    assert metric.needs_target == (arguments == 2)
    assert metric.measure(noise(0), noise(1)) == arguments


def test_pyiqa_without_its_weights_is_a_usage_error(monkeypatch):
    def create_metric(metric, device):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    with pytest.raises(UsageError, match=r"musiq: pyiqa could not load it .*no route"):
        registry.build(["musiq"])


def test_shipped_niqe_parameters_are_there():
    model = registry.load_niqe(registry.NIQE)
    assert model.covariance_FF.shape == (FEATURES, FEATURES)
    torch.testing.assert_close(model.window, gaussian_window())


def test_bad_niqe_parameters_are_one_line(tmp_path):
    (tmp_path / "words.npz").write_text("words")
    np.savez(tmp_path / "other.npz", mu_pris_param=np.zeros(35), cov_pris_param=np.zeros((36, 36)))
    np.savez(tmp_path / "objects.npz", mu_pris_param=np.array([{}] * 36), cov_pris_param=np.zeros((36, 36)))
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:300])
    for name in ("words.npz", "other.npz", "objects.npz", "single.npy", "cut.npz", "missing.npz"):
        with pytest.raises(CheckpointError, match=name) as caught:
            registry.load_niqe(tmp_path / name)
        assert "\n" not in str(caught.value)
