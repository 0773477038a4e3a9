"""A killed process loses no more than the steps since its last save, wherever it is hit."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

pytest.importorskip("accelerate")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def start(photos, out, *more):
    flags = (
        "--preset tiny --batch 2 --crop 64 --tile 64 --pool 4 --refresh 1 --max-steps 60 --save-steps 3 --log-every 5"
    )
    command = [sys.executable, "-m", "realsrt", "train", "tokenizer", "--data", str(photos), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(
        [*command, *flags.split(), *more], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def step_of(out):
    file = out / "state.pt"
    return torch.load(file, weights_only=True)["step"] if file.exists() else 0


def wait_for_step(process, out, step):
    until = time.monotonic() + 120
    while step_of(out) < step and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)


def test_killed_again_and_again_it_ends_with_the_same_weights(photos, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(photos, whole).wait(300) == 0
    dice, kills = random.Random(0), 0
    for _ in range(4):
        before = step_of(broken)
        process = start(photos, broken, "--resume")
        wait_for_step(process, broken, before + 3)
        time.sleep(dice.uniform(0, 0.3))
        process.kill()
        kills += process.wait(60) == -signal.SIGKILL
        assert step_of(broken) >= min(before + 3, 60)  # whole, and never behind
    assert kills >= 2
    assert start(photos, broken, "--resume").wait(300) == 0
    ours, theirs = (torch.load(out / "state.pt", weights_only=True) for out in (broken, whole))
    assert ours["step"] == theirs["step"] == 60
    for part in ("model", "ema"):
        assert all(torch.equal(ours[part][key], theirs[part][key]) for key in theirs[part])
    assert (broken / "log.jsonl").read_text().count("\n") == 12


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_it_saves_and_says_so(photos, tmp_path, number, status):
    process = start(photos, tmp_path / "run")
    wait_for_step(process, tmp_path / "run", 3)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert f"saved at step {step_of(tmp_path / 'run')}" in said
    assert "Traceback" not in said
