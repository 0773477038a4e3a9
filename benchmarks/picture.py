"""Seconds and peak memory of whole images at defaults: `python benchmarks/picture.py [side …]` (default 256).

Each image is upscaled by a process of its own, as from the command line, start-up and model loading included.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from realsrt.io import image as imageio
from realsrt.io.picture import Picture


def measure(side: int, folder: Path) -> tuple[float, float]:
    """(seconds, peak MB) of `realsrt upscale` on a side x side image of smooth noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (side // 8 + 1, side // 8 + 1, 3), dtype=np.uint8)
    source = folder / f"{side}.png"
    imageio.write(source, Picture.from_array(coarse.repeat(8, 0).repeat(8, 1)[:side, :side]))
    started = time.perf_counter()
    command = [sys.executable, "-m", "realsrt", "upscale", str(source), "-o", str(folder / f"{side}_out.png")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # KiB on Linux; the largest child so far
    return time.perf_counter() - started, peak


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for side in sorted(int(s) for s in sys.argv[1:] or ("256",)):
            seconds, peak = measure(side, Path(folder))
            print(f"{side}x{side} → {4 * side}x{4 * side}: {seconds:.1f} s, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
