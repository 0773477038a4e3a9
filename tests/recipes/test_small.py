"""recipes/small.sh asks for the six stages in order, each on the weights of the one before."""

import os
import shutil
import stat
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "recipes" / "small.sh"
ENDS = {"MILD": "/nets/wdn x4.pth", "STRONG": "/nets/general.pth", "DEEP": "/nets/x4plus.pth"}

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a shell script")


@pytest.fixture
def recipe(tmp_path):
    """Run it with stand-ins; gives the stages' options, and what it says when it fails."""
    folder = tmp_path / "bin"
    folder.mkdir()
    stand_ins = {
        "realsrt": f'printf "%s\\n" "$@" . >> "{tmp_path}/told.txt"',
        "python": f'printf "%s\\n" "$@" >> "{tmp_path}/python.txt"',
    }
    for name, body in stand_ins.items():
        file = folder / name
        file.write_text(f"#!/usr/bin/env bash\n{body}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def run(*data, **environment):
        given = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "OUT": "/o ut", **environment}
        done = subprocess.run(
            ["bash", SCRIPT, *data], env=given, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            return done.stderr
        calls = (tmp_path / "told.txt").read_text().split("\n.\n")[:-1]
        return [call.split("\n")[1:] for call in calls]

    return run


def options(words):
    return {key: value for key, value in pairwise(words) if key.startswith("--")}


def test_bash_can_read_it():
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0
    if shellcheck := shutil.which("shellcheck"):
        assert subprocess.run([shellcheck, SCRIPT], check=False).returncode == 0


def test_the_six_stages_build_on_each_other(recipe, tmp_path):
    stages = recipe("/data/a b.tar", **ENDS)
    assert [words[0] for words in stages] == ["deep", "strength", "tokenizer", "generator", "critic", "control"]
    first, *later = stages
    at = first.index("--trunk")
    assert first[at + 1 : at + 4] == list(ENDS.values())
    assert "--init" not in first
    mixed = (tmp_path / "python.txt").read_text().splitlines()
    assert mixed[1:5] == [ENDS["DEEP"], "/o ut/deep/model.safetensors", "0.7", "/o ut/deep.safetensors"]
    inits = ["/o ut/deep.safetensors", *(f"/o ut/{before[0]}/model.safetensors" for before in stages[1:-1])]
    assert [options(words)["--init"] for words in later] == inits
    assert not any("--trunk" in words for words in later)
    assert [options(words)["--max-steps"] for words in stages] == ["2500", "1200", "1000", "1200", "250", "700"]
    assert all("--resume" in words and options(words)["--data"] == "/data/a b.tar" for words in stages)
    assert all("--pairs" not in words and "--max-minutes" not in words for words in stages)


def test_the_deep_network_learns_from_photographs_alone_where_there_are_any(recipe):
    deep, strength, *_ = recipe("/data.tar", PAIRS="/taught.tar", **ENDS)
    assert "--pairs" not in deep
    assert options(deep)["--data"] == "/data.tar"
    assert options(strength)["--pairs"] == "/taught.tar"


def test_pairs_weights_and_minutes(recipe):
    stages = recipe(PAIRS="/taught.tar", INIT="/w.safetensors", MINUTES="0 0 1 2 0 3.5", OPTIONS="--batch 64 --compile")
    assert [words[0] for words in stages] == ["tokenizer", "generator", "control"]
    given = [options(words) for words in stages]
    inits = ["/w.safetensors", "/o ut/tokenizer/model.safetensors", "/o ut/generator/model.safetensors"]
    assert [one["--init"] for one in given] == inits
    assert [one["--max-minutes"] for one in given] == ["1", "2", "3.5"]
    for words, one in zip(stages, given, strict=True):
        assert (one["--pairs"], one["--teacher-above"], one["--batch"]) == ("/taught.tar", "0.25", "64")
        assert words.count("--batch") == 1
        assert words[-1] == "--compile"
        assert "--max-steps" not in words
        assert "--data" not in words


def test_a_deep_network_of_another_run_stays_out_of_it(recipe, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "model.safetensors").touch()
    first, *_ = recipe("/data.tar", INIT="/w.safetensors", STEPS="0 1 1 1 1 1", OUT=str(tmp_path))
    assert (first[0], options(first)["--init"]) == ("strength", "/w.safetensors")
    assert "mix.py" not in (tmp_path / "python.txt").read_text()


def test_every_option_is_one_that_training_knows(recipe):
    from dataclasses import fields

    pytest.importorskip("accelerate")
    from realsrt.training import TrainConfig

    known = {f"--{field.name.replace('_', '-')}" for field in fields(TrainConfig)}
    for words in recipe("/data.tar", PAIRS="/taught.tar", **ENDS):
        given = [word for word in words if word.startswith("--")]
        assert len(given) == len(set(given))  # the command refuses an option that is given twice
        assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize(
    ("data", "environment", "words"),
    [
        ((), ENDS, "PAIRS"),
        (("/data.tar",), {"MILD": "/nets/wdn.pth"}, "STRONG"),
        (("/data.tar",), ENDS | {"STEPS": "0 0 0 0 0 0"}, "budget"),
    ],
)
def test_what_is_missing_is_said(recipe, data, environment, words):
    assert words in recipe(*data, **environment)
