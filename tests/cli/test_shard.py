"""`--shard`: n runs into one folder are together what one run is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from realsrt import presets
from realsrt.batch.resume import NAME
from realsrt.checkpoint import save_model
from realsrt.cli import main
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

COUNT = 9


@pytest.fixture
def command(tmp_path):
    """command(out, *more): the arguments that upscale nine pictures in folders."""
    for number in range(COUNT):
        path = tmp_path / "in" / ("x" if number % 2 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        imageio.write(path, Picture.from_array(rng.integers(0, 255, (16 + number, 16, 3), np.uint8)))
    (tmp_path / "in" / "bad.png").write_text("words")
    save_model(presets.build("tiny", seed=0), tmp_path / "tiny.safetensors")

    def command(out, *more):
        model = ["--model-path", str(tmp_path / "tiny.safetensors"), "-g", "cpu", "--steps", "1", "--stride", "32"]
        return ["upscale", str(tmp_path / "in"), "-o", str(out), "--recursive", *model, *more]

    return command


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def told(*reports):
    """What reports say of each picture, but for times and the folder's name, as `cat` would merge them."""
    lines = [json.loads(line) for report in reports for line in report.read_text().splitlines()]
    return sorted((Path(line["source"]).name, line["status"], line.get("confidence")) for line in lines)


def check(command, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(command(tmp_path / "one", "--report", str(tmp_path / "one.jsonl"))) == 1
    assert content(out) == content(tmp_path / "one")
    assert len(content(out)) == COUNT
    reports = [tmp_path / f"{number}.jsonl" for number in range(3)]
    assert told(*reports) == told(tmp_path / "one.jsonl")
    entries = [json.loads(line)["target"] for line in (out / NAME).read_text().splitlines()]
    assert sorted(entries) == sorted(content(out))
    capsys.readouterr()
    assert main(command(out, "--resume")) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(line["status"] for line in lines) == ["failed", *["skipped"] * COUNT]


def test_one_after_another(command, tmp_path, capsys):
    statuses = [
        main(command(tmp_path / "out", "--shard", f"{i}/3", "--report", str(tmp_path / f"{i}.jsonl"))) for i in range(3)
    ]
    assert sorted(statuses) == [0, 0, 1]  # the bad picture is in one of them
    check(command, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_side_by_side(command, tmp_path, capsys):
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "realsrt", *command(tmp_path / "out", "--shard", f"{i}/3", "--report", report)],
            stdout=subprocess.DEVNULL,
        )
        for i, report in enumerate(str(tmp_path / f"{i}.jsonl") for i in range(3))
    ]
    assert sorted(run.wait(500) for run in runs) == [0, 0, 1]
    check(command, tmp_path, capsys)


def test_a_shard_without_pictures_is_no_error(command, tmp_path, capsys):
    assert main(command(tmp_path / "out", "--shard", "0/1000")) == 0
    assert "no picture falls to shard 0/1000" in capsys.readouterr().err
    assert main(command(tmp_path / "out", "--shard", "3/3")) == 2
