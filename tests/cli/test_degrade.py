import json

import numpy as np
import pytest

from realsrt.cli import main
from realsrt.degradations import PROTOCOLS
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

pytest.importorskip("kornia")


def pictures(folder, names, height=70, width=97):
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
        imageio.write(folder / name, Picture.from_array(pixels))


def test_sizes_names_and_bad_files(tmp_path, capsys):
    pictures(tmp_path / "hr", ["a.png", "b.jpg"])
    (tmp_path / "hr" / "bad.png").write_text("words")
    assert main(["degrade", str(tmp_path / "hr"), str(tmp_path / "lq"), "--seed", "3"]) == 1
    captured = capsys.readouterr()
    assert "bad.png" in captured.err
    assert captured.err.count("\n") == 1
    assert [json.loads(line)["status"] for line in captured.out.splitlines()] == ["done", "done", "failed"]
    assert sorted(path.name for path in (tmp_path / "lq").iterdir()) == ["a.png", "b.png"]
    assert imageio.read(tmp_path / "lq/a.png").pixels.shape == (17, 24, 3)


@pytest.mark.parametrize("command", [["degrade"], ["train"]])
def test_the_help_names_every_protocol(capsys, command):
    if command == ["train"]:
        pytest.importorskip("accelerate")
    assert main([*command, "--help"]) == 0
    told = capsys.readouterr().out
    assert [name for name in PROTOCOLS if name not in told] == []


def test_a_file_depends_on_its_name_and_the_seed_alone(tmp_path):
    pictures(tmp_path / "hr", ["a.png", "b.png"])
    pictures(tmp_path / "alone", ["a.png"])

    def made(source, target, seed, name="a.png"):
        assert main(["degrade", str(tmp_path / source), str(tmp_path / target), "--seed", seed]) == 0
        return (tmp_path / target / name).read_bytes()

    first = made("hr", "x", "0")
    assert made("alone", "y", "0") == first
    assert made("alone", "z", "1") != first


def test_too_small_a_picture_is_named(tmp_path, capsys):
    pictures(tmp_path / "hr", ["a.png"], 3, 64)
    assert main(["degrade", str(tmp_path / "hr"), str(tmp_path / "lq")]) == 1
    assert "a.png: 64x3 is too small to shrink 4 times" in capsys.readouterr().err


def test_protocols_and_usage(tmp_path, capsys):
    pictures(tmp_path / "hr", ["a.png"], 64, 64)
    assert main(["degrade", str(tmp_path / "hr"), str(tmp_path / "lq"), "--protocol", "bicubic", "--scale", "2"]) == 0
    assert imageio.read(tmp_path / "lq/a.png").width == 32
    capsys.readouterr()
    assert main(["degrade", str(tmp_path / "hr"), str(tmp_path / "lq2"), "--protocol", "nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err
    assert main(["degrade", str(tmp_path / "hr"), str(tmp_path / "hr")]) == 2
    capsys.readouterr()
    assert main(["degrade", str(tmp_path / "hr/a.png"), str(tmp_path / "a.jpg")]) == 2
    assert "a.jpg: low-quality images are written as PNG" in capsys.readouterr().err
    assert main(["degrade", str(tmp_path / "hr/a.png"), str(tmp_path / "a.png")]) == 0
    assert main(["degrade", str(tmp_path / "hr/a.png"), str(tmp_path / "folder.jpg") + "/"]) == 0
    assert imageio.read(tmp_path / "folder.jpg/a.png").width == 16
