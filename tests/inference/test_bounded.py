"""Memory and time of large pictures, in processes of their own (preset tiny, whole command)."""

import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import realsrt
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
_RUN = """
import re, resource, sys, threading, time
from pathlib import Path

def status(name):
    return int(re.search(name + r":\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

def watch():
    while True:
        peak[0] = max(peak[0], status("RssAnon"))
        time.sleep(0.02)

peak = [0]
threading.Thread(target=watch, daemon=True).start()
limit = int(sys.argv[1])
if limit:
    import torch, realsrt.pipeline, pyvips
    held = status("VmData") * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (held + limit, held + limit))
from realsrt.cli import main
done = main(sys.argv[2:])
print("peak", peak[0], status("VmHWM"), file=sys.stderr)
sys.exit(done)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    realsrt.save_model(realsrt.presets.build("tiny", 0), path)
    return path


def soft(side: int) -> Picture:
    """A picture of soft shapes: noise of 16-px squares."""
    coarse = np.random.default_rng(0).integers(0, 256, (-(-side // 16), -(-side // 16), 3), np.uint8)
    return Picture.from_array(coarse.repeat(16, 0).repeat(16, 1)[:side, :side])


def upscale(weights: Path, source: Path, target: Path, *more: str, limit: int = 0) -> float:
    """Run the command in a process that may allocate `limit` bytes more than torch's import did (0: any); its peak of
    memory in MB, without mapped files: the pages of the scratch file are the system's, and go when it needs them."""
    argv = ["upscale", str(source), "-o", str(target), "--model-path", str(weights), "--stride", "64", "--steps", "1"]
    command = [sys.executable, "-c", _RUN, str(limit), *argv, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    anonymous, resident = map(int, re.findall(r"peak (\d+) (\d+)", done.stderr)[-1])
    print(f"{source.name}: {anonymous / 1024:.0f} MB, with mapped files {resident / 1024:.0f} MB")
    return anonymous / 1024


def test_memory_hardly_grows_with_the_picture(weights, tmp_path):
    peaks = {}
    for side in (1024, 4096):
        imageio.write(tmp_path / f"{side}.png", soft(side))
        peaks[side] = upscale(weights, tmp_path / f"{side}.png", tmp_path / f"{side}_x4.png")
    print(f"peak MB: {peaks}")
    assert peaks[4096] - peaks[1024] < 300


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_DATA"), reason="no limit on a process's data here")
def test_400_megapixels_come_out_within_2_gb(weights, tmp_path):
    imageio.write(tmp_path / "in.tif", soft(5000))
    started = time.perf_counter()
    peak = upscale(weights, tmp_path / "in.tif", tmp_path / "out.tif", limit=2 * 10**9)
    print(f"peak {peak:.0f} MB, {time.perf_counter() - started:.0f} s")
    import pyvips

    out = pyvips.Image.new_from_file(str(tmp_path / "out.tif"), access="sequential")
    assert (out.width, out.height, out.bands, out.format) == (20_000, 20_000, 3, "uchar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif", "out.tif"]  # no scratch file is left


def test_the_last_window_costs_what_the_first_does(weights):
    up = realsrt.Upscaler.from_pretrained(str(weights))
    times: list[float] = []
    up.upscale(
        soft(2560),
        steps=1,
        stride=64,
        confidence=False,
        rows=lambda first, planes: None,
        on_progress=lambda done, total: times.append(time.process_time()),  # not what others take of the machine
    )
    rows = np.diff(times).reshape(40, 40).sum(1)  # a row of windows, and what is done for it
    first, last = np.median(rows[2:12]), np.median(rows[-12:-2])
    print(json.dumps({"first": first, "last": last}))
    assert last < 1.25 * first
