"""The real command with a tiny model: killed at random moments, and on a disk that is really full."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from realsrt import presets
from realsrt.batch.resume import NAME
from realsrt.checkpoint import save_model
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
KILLS = 20


@pytest.fixture
def batch(tmp_path):
    """Pictures in two folders, a tiny model, and a function that makes the command for an output folder."""
    for number in range(12):
        path = tmp_path / "in" / ("x" if number % 3 else "") / f"{number:02}.{('png', 'jpg', 'tif')[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        imageio.write(path, Picture.from_array(rng.integers(0, 255, (70, 60 + number, 3), np.uint8)))
    save_model(presets.build("tiny", seed=0), tmp_path / "tiny.safetensors")

    def command(out, *more):
        argv = [sys.executable, "-m", "realsrt", "upscale", str(tmp_path / "in"), "-o", str(out), "--recursive"]
        return [*argv, "--model-path", str(tmp_path / "tiny.safetensors"), "-g", "cpu", "--confidence", *more]

    return command


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_to_the_end(argv):
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line)["status"] for line in ran.stdout.splitlines()]


def test_killed_at_twenty_random_moments(batch, tmp_path, capsys):
    """Kill -9 between the first record and the end, then --resume: byte for byte the folder of an undisturbed run."""
    started = time.monotonic()
    process = subprocess.Popen(batch(tmp_path / "whole"), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    first = time.monotonic()
    assert process.communicate() is not None
    lasts = time.monotonic() - first
    assert process.returncode == 0
    whole = content(tmp_path / "whole")
    assert len(whole) == 25  # pictures, maps, manifest

    rng = random.Random(5)
    half_done, temporaries = 0, 0
    for number in range(KILLS):
        out = tmp_path / f"out{number}"
        process = subprocess.Popen(batch(out), stdout=subprocess.PIPE)
        assert process.stdout is not None
        while not (out / NAME).exists():
            time.sleep(0.001)
        if number % 4:  # else also while the model is loaded and the first picture made
            process.stdout.readline()
            time.sleep(rng.uniform(0, lasts))
        else:
            time.sleep(rng.uniform(0, first - started))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left = content(out)
        temporaries += sum(name.endswith(".tmp") for name in left)
        half_done += not set(whole) <= set(left)
        for name in set(left) & set(whole) - {NAME}:
            assert left[name] == whole[name]  # a file that is there is whole
        statuses = run_to_the_end(batch(out, "--resume"))
        assert len(statuses) == 12
        assert content(out) == whole
        shutil.rmtree(out)
    with capsys.disabled():
        print(f"\n{KILLS} kills within {lasts:.1f} s: {half_done} with pictures missing, {temporaries} half files left")
    assert half_done >= KILLS / 2  # the moments were within the batch


def test_a_disk_that_is_really_full(batch, tmp_path, small_disk):
    out = small_disk / "out"
    assert run_to_the_end(batch(tmp_path / "whole")) == ["done"] * 12
    whole = content(tmp_path / "whole")
    ran = subprocess.run(batch(out), capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    statuses = [json.loads(line)["status"] for line in ran.stdout.splitlines()]
    assert statuses.count("done") >= 1
    assert statuses[-1] == "failed"
    assert ran.stderr.count("\n") == 2, ran.stderr
    assert "No space left on device" in ran.stderr
    assert "left; the same command with --resume goes on" in ran.stderr
    left = content(out)
    assert not any(name.endswith(".tmp") for name in left)
    assert all(left[name] == whole[name] for name in left if name != NAME)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    resumed = run_to_the_end(batch(out, "--resume"))
    assert resumed[: statuses.count("done")] == ["skipped"] * statuses.count("done")
    assert content(out) == whole


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to become another user")
def test_as_a_user_who_may_not_read_or_write(batch, tmp_path):
    """Unreadable files and folders fail by name, the rest is done; an unwritable output is said before any work."""
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    for path in (tmp_path, *Path(tmp_path).parents):
        if path not in (Path("/"), Path("/tmp")):
            path.chmod(0o755)
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*user, sys.executable, "-c", "import realsrt"], capture_output=True, check=False).returncode:
        pytest.skip("another user may not use this Python")
    (tmp_path / "in" / "00.png").chmod(0)
    (tmp_path / "in" / "closed").mkdir(mode=0o700)
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    ran = subprocess.run([*user, *batch(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stderr
    statuses = [json.loads(line)["status"] for line in ran.stdout.splitlines()]
    assert sorted(statuses) == ["done"] * 11 + ["failed"] * 2, ran.stderr
    assert "00.png: Permission denied" in ran.stderr
    assert "closed: cannot be listed: Permission denied" in ran.stderr
    (tmp_path / "none").mkdir(mode=0o755)
    ran = subprocess.run([*user, *batch(tmp_path / "none" / "out")], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1
    assert "no permission to write into" in ran.stderr
