"""The exported parts, joined by NumPy alone, against the model in PyTorch."""

import json

import numpy as np
import pytest
import torch

from realsrt import presets
from realsrt.cli import main
from realsrt.errors import RealSRTError, UsageError

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from realsrt.checkpoint import onnx  # noqa: E402


@pytest.fixture(scope="module", params=["tiny", "tiny_paper"])
def exported(request, tmp_path_factory):
    model = presets.build(request.param, 3).eval()
    folder = tmp_path_factory.mktemp(request.param)
    return model, folder, onnx.export(model, folder)


def run(folder, name, **given):
    session = ort.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    takes = {entry.name for entry in session.get_inputs()}
    names = [entry.name for entry in session.get_outputs()]
    return dict(zip(names, session.run(None, {k: v for k, v in given.items() if k in takes}), strict=True))


def generate(folder, lq, steps):
    """The loop of docs/export.md."""
    facts = json.loads((folder / "realsrt.json").read_text())
    guide = {"lq": lq, **run(folder, "guide", lq=lq)}
    ids = np.full((len(lq), facts["tokens"]), facts["codes"], np.int64)
    mask = np.ones_like(ids, bool)
    for left in facts["masked_after_step"][str(steps)]:
        choice = run(folder, "generator", ids=ids, mask=mask, **guide)["choice"]
        ids = np.where(mask, choice, ids)
        confidence = run(folder, "critic", ids=ids, **guide)["confidence"]
        order = np.where(mask, confidence, np.inf).argsort(1, kind="stable")[:, :left]
        mask = np.zeros_like(mask)
        np.put_along_axis(mask, order, True, 1)
    return run(folder, "decoder", ids=ids, **guide)["image"], ids, confidence


@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("steps", [1, 4])
def test_numpy_alone_makes_the_same_pictures(exported, windows, steps):
    model, folder, _ = exported
    lq = torch.rand(windows, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        out = model.super_resolve(lq, num_steps=steps, denoise=None if model.trunk is None else 0.5)
    image, ids, confidence = generate(folder, lq.numpy(), steps)
    assert (ids == out.ids.flatten(1).numpy()).mean() > 0.99
    np.testing.assert_allclose(confidence, out.steps[-1].confidence.numpy(), atol=0.02)
    np.testing.assert_allclose(image, out.image.numpy(), atol=1e-3)


def test_files(exported):
    _, folder, paths = exported
    assert [path.name for path in paths] == [
        "guide.onnx", "generator.onnx", "critic.onnx", "decoder.onnx", "realsrt.json"
    ]  # fmt: skip
    assert all(path.parent == folder and path.stat().st_size for path in paths)


def test_what_computes_something_else_is_refused(tmp_path, monkeypatch):
    class Liar:
        def __init__(self, *_, **__):
            self.session = honest(*_, **__)

        def get_inputs(self):
            return self.session.get_inputs()

        def run(self, *args):
            return [x + 1 for x in self.session.run(*args)]

    honest = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", Liar)
    with pytest.raises(RealSRTError, match=r"guide\.onnx: does not compute"):
        onnx.export(presets.build("tiny", 0), tmp_path)


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"\.\[onnx\]"):
        onnx.export(presets.build("tiny", 0), tmp_path)


@pytest.mark.slow
def test_the_embedded_model_by_the_command(tmp_path, capsys):
    assert main(["export", str(tmp_path / "parts")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    lq = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    image, _, confidence = generate(tmp_path / "parts", lq, 2)
    assert image.shape == (1, 3, 256, 256)
    assert 0 < confidence.mean() < 1
