"""`realsrt visualize` with a tiny model from a file."""

import os
import re

import numpy as np
import pytest
from PIL import Image

from realsrt import checkpoint, presets
from realsrt.cli import main
from realsrt.io import image as imageio
from realsrt.io.picture import Picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visualize")
    checkpoint.save_model(presets.build("tiny", 0), folder / "tiny.safetensors")
    for name in ("a.png", "b.png"):
        pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
        imageio.write(folder / name, Picture.from_array(pixels))
    return folder


def run(folder, output, *argv, inputs=("a.png",)):
    sources = [str(folder / name) for name in inputs]
    model = ("--model-path", str(folder / "tiny.safetensors"), "--steps", "2")
    return main(["visualize", *sources, "-o", str(folder / output), *model, *argv])


def test_a_figure_has_a_column_a_step_and_rows_a_picture(folder):
    assert run(folder, "one.png") == 0
    assert run(folder, "two.jpg", inputs=("a.png", "b.png")) == 0
    one, two = Image.open(folder / "one.png"), Image.open(folder / "two.jpg")
    assert one.width == two.width
    assert 1.8 < two.height / one.height < 2.1


def test_images_of_one_name_go_together(folder):
    (folder / "deep").mkdir()
    (folder / "deep" / "a.png").write_bytes((folder / "b.png").read_bytes())
    assert run(folder, "same.png", inputs=("a.png", "deep/a.png")) == 0


@pytest.mark.parametrize(("name", "begins"), [("v.pdf", b"%PDF"), ("v.svg", b"<?xml"), ("v.jpeg", b"\xff\xd8")])
def test_a_figure_of_every_kind(folder, name, begins):
    assert run(folder, name) == 0
    assert (folder / name).read_bytes().startswith(begins)


def test_a_name_that_is_no_text(folder):
    odd = folder / os.fsdecode(b"\xff.png")
    try:
        odd.write_bytes((folder / "a.png").read_bytes())
    except OSError:
        pytest.skip("names are text here")
    assert run(folder, "odd.html", inputs=(odd.name,)) == 0
    assert "\\udcff" in (folder / "odd.html").read_text("utf-8")


def test_a_gif_has_the_input_and_every_step(folder):
    assert run(folder, "steps.gif", "--zoom", "8,8,60,48") == 0
    gif = Image.open(folder / "steps.gif")
    assert gif.n_frames == 3
    frames = []
    for number in range(3):
        gif.seek(number)
        frames.append(np.asarray(gif.convert("RGB")))
    assert (frames[0] != frames[1]).any()
    assert (frames[1] != frames[2]).any()


def test_a_page_needs_nothing_beside_it(folder):
    assert run(folder, "steps.html") == 0
    page = (folder / "steps.html").read_text()
    assert page.count("data:image/") == 9
    assert not re.search(r"(src|href)=\"?https?:", page)
    assert 'max="2"' in page
    assert "@" not in re.sub(r"data:image/[^\"]*", "", page).replace("@media", "")


@pytest.mark.parametrize(
    ("output", "argv", "inputs", "word"),
    [
        ("x.bmp", (), ("a.png",), ".png, .jpg"),
        ("x.gif", (), ("a.png", "b.png"), "shows one picture"),
        ("x.png", ("--zoom", "0,0,900,9"), ("a.png",), "not a box inside the picture of 160x120"),
        ("x.png", ("--zoom", "0,0,9,9"), ("a.png", "b.png"), "one --zoom for each picture"),
        ("a.png", (), ("a.png",), "is an input too"),
    ],
)
def test_what_is_refused(folder, capsys, output, argv, inputs, word):
    assert run(folder, output, *argv, inputs=inputs) == 2
    assert word in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert run(folder, "none.png") == 2
    assert "pip install '.[visualize]'" in capsys.readouterr().err
