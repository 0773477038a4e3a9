import csv
import errno
import json
import os

import numpy as np
import pytest

from realsrt.cli import main
from realsrt.errors import ImageError
from realsrt.evaluation import pairing, registry
from realsrt.evaluation.metrics import psnr, psnr_y, ssim
from realsrt.evaluation.niqe import FEATURES
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

pytest.importorskip("torchmetrics")


def pictures(folder, names, noise=0.0, size=(48, 56)):
    """The same picture for the same position, with the given amount of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(60, 190, (*size, 3)).astype(np.float64)
        pixels += noise * np.random.default_rng(100 + seed).standard_normal(pixels.shape)
        imageio.write(folder / name, Picture.from_array(pixels.clip(0, 255).round().astype(np.uint8)))
    return folder


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "good", ["a_x4.png", "b_x4.png", "c_x4.png"], 4)
    pictures(tmp_path / "bad", ["a_x4.png", "b_x4.png", "c_x4.png"], 12)
    for number, folder in enumerate(("hr6", "good6", "bad6")):
        pictures(tmp_path / folder, [f"{name}.png" for name in "abcdef"], 6 * number, size=(16, 20))
    pictures(tmp_path / "hr", ["a.png", "b.png", "c.png"])
    return tmp_path


def run(capsys, status, *argv):
    assert main(["evaluate", *argv]) == status
    captured = capsys.readouterr()
    return [json.loads(line) for line in captured.out.splitlines()], captured.err


@pytest.mark.parametrize("option, file", [("--sheet", "good/a_x4.png"), ("--csv", "hr/a.png"), ("--json", "hr/a.png")])
def test_no_picture_is_overwritten(folders, capsys, option, file):
    before = (folders / file).read_bytes()
    _, err = run(capsys, 2, "good", "--target", "hr", "--suffix", "_x4", option, file)
    assert err == f"realsrt: error: {file} is an input too and would be overwritten; give another name\n"
    assert (folders / file).read_bytes() == before


def test_names_that_are_no_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"\xff")
    try:
        pictures(tmp_path / "hr", [f"{odd}.png"])
    except ImageError:
        pytest.skip("names are text here")
    pictures(tmp_path / "lr", [f"{odd}.png"], 9)
    run(capsys, 0, "lr", "--target", "hr", "--csv", "out.csv", "--json", "out.json", "--sheet", "out.html")
    (found,) = json.loads((tmp_path / "out.json").read_text("utf-8"))["pictures"]
    assert (found["name"], found["target"]) == (odd, f"hr/{odd}.png")
    for file in ("out.csv", "out.html"):
        assert "\\udcff" in (tmp_path / file).read_text("utf-8")


def test_values_are_those_of_the_metrics(folders, capsys):
    lines, err = run(
        capsys, 0, "good", "--target", "hr", "--suffix", "_x4", "--metrics", "psnr,psnr-y,ssim", "--crop-border", "4",
        "--csv", "out.csv", "--json", "out.json",
    )  # fmt: skip
    assert err == ""
    assert [line["name"] for line in lines[:-1]] == ["a", "b", "c"]
    expected = {name: [] for name in ("psnr", "psnr_y", "ssim")}
    for name in "abc":
        files = folders / f"good/{name}_x4.png", folders / f"hr/{name}.png"
        x, y = (pairing.load(file)[..., 4:-4, 4:-4] for file in files)
        for known, function in (("psnr", psnr), ("psnr_y", psnr_y), ("ssim", ssim)):
            expected[known].append(float(function(x, y)))
    for index, line in enumerate(lines[:-1]):
        assert line["metrics"] == pytest.approx({known: values[index] for known, values in expected.items()}, abs=1e-6)
    summary = lines[-1]
    assert (summary["status"], summary["done"], summary["failed"]) == ("summary", 3, 0)
    assert summary["metrics"]["psnr"]["mean"] == pytest.approx(np.mean(expected["psnr"]), abs=1e-6)
    assert summary["metrics"]["psnr"]["low"] <= summary["metrics"]["psnr"]["mean"] <= summary["metrics"]["psnr"]["high"]

    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["a", "b", "c"]
    assert [float(row["ssim"]) for row in rows] == pytest.approx(expected["ssim"], abs=1e-6)
    document = json.loads((folders / "out.json").read_text())
    assert document["pictures"] == lines[:-1]
    assert document["metrics"] == summary["metrics"]


def test_a_bad_picture_is_named_and_the_rest_is_done(folders, capsys):
    pictures(folders / "hr", ["b.png"], size=(48, 60))
    (folders / "good/c_x4.png").write_text("words")
    pictures(folders / "good", ["lonely_x4.png"])
    lines, err = run(capsys, 1, "good", "--target", "hr", "--suffix", "_x4", "--metrics", "psnr")
    assert [line["status"] for line in lines] == ["done", "failed", "failed", "summary"]
    assert "b_x4.png: is 56x48 px, but its target is 60x48" in lines[1]["reason"]
    assert lines[-1]["metrics"]["psnr"]["count"] == 1
    assert err.count("\n") == 3
    assert "note: without a partner" in err
    assert "lonely_x4.png" in err


def test_compare_says_which_is_better(folders, capsys):
    lines, _ = run(
        capsys, 0, "--compare", "bad6", "good6", "--target", "hr6", "--metrics", "psnr", "--csv", "new/out.csv",
    )  # fmt: skip
    found = lines[-1]["metrics"]["psnr"]
    gaps = [line["metrics"]["B"]["psnr"] - line["metrics"]["A"]["psnr"] for line in lines[:-1]]
    assert found["difference"]["mean"] == pytest.approx(np.mean(gaps))
    assert found["difference"]["is"] == "B - A"
    assert 0 < found["difference"]["low"] <= found["difference"]["mean"] <= found["difference"]["high"]
    assert (found["wins"], found["verdict"], found["better"]) == ({"A": 0, "B": 6}, "B better", "up")
    assert (folders / "new/out.csv").read_text().splitlines()[0] == "picture,psnr_A,psnr_B"
    turned, err = run(capsys, 0, "--compare", "good6", "bad6", "--target", "hr6", "--metrics", "psnr")
    assert err == ""
    assert turned[-1]["metrics"]["psnr"]["difference"]["mean"] == pytest.approx(-np.mean(gaps))
    assert turned[-1]["metrics"]["psnr"]["verdict"] == "A better"


def test_few_pairs_have_no_verdict_and_a_failure_names_its_file(folders, capsys):
    pictures(folders / "bad", ["b_x4.png"], size=(40, 56))
    (folders / "hr/c.png").write_text("words")
    (folders / "hr/d.cr2").touch()
    argv = "--compare", "good", "bad", "--target", "hr", "--suffix", "_x4", "--metrics", "psnr"
    lines, err = run(capsys, 1, *argv)
    assert lines[1]["reason"] == "bad/b_x4.png: is 56x40 px, but its target is 56x48"
    assert lines[2]["reason"].startswith("hr/c.png: ")
    assert lines[-1]["metrics"]["psnr"]["verdict"] == "too few pairs"
    assert "note: 1 pair(s) are too few for a verdict, which takes 6" in err
    assert "note: passed over: 1 raw" in err


def test_nothing_that_is_read_or_written_is_written_over(folders, capsys):
    (folders / "f.safetensors").write_text("features")
    argv = ["good", "--target", "hr", "--suffix", "_x4", "--metrics", "psnr"]
    _, err = run(capsys, 2, *argv, "--features", "f.safetensors", "--csv", "f.safetensors")
    assert "is an input too" in err
    assert (folders / "f.safetensors").read_text() == "features"
    for first, second in (("--csv", "--json"), ("--csv", "--sheet")):
        _, err = run(capsys, 2, *argv, first, "out.png", second, "./out.png")
        assert "out.png would be written twice" in err
    assert not (folders / "out.png").exists()


@pytest.mark.parametrize("option", ["--csv=out.csv", "--json=out.json", "--sheet=out.png", "--sheet=out.html"])
def test_a_disk_that_fills_leaves_the_old_file(folders, capsys, monkeypatch, option):
    file = folders / option.partition("=")[2]
    file.write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    _, err = run(capsys, 1, "good", "--target", "hr", "--suffix", "_x4", "--metrics", "psnr", option)
    assert f"{file.name}: " in err
    assert err.endswith("No space left on device\n")
    assert file.read_text() == "old"
    assert [path.name for path in folders.iterdir() if path.name.startswith(".")] == []


def test_equal_pictures_are_valid_json(folders, capsys):
    lines, _ = run(capsys, 0, "hr", "--target", "hr", "--metrics", "psnr", "--json", "out.json")
    assert lines[0]["metrics"] == {"psnr": None}
    assert lines[-1]["metrics"]["psnr"]["mean"] is None
    assert "Infinity" not in (folders / "out.json").read_text()


def test_mod_crop_is_what_degrade_leaves_out(folders, capsys):
    pictures(folders / "odd", ["a.png"], size=(50, 59))
    full = pairing.load(folders / "odd/a.png")[..., :48, :56]
    pixels = (full[0] * 255).round().byte().permute(1, 2, 0).numpy()
    imageio.write(folders / "cut.png", Picture.from_array(pixels))
    run(capsys, 1, "cut.png", "--target", "odd/a.png", "--metrics", "psnr")
    lines, _ = run(capsys, 0, "cut.png", "--target", "odd/a.png", "--metrics", "psnr", "--mod-crop", "4")
    assert lines[0]["metrics"]["psnr"] is None  # infinite: the same pixels


def test_the_table_on_a_terminal(folders, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["evaluate", "good", "--target", "hr", "--suffix", "_x4", "--metrics", "psnr"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("psnr ↑", "mean", "95 % interval", "3 pictures"))
    assert main(["evaluate", "--compare", "bad", "good", "--target", "hr", "--suffix", "_x4", "--metrics", "psnr"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("B - A", "0:3", "too few pairs"))


def test_sheets(folders, capsys):
    image = pytest.importorskip("PIL.Image")
    pictures(folders / "lq", ["a.png", "b.png", "c.png"], size=(12, 14))
    common = ["--suffix", "_x4", "--metrics", "psnr", "--sheet-rows", "2"]
    run(capsys, 0, "good", "--target", "hr", "--input", "lq", *common, "--sheet", "one.png")
    run(capsys, 0, "--compare", "bad", "good", "--target", "hr", "--input", "lq", *common, "--sheet", "two.png")
    one, two = image.open("one.png"), image.open("two.png")
    assert one.height == two.height
    assert two.width - one.width == 288 + 6


def test_niqe_from_a_file_and_pictures_alone(folders, capsys):
    pictures(folders / "large", ["a.png", "b.png"], size=(200, 200))
    np.savez("niqe.npz", mu_pris_param=np.zeros(FEATURES), cov_pris_param=np.eye(FEATURES))
    ours, _ = run(capsys, 0, "large", "--metrics", "niqe")
    lines, _ = run(capsys, 0, "large", "--metrics", "niqe", "--niqe-params", "niqe.npz")
    assert ours[0]["metrics"]["niqe"] != lines[0]["metrics"]["niqe"]
    (metric,) = registry.build(["niqe"], niqe_model=registry.load_niqe("niqe.npz"))
    assert lines[0]["metrics"]["niqe"] == pytest.approx(metric.measure(pairing.load(folders / "large/a.png"), None))
    assert lines[-1]["metrics"]["niqe"]["better"] == "down"


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        ([], "--compare"),
        (["good", "--compare", "good", "bad"], "--compare"),
        (["good"], "--target"),
        (["good", "--target", "hr", "--metrics", "psrn"], "psrn"),
        (["good", "--target", "hr"], "--suffix"),
        (["nowhere", "--target", "hr"], "nowhere"),
        (["good", "--target", "hr", "--suffix", "_x4", "--csv", "hr/a.png/such.csv"], "a.png/such.csv"),
        (["good", "--target", "hr", "--suffix", "_x4", "--sheet", "a.pdf"], "a.pdf"),
        (["good", "--target", "hr", "--suffix", "_x4", "--crop-border", "-1"], "--crop-border"),
    ],
)
def test_usage_errors_are_one_line(folders, capsys, argv, word):
    lines, err = run(capsys, 2, *argv)
    assert lines == []
    assert word in err
    assert err.count("\n") == 1
