"""`realsrt compare` with tiny models."""

import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from realsrt import presets, save_model
from realsrt.cli import main
from realsrt.cli.show import Screen
from realsrt.evaluation import contact_sheet
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.models.srvgg import SRVGGConfig

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("compare")
    save_model(presets.build("tiny", 0), place / "ours.safetensors")
    torch.manual_seed(0)
    save_file(SRVGGConfig(channels=8, convs=3).build().state_dict(), place / "theirs.safetensors")
    for seed, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), np.uint8)
        imageio.write(place / name, Picture.from_array(pixels))
    return place


def run(place, output, *argv, inputs=("a.png",), models=("ours.safetensors", "theirs.safetensors")):
    files = [str(place / name) for name in inputs], [str(place / name) for name in models]
    return main(["compare", *files[0], "-n", *files[1], "-o", str(place / output), "--steps", "1", *argv])


def test_a_page_has_every_model_at_every_crop_and_stands_alone(place, capsys, monkeypatch):
    cut = []
    real = contact_sheet.crops
    monkeypatch.setattr(contact_sheet, "crops", lambda *a, **k: cut.append((a, k, real(*a, **k))) or cut[-1][2])
    assert run(place, "sheet.html", "--rows", "2", inputs=("a.png", "b.png")) == 0
    page = (place / "sheet.html").read_text("utf-8")
    assert "<title>ours, theirs, bicubic: 2 images</title>" in page
    captions = re.findall("<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == 2 * 4
    for first in range(0, 8, 4):
        assert captions[first : first + 2] == ["input", "bicubic"]
        assert re.fullmatch(r"ours  \d+\.\d\d s", captions[first + 2])
        assert re.fullmatch(r"theirs  \d+\.\d\d s", captions[first + 3])
    assert len(set(re.findall(r'src="([^"]*)"', page))) == 8
    assert not re.search(r"https?:|<script|<link|url\(", page)
    assert "a.png" in page
    assert "b.png" in page
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["model", "ours", "theirs"]
    (_, panels, between), _, _ = cut[0]
    assert list(panels)[:2] == ["input", "bicubic"]
    assert list(between) == list(panels)[2:]  # where the models differ, not where bicubic does
    assert {tuple(panel.shape) for panel in list(panels.values())[1:]} == {(1, 3, 120, 160)}


def test_images_of_one_name_go_together(place):
    (place / "deep").mkdir()
    (place / "deep" / "a.png").write_bytes((place / "b.png").read_bytes())
    (place / "a.jpg").write_bytes((place / "b.png").read_bytes())
    assert run(place, "same.html", inputs=("a.png", "a.jpg", "deep/a.png"), models=("ours.safetensors",)) == 0
    assert "3 images" in (place / "same.html").read_text("utf-8")


def test_a_sheet_as_an_image(place):
    assert run(place, "sheet.png", "--rows", "1") == 0
    assert Image.open(place / "sheet.png").width == 4 * 294 + 6


def test_one_model_is_shown_where_it_differs_from_bicubic(place):
    assert run(place, "one.html", models=("ours.safetensors",)) == 0
    page = (place / "one.html").read_text("utf-8")
    assert "differ by 0.0" not in page.split("</h2>")[0]
    assert "<h1>ours, bicubic: a.png</h1>" in page


def test_every_models_progress_is_said(place, monkeypatch):
    begun, told = [], []
    monkeypatch.setattr(Screen, "begin", lambda _, name: begun.append(name))
    monkeypatch.setattr(Screen, "windows", lambda _, *at: told.append((begun[-1:], *at)))
    assert run(place, "said.html") == 0
    assert begun == ["a.png, ours", "a.png, theirs"]
    assert {(name[0], done) for name, done, total in told if name and done == total} == {(name, 1) for name in begun}


def test_what_enlarges_twice_is_brought_to_size(place, monkeypatch):
    from realsrt.checkpoint.foreign import ForeignNetwork

    found = ForeignNetwork(lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3), 2)
    monkeypatch.setattr("realsrt.checkpoint.foreign.load_any", lambda *_, **__: found)
    assert run(place, "two.html", models=("theirs.safetensors",)) == 0
    assert "(x2, resized)" in (place / "two.html").read_text("utf-8")


def test_an_onnx_file(place):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    torch.onnx.export(
        SRVGGConfig(channels=8, convs=3).build().eval(), (torch.rand(1, 3, 16, 16),), str(place / "net.onnx"),
        dynamo=True, verbose=False,
    )  # fmt: skip
    assert run(place, "onnx.html", models=("ours.safetensors", "net.onnx")) == 0
    assert "net  " in (place / "onnx.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-o", "sheet.gif"], "a sheet is written as"),
        (["-o", "a.png/sheet.png"], "is no folder"),
        (["-o", "a.png"], "would be overwritten"),
        (["-o", "s.html", "--rows", "0"], "--rows"),
        (["-o", "s.html", "-n", "ours.safetensors"], "two are named"),
        (["-o", "s.html", "-n", "none.pth"], "no model"),
        (["-o", "s.html", "--outscale", "2"], "--outscale"),
        (["-o", "s.html", "--steps", "0", "--fidelity", "0.5"], "no effect"),
    ],
)
def test_refusals_come_before_the_work(place, capsys, monkeypatch, argv, words):
    monkeypatch.chdir(place)
    monkeypatch.setattr("realsrt.cli.compare._upscaled", lambda *_: pytest.fail("it upscaled"))
    before = sorted(path.name for path in place.iterdir())
    assert main(["compare", "a.png", "-n", "ours.safetensors", *argv]) != 0
    assert words in capsys.readouterr().err
    assert sorted(path.name for path in place.iterdir()) == before


def test_without_pillow(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert run(place, "s.html") == 2
    assert ".[metrics]" in capsys.readouterr().err
