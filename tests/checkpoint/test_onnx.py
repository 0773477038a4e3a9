"""The exported parts, joined by NumPy alone, against the model in PyTorch."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from realsrt import presets
from realsrt.checkpoint import load_model
from realsrt.checkpoint.foreign import load_any
from realsrt.cli import main
from realsrt.errors import CheckpointError, RealSRTError, UsageError
from realsrt.io.image import read
from realsrt.model import RealSRT

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from realsrt.checkpoint import onnx  # noqa: E402
from realsrt.models.trunk import Way, choose  # noqa: E402


@pytest.fixture(autouse=True)
def always_whole(monkeypatch):
    """The files restore inputs whole; here PyTorch does, too."""
    for place in ("realsrt.inference.trunk_image.choose", "realsrt.models.trunk.choose"):
        monkeypatch.setattr(place, lambda costs, *given, **more: choose(costs[: len(costs) // len(Way)], *given))


@pytest.fixture(
    scope="module",
    params=["both", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tiny", "tiny_paper"))],
)
def exported(request, tmp_path_factory):
    """A preset, or ("both") one whose generator sees the input as the paper's does and whose critic as ours."""
    config = presets.get("tiny" if request.param == "both" else request.param)
    if request.param == "both":
        seen = {"condition": "tokens", "injection": "cross", "condition_depth": 1}
        config = replace(config, generator=replace(config.generator, **seen))
    torch.manual_seed(3)
    model = RealSRT(config).eval()
    if config.critic_head == "code":
        model.critic.knots[1, 1:-1] = model.critic.knots[0, 1:-1] / 2 + 1  # as if fitted
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
        order = confidence.argsort(1, kind="stable")[:, :left]
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
    # two tokens may be as believable to the last bit, and either be generated again
    assert (ids == out.ids.flatten(1).numpy()).mean() > 0.99
    assert np.isclose(confidence, out.steps[-1].confidence.numpy(), atol=0.02).mean() > 0.99
    assert np.isclose(image, out.image.numpy(), atol=1e-3).mean() > 0.99


def test_files(exported):
    _, folder, paths = exported
    assert [path.name for path in paths] == [
        "guide.onnx", "generator.onnx", "critic.onnx", "decoder.onnx", "realsrt.json"
    ]  # fmt: skip
    assert all(path.parent == folder and path.stat().st_size for path in paths)
    with pytest.raises(CheckpointError, match=r"guide\.onnx is the guide alone; realsrt export"):
        load_any(str(folder / "guide.onnx"))


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


def psnr(a, b):
    return -10 * np.log10(np.square(a - b).mean() + 1e-20)


@pytest.mark.slow
@pytest.mark.parametrize("preset, steps", [("tiny", 0), ("tiny", 1), ("tiny", 2), ("tiny_paper", 2)])
def test_one_file_makes_the_same_images_of_any_size(tmp_path, preset, steps):
    model = presets.build(preset, 3)
    (path,) = onnx.export_whole(model, tmp_path / "whole.onnx", denoise=0.3, steps=steps)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    shown = {entry.name: entry.shape[1:] for entry in (*session.get_inputs(), *session.get_outputs())}
    if preset == "tiny":
        confidence = {"confidence": ["height/2", "width/2"]} if steps else {}
        assert shown == {"lq": [3, "height", "width"], "image": [3, "4*height", "4*width"]} | confidence
    for size in [(64, 64)] if preset == "tiny_paper" else [(64, 64), (26, 48)]:
        lq = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(1))
        denoise = None if model.trunk is None else 0.3
        with torch.inference_mode():
            made = model.super_resolve(lq, num_steps=steps, denoise=denoise) if steps else None
            want = [made.image, made.confidence] if made else [model.guide(lq, denoise=denoise).up]
        found = session.run(None, {"lq": lq.numpy()})
        assert len(found) == len(want)
        for own, other in zip(found, want, strict=True):
            assert own.shape == other.shape
            assert psnr(own, other.numpy()) > 50


def test_the_steps_are_those_of_the_sampler():
    """The unrolled loop, in PyTorch, where every step re-masks."""
    model = presets.build("tiny", 3)
    lq = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        image, confidence = onnx._WholePart(model, 0.3, 3)(lq)
        want = model.super_resolve(lq, num_steps=3, denoise=0.3)
    assert torch.equal(image, want.image)
    assert torch.equal(confidence, want.confidence)


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    for write in (onnx.export, onnx.export_whole):
        with pytest.raises(UsageError, match=r"\.\[onnx\]"):
            write(presets.build("tiny", 0), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 2])
def test_the_embedded_model_as_one_file(tmp_path, steps):
    """On a photograph larger than a window."""
    path = tmp_path / "small.onnx"
    assert main(["export", str(path), "--steps", str(steps), "--denoise", "0.7"]) == 0
    pixels = read(Path(__file__).parents[2] / "examples/sign.jpg").pixels[:96, :128, :3]
    lq = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()
    with torch.inference_mode():
        model = load_model("small")
        want = model.super_resolve(lq, num_steps=2, denoise=0.7).image if steps else model.guide(lq, denoise=0.7).up
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"lq": lq.numpy()})[0]
    assert found.shape == want.shape
    assert psnr(found, want.numpy()) > 50


@pytest.mark.slow
def test_the_embedded_model_by_the_command(tmp_path, capsys):
    assert main(["export", str(tmp_path / "parts")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    lq = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    image, _, confidence = generate(tmp_path / "parts", lq, 2)
    assert image.shape == (1, 3, 256, 256)
    assert 0 < confidence.mean() < 1
