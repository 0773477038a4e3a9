"""Wrong usage through the real command: one line, exit status 2, nothing left behind."""

from types import SimpleNamespace

import numpy as np
import pytest

from realsrt.cli import main
from realsrt.io import image as imageio
from realsrt.io.picture import Picture


def picture(folder):
    imageio.write(folder / "a.png", Picture.from_array(np.zeros((8, 9, 3), np.uint8)))
    return folder / "a.png"


@pytest.mark.parametrize(
    "options, says",
    [
        (["-s", "nan"], "outscale must be above 0"),
        (["-s", "inf"], "outscale must be above 0"),
        (["--steps", "99999"], "steps must be at most"),
        (["--quality", "101"], "quality goes from 1 to 100"),
        (["--max-pixels", "0"], "max_pixels must be at least 1"),
        (["-f", "jpg"], "contradicts --ext jpg"),
        (["--steps", "1.5"], "--steps takes a whole number, not '1.5'"),
        (["--quality=90.0"], "--quality takes a whole number, not '90.0'"),
        (["--steps", "x"], "--steps takes a whole number, not 'x'"),
        (["--denoise", "foo"], "--denoise takes a number or auto, not 'foo'"),
        (["--color-fix", "foo"], "--color-fix takes adain or wavelet or coarse or none, not 'foo'"),
        (["--steps", "0", "--fidelity", "0.5"], "--fidelity would have no effect"),
        (["--steps", "0", "--color-fix", "adain"], "--color-fix would have no effect"),
        (["--steps", "0", "--refine", "dense", "--tile", "64"], "--tile, --refine would have no effect"),
    ],
)
def test_impossible_options_are_usage(options, says, tmp_path, capfd):
    argv = ["upscale", str(picture(tmp_path)), "-o", str(tmp_path / "out.png")]
    assert main([*argv, *options]) == 2
    assert says in capfd.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_a_format_that_cannot_be_written_is_usage(tmp_path, capfd):
    argv = ["upscale", str(picture(tmp_path)), "-o", str(tmp_path / "out.bmp")]
    assert main(argv) == 2
    assert "cannot write '.bmp'" in capfd.readouterr().err


def test_no_folder_is_left_where_there_is_no_room(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10, total=10, used=0))
    target = tmp_path / "new" / "er" / "out.png"
    argv = ["upscale", str(picture(tmp_path)), "-o", str(target)]
    assert main(argv) == 1
    assert "KB are free" in capfd.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_command_that_is_none_points_to_the_help_that_is(capfd):
    assert main(["upscal"]) == 2
    assert capfd.readouterr().err.strip().endswith("See realsrt --help.")


@pytest.mark.parametrize("command", ["visualize", "regenerate"])
def test_commands_that_need_steps_refuse_none_and_do_not_offer_it(command, tmp_path, capfd):
    more = ["--below", "0.5"] if command == "regenerate" else []
    argv = [command, str(picture(tmp_path)), "-o", str(tmp_path / "out.png"), "--steps", "0", *more]
    assert main(argv) == 2
    assert "give --steps 1 or more" in capfd.readouterr().err
    assert main([command, "--help"]) == 0
    assert "0 = the base" not in " ".join(capfd.readouterr().out.split())


def test_counts_are_whole_numbers_in_json(tmp_path, capfd):
    argv = ["upscale", str(picture(tmp_path)), "-o", str(tmp_path / "out.png"), "-g", "cpu", "--steps"]
    for steps in ("0", "1"):
        assert main([*argv, steps]) == 0
        assert f'"steps": {steps},' in capfd.readouterr().out
