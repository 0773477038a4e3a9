"""`realsrt regenerate` with a tiny model from a file."""

import json
from html import unescape

import numpy as np
import pytest

from realsrt import checkpoint, presets
from realsrt.cli import main
from realsrt.cli.options import ModelArgs
from realsrt.io import image as imageio
from realsrt.io.picture import Picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regenerate")
    checkpoint.save_model(presets.build("tiny", 0), folder / "tiny.safetensors")
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    imageio.write(folder / "in.png", Picture(pixels, density=(4.0, 4.0)))
    ran = ["upscale", str(folder / "in.png"), "-o", str(folder / "plain.png"), "--model-path"]
    assert main([*ran, str(folder / "tiny.safetensors")]) == 0
    return folder


def run(folder, *argv, output="out.png", source="in.png"):
    model = ("--model-path", str(folder / "tiny.safetensors"))
    return main(["regenerate", str(folder / source), "-o", str(folder / output), *model, *argv])


def differs(one, two):
    return (imageio.read(one).pixels != imageio.read(two).pixels).any(2)


def test_the_rest_is_what_upscale_makes(folder, capsys):
    assert run(folder, "--box", "40,32,88,72", "--seed", "3", "--confidence") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["outputs"] == [str(folder / "out.png")]
    assert len(said["scores"]) == 1
    difference = differs(folder / "out.png", folder / "plain.png")
    assert difference[32:72, 40:88].any()
    difference[24:80, 32:96] = False
    assert not difference.any()
    made = imageio.read(folder / "out.png")
    assert made.density == (4.0, 4.0)
    assert b"regenerated" in made.metadata["xmp-data"][1]
    assert imageio.read(folder / "out_confidence.png").pixels.shape == (120, 160, 1)


def test_candidates_are_files_best_first(folder, capsys):
    assert run(folder, "--box", "40,32,88,72", "--candidates", "3", output="many.png") == 0
    said = json.loads(capsys.readouterr().out)
    assert [name.rsplit("/", 1)[1] for name in said["outputs"]] == ["many.png", "many_2.png", "many_3.png"]
    assert said["scores"] == sorted(said["scores"], reverse=True)
    assert said["temperatures"] == [1, 1, 1]
    assert differs(folder / "many.png", folder / "many_2.png").any()


def test_each_candidate_tells_its_own_temperature(folder, capsys):
    assert run(folder, "--box", "40,32,88,72", "--candidates=3", "--max-temperature=4", output="many.png") == 0
    said = json.loads(capsys.readouterr().out)
    assert sorted(said["temperatures"]) == [1, 2, 4]
    for name, temperature in zip(said["outputs"], said["temperatures"], strict=True):
        told = unescape(imageio.read(name).metadata["xmp-data"][1].decode())
        assert f'"temperature": {temperature}' in told


def test_several_boxes_come_one_after_the_other(folder):
    assert run(folder, "--box", "0,0,40,40", output="one.png") == 0
    assert run(folder, "--box", "0,0,40,40", "--box", "100,60,150,110", output="two.png") == 0
    difference = differs(folder / "one.png", folder / "two.png")
    assert difference[60:110, 100:150].any()
    assert not difference[:40, :40].any()


@pytest.mark.parametrize("size", [(120, 160), (30, 40)])
def test_a_mask_of_the_outputs_or_the_inputs_size_is_the_box_it_shows(folder, size):
    mask = np.zeros((*size, 1), np.uint8)
    step = size[0] // 30
    mask[8 * step : 18 * step, 10 * step : 22 * step] = 255
    imageio.write(folder / "mask.png", Picture.from_array(mask))
    assert run(folder, "--mask", str(folder / "mask.png"), output="masked.png") == 0
    assert run(folder, "--box", "40,32,88,72", output="boxed.png") == 0
    assert not differs(folder / "masked.png", folder / "boxed.png").any()


def test_below_a_confidence(folder):
    assert run(folder, "--below", "0.99", "--top-k", "4", "--temperature", "0.5", output="below.png") == 0
    assert differs(folder / "below.png", folder / "plain.png").mean() > 0.1


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        ((), "give one of --box"),
        (("--box", "0,0,9,9", "--below", "0.5"), "give one of --box"),
        (("--box", "0,0,9"), "--box takes X0,Y0,X1,Y1"),
        (("--box", "0,0,900,9"), "not inside the image of 160x120"),
        (("--box", "0,0,9,9", "--candidates", "0"), "candidates"),
        (("--box", "0,0,9,9", "--max-temperature", "2"), "max_temperature is for several candidates"),
        (("--box", "0,0,9,9", "--temperature", "-1"), "temperature"),
        (("--below", "0.000001"), "no place has a confidence below"),
        (("--mask", "nowhere.png"), "nowhere.png"),
    ],
)
def test_what_is_refused_is_one_line_and_nothing_is_written(folder, capsys, argv, word):
    assert run(folder, *argv, output="never.png") in (1, 2)
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1
    assert not (folder / "never.png").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ("--box", "0,0,900,9"), ("--box", "50,50,40,60"), ("--below", "1.5"), ("--box", "0,0,9,9", "--candidates", "0"),
        ("--box", "0,0,9,9", "--temperature", "-1"), ("--box", "0,0,9,9", "--top-k", "0"),
    ],
)  # fmt: skip
def test_what_can_be_known_before_the_work_is_refused_before_it(folder, monkeypatch, argv):
    monkeypatch.setattr(ModelArgs, "load", lambda _: pytest.fail("the model was loaded"))
    assert run(folder, *argv, output="never.png") == 2


def test_an_odd_mask_and_a_target_that_is_the_input_are_refused(folder, capsys):
    imageio.write(folder / "odd.png", Picture.from_array(np.full((5, 5), 255, np.uint8)))
    assert run(folder, "--mask", str(folder / "odd.png"), output="never.png") == 2
    assert "must have the output's size, 160x120, or the input's, 40x30" in capsys.readouterr().err
    assert run(folder, "--box", "0,0,9,9", output="in.png") == 2
    assert "is an input too" in capsys.readouterr().err
    for output, more in (("other.png", ("--candidates", "2")), ("other_2.png", ())):
        (folder / "other_2.png").write_bytes((folder / "in.png").read_bytes())
        assert (
            main(["regenerate", str(folder / "other_2.png"), "-o", str(folder / output), "--box", "0,0,9,9", *more])
            == 2
        )
        assert "other_2.png is an input too" in capsys.readouterr().err
    (folder / "two").mkdir()
    assert main(["regenerate", str(folder / "*.png"), "-o", str(folder / "two"), "--box", "0,0,9,9"]) == 2
    assert "regenerate takes one picture" in capsys.readouterr().err
    imageio.write(folder / "bright_2.png", Picture.from_array(np.full((120, 160), 255, np.uint8)))
    for output, more in (("bright_2.png", ()), ("bright.png", ("--candidates", "2"))):
        assert run(folder, "--mask", str(folder / "bright_2.png"), *more, output=output) == 2
        assert "bright_2.png is an input too" in capsys.readouterr().err
