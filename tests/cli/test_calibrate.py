"""`realsrt calibrate`, and the mask of `realsrt upscale --trust`, with a tiny model from a file."""

import json

import numpy as np
import pytest

from realsrt import Upscaler, checkpoint, presets
from realsrt.cli import main
from realsrt.evaluation import trust
from realsrt.evaluation.trust import load_calibration, trust_map
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

PAIRS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pairs of 8x8 and 32x32, a tiny model and its calibration."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for role in ("lq", "hr"):
        (folder / role).mkdir()
    for number in range(PAIRS):
        small = rng.integers(0, 255, (8, 8, 3), np.uint8)
        imageio.write(folder / "lq" / f"{number}.png", Picture.from_array(small))
        large = small.repeat(4, 0).repeat(4, 1)
        imageio.write(folder / "hr" / f"{number}.png", Picture.from_array(large))
    checkpoint.save_model(presets.build("tiny", 0), folder / "tiny.safetensors")
    assert main([*calibrating(folder), "--about", "noise"]) == 0
    return folder


def calibrating(folder, *more, output="c.json"):
    model = ("--model-path", str(folder / "tiny.safetensors"), "-g", "cpu")
    return ["calibrate", str(folder / "lq"), str(folder / "hr"), "-o", str(folder / output), *model, *more]


def upscaling(folder, output, *more):
    model = ("--model-path", str(folder / "tiny.safetensors"), "-g", "cpu")
    return ["upscale", str(folder / "lq" / "0.png"), "-o", str(output), *model, *more]


def test_a_calibration_is_of_these_weights_options_and_pairs(folder):
    found = load_calibration(folder / "c.json")
    assert found.pairs == PAIRS
    assert found.about == "10 pairs: noise"
    assert found.model_sha256 == checkpoint.load_model(folder / "tiny.safetensors").info.sha256
    assert found.options["precision"] == "float32"
    assert found.options["outscale"] == 4.0


def test_no_pair_is_overwritten_and_odd_words_are_kept(folder, capsys):
    assert main(calibrating(folder, output="hr/0.png")) == 2
    assert "is an input too" in capsys.readouterr().err
    before = (folder / "tiny.safetensors").read_bytes()
    assert main(calibrating(folder, output="tiny.safetensors")) == 2
    assert "is an input too" in capsys.readouterr().err
    assert (folder / "tiny.safetensors").read_bytes() == before
    assert main([*calibrating(folder, output="odd.json"), "--about", "a\udcff\nb"]) == 0
    assert load_calibration(folder / "odd.json").about == r"10 pairs: a\udcff\nb"


def test_the_mask_is_where_trust_is_above_the_threshold(folder, tmp_path, capsys):
    model = checkpoint.load_model(folder / "tiny.safetensors")
    confidence = Upscaler(model, "cpu").upscale(str(folder / "lq" / "0.png")).confidence
    middle = float(np.median(trust_map(confidence)))
    document = json.loads((folder / "c.json").read_text())
    mean, (group,) = float(confidence.mean(dtype=float)), document["groups"]
    document["groups"] = [  # others of which all or nothing would be in the mask
        group | {"up_to": up_to, "scores": {"12": [threshold] * PAIRS}}
        for up_to, threshold in ((mean - 1e-4, -1), (mean + 1e-4, middle), (1, 2))
    ]
    (tmp_path / "middle.json").write_text(json.dumps(document))
    argv = upscaling(folder, tmp_path / "a.png", "--trust", "0.9", "--calibration", str(tmp_path / "middle.json"))
    assert main(argv) == 0
    told = capsys.readouterr()
    assert "is empty" not in told.err
    assert "at most 12 levels of 255 in 90 % of images like those calibrated on (10 pairs: noise)" in told.err
    mask = imageio.read(tmp_path / "a_trust.png").pixels
    wanted = trust_map(confidence) > middle
    assert mask.shape == (32, 32, 1)
    assert (mask[..., 0] == 255 * wanted.repeat(8, 0).repeat(8, 1)).all()
    assert 0 < wanted.mean() < 1
    assert json.loads(told.out)["trusted"] == round(float(wanted.mean()), 4)


@pytest.mark.parametrize("images, which", [(1, "lq/0.png"), (2, "2 of 2 images")])
def test_an_empty_mask_is_said_at_the_end(folder, tmp_path, capsys, images, which):
    document = json.loads((folder / "c.json").read_text())
    document["groups"] = [group | {"scores": {"12": [2] * PAIRS}} for group in document["groups"]]
    (tmp_path / "none.json").write_text(json.dumps(document))
    argv = upscaling(folder, tmp_path / "out", "--trust", "0.9", "--calibration", str(tmp_path / "none.json"))
    argv[1:2] = [str(folder / "lq" / f"{number}.png") for number in range(images)]
    assert main(argv) == 0
    told = capsys.readouterr()
    assert [json.loads(line)["trusted"] for line in told.out.splitlines()] == [0] * images
    last = told.err.splitlines()[-1]
    assert "the mask of trust is empty, nothing is promised: " in last
    assert f"{which}; docs/trust.md" in last


def test_what_is_of_an_earlier_result_is_said_in_one_line(folder, tmp_path, capsys):
    out = tmp_path / "out"
    argv = upscaling(folder, out)
    argv[1:2] = [str(folder / "lq" / f"{number}.png") for number in range(2)]
    trust = "--trust", "0.9", "--calibration", str(folder / "c.json")
    assert main([*argv, *trust, "--confidence", "--save-steps"]) == 0
    assert "made before" not in capsys.readouterr().err
    before = {path: path.read_bytes() for path in out.glob("*_*.png")}
    assert main([*argv, "--steps", "1"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "realsrt: note: named like files of these images, but made before: "
        f"2 masks of trust ({out / '0_trust.png'}, …), 2 confidence maps ({out / '0_confidence.png'}, …), "
        f"2 images of a first step ({out / '0_step1.png'}, …)"
    ]
    assert before == {path: path.read_bytes() for path in out.glob("*_*.png")}
    (out / "1_trust.png").unlink()
    assert main([*argv, "--resume", *trust, "--save-steps"]) == 0
    assert "made before: 2 confidence maps (" in capsys.readouterr().err


def test_images_of_such_names_are_no_maps_and_masks(folder, tmp_path, capsys):
    own = [tmp_path / name for name in ("a.png", "a_trust.png", "b.png", "b_confidence.png")]
    for path in own:
        path.write_bytes((folder / "lq" / "0.png").read_bytes())
    argv = upscaling(folder, tmp_path / "out")
    for images in (own[:2], own[2:], own[:3:2]):  # both now, or one in an earlier run
        assert main([argv[0], *map(str, images), *argv[2:]]) == 0
        assert "made before" not in capsys.readouterr().err


def test_of_a_regenerated_image_no_mask_is_left_unsaid(folder, tmp_path, capsys):
    argv = upscaling(folder, tmp_path / "a.png")
    assert main([*argv, "--trust", "0.9", "--calibration", str(folder / "c.json")]) == 0
    capsys.readouterr()
    assert main(["regenerate", *argv[1:], "--box", "0,0,16,16"]) == 0
    assert f"made before: 1 mask of trust ({tmp_path / 'a_trust.png'})" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more, said",
    [
        (("--trust", "0.9"), "there is no calibration for these weights"),
        (
            ("--trust", "0.95", "--calibration", "c.json"),
            "10 pairs can promise a trust of up to 0.909, not of 0.95 (needs 19): ",
        ),
        (("--trust", "0.9", "--calibration", "c.json", "--trust-error", "7"), "no thresholds for a mean error of 7"),
        (
            ("--trust", "0.9", "--calibration", "c.json", "--steps", "1"),
            "other options: --steps not given (now 1); give",
        ),
        (("--trust", "0.9", "--calibration", "c.json", "-s", "2"), "--outscale 4 (now 2)"),
        (("--trust", "0.9", "--calibration", "c.json", "-r", "9x8"), "--resize not given (now 9x8)"),
        (
            ("--trust", "0.9", "--calibration", "c.json", "--precision", "bf16"),
            " (now all in bfloat16, as with --precision bf16); give the same",
        ),
        (("--trust", "0.9", "--steps", "0"), "0 steps give the base image alone"),
        (("--calibration", "c.json"), "give that too"),
        (("--trust", "0.9", "--calibration", "tiny.safetensors"), "is no calibration"),
    ],
)
def test_what_cannot_be_promised_is_refused_before_anything_is_written(folder, tmp_path, capsys, more, said):
    more = [str(folder / word) if word.endswith((".json", ".safetensors")) else word for word in more]
    assert main(upscaling(folder, tmp_path / "out" / "a.png", *more)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_that_change_nothing_may_be_given(folder, tmp_path):
    window = str(presets.get("tiny").window)
    argv = upscaling(folder, tmp_path / "a.png", "--trust", "0.9", "--calibration", str(folder / "c.json"))
    assert main([*argv, "--tile", window, "--resize", "32x32", "--seed", "3"]) == 0
    assert main([*argv, "--tile", str(2 * int(window))]) == 2


def test_a_size_counts_as_x4_only_if_every_image_becomes_so(folder, tmp_path, capsys):
    imageio.write(tmp_path / "b.png", Picture.from_array(np.zeros((8, 9, 3), np.uint8)))
    argv = upscaling(folder, tmp_path / "out", "--trust", "0.9", "--calibration", str(folder / "c.json"), "-r", "32x32")
    assert main([argv[0], str(tmp_path / "b.png"), *argv[1:]]) == 2
    assert "--resize not given (now 32x32)" in capsys.readouterr().err


def test_a_calibration_of_other_weights_is_refused(folder, tmp_path, capsys):
    checkpoint.save_model(presets.build("tiny", 1), tmp_path / "other.safetensors")
    argv = upscaling(folder, tmp_path / "a.png", "--trust", "0.9", "--calibration", str(folder / "c.json"))
    argv[argv.index("--model-path") + 1] = str(tmp_path / "other.safetensors")
    assert main(argv) == 2
    assert "is of other weights" in capsys.readouterr().err


def test_a_calibration_is_of_the_precision_that_windows_were_computed_in(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("realsrt.inference.runner.cpu_multiplies_bf16", lambda: True)
    assert main(calibrating(folder, output=tmp_path / "c.json")) == 0
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["options"]["window_precision"] == "bfloat16"
    argv = upscaling(folder, tmp_path / "out" / "a.png", "--trust", "0.9", "--calibration", str(tmp_path / "c.json"))
    assert main([*argv, "--fp32"]) == 2
    told = "windows in bfloat16, as without --fp32 on CPUs that multiply it (now all in float32, as with --fp32); give"
    assert f"other options: {told}" in capsys.readouterr().err
    assert main(argv) == 0
    monkeypatch.setattr("realsrt.inference.runner.cpu_multiplies_bf16", lambda: False)
    assert main(argv) == 2
    del document["options"]["window_precision"]  # as files were before: not known, so taken for any
    (tmp_path / "c.json").write_text(json.dumps(document))
    assert main([*argv, "--fp32"]) == 0


def test_every_pair_must_count(folder, tmp_path, capsys):
    stray = folder / "lq" / "stray.png"
    stray.write_bytes((folder / "lq" / "0.png").read_bytes())
    try:
        assert main(calibrating(folder, output=tmp_path / "c.json")) == 2
        assert "stray.png has no partner (1 such files)" in capsys.readouterr().err
        imageio.write(folder / "hr" / "stray.png", Picture.from_array(np.zeros((32, 36, 3), np.uint8)))
        assert main(calibrating(folder, output=tmp_path / "c.json")) == 1
        assert "is 36x32 px, but the input's result is 32x32" in capsys.readouterr().err
        (folder / "hr" / "stray.png").write_bytes(b"")
        assert main(calibrating(folder, output=tmp_path / "c.json")) == 1
    finally:
        stray.unlink()
        (folder / "hr" / "stray.png").unlink(missing_ok=True)
    assert not (tmp_path / "c.json").exists()


def test_the_table_tells_how_much_of_an_image_each_mask_takes(folder, capsys):
    assert main(calibrating(folder, "--about", "noise")) == 0
    told = capsys.readouterr()
    head, *rows = (line.split("\t") for line in told.out.splitlines())
    assert head[:5] == ["confidence", "pairs", "trust", "error ≤ 4", "error ≤ 6"]
    assert [row[:3] for row in rows] == [["any", "10", "0.8"], ["any", "10", "0.9"]]
    assert "note: 10 pairs can promise a trust of up to 0.909, not of 0.95 (needs 19), whatever" in told.err


def test_the_table_of_few_pairs_has_what_they_can_promise(folder, tmp_path, capsys):
    for role in ("lq", "hr"):
        (tmp_path / role).mkdir()
        for number in range(3):
            (tmp_path / role / f"{number}.png").write_bytes((folder / role / f"{number}.png").read_bytes())
    argv = calibrating(folder, output=tmp_path / "c.json")
    argv[1:3] = str(tmp_path / "lq"), str(tmp_path / "hr")
    assert main(argv) == 0
    told = capsys.readouterr()
    assert [line.split("\t")[:3] for line in told.out.splitlines()[1:]] == [["any", "3", "0.75"]]
    short = "0.8 (needs 4), 0.9 (needs 9), 0.95 (needs 19)"
    assert f"note: 3 pairs can promise a trust of up to 0.75, not of {short}, whatever the error" in told.err
    assert load_calibration(tmp_path / "c.json").thresholds(0.75, 12)


def test_many_pairs_are_grouped_by_mean_confidence(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trust, "LEAST_PAIRS", 4)
    assert main(calibrating(folder, output=tmp_path / "c.json")) == 0
    low, high = load_calibration(tmp_path / "c.json").groups
    assert (low.pairs, high.pairs) == (5, 5)
    up = Upscaler(checkpoint.load_model(folder / "tiny.safetensors"), "cpu")
    means = [up.upscale(str(path)).confidence.mean(dtype=float) for path in (folder / "lq").iterdir()]
    assert low.up_to == pytest.approx(np.median(means))
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    end = f"{low.up_to:.3f}"
    assert [row[:3] for row in rows] == [[f"up to {end}", "5", "0.8"], [f"above {end}", "5", "0.8"]]
