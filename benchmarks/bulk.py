"""What `realsrt bulk` costs against `realsrt upscale`: the same images, model and cores, each in its own process.

    python benchmarks/bulk.py examples --images 8 --side 256 --actors 1 --threads 2

Prints a line of JSON: wall seconds of both commands, start and end included, and their ratio.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from realsrt.batch.plan import images_in
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.io.suffixes import PassedOver


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="photographs to cut pieces from")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--threads", type=int, help="an actor; with as many as upscale uses, bytes are the same")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        cut(asked.folder, folder / "in", asked.images, asked.side)
        plain, _ = timed("upscale", str(folder / "in"), "-o", str(folder / "up"), "-g", "cpu")
        actors = ["--num-actors", str(asked.actors), "-g", "cpu", "--object-store-mb", "200"]
        actors += ["--threads", str(asked.threads)] if asked.threads else []
        bulk, told = timed("bulk", str(folder / "in"), str(folder / "bulk"), *actors)
        same = all(
            path.read_bytes() == (folder / "bulk" / path.name).read_bytes() for path in (folder / "up").glob("*.png")
        )
    print(json.dumps({**vars(asked), "folder": str(asked.folder), "upscale": plain, "bulk": bulk,
                      "ratio": round(bulk / plain, 3), "same_bytes": same, "told": json.loads(told)}))  # fmt: skip


def cut(source: Path, target: Path, count: int, side: int) -> None:
    images = [imageio.read(path).pixels[..., :3] for path, _ in images_in(source, target, False, PassedOver())]
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = images[number % len(images)]
        y, x = (int(rng.integers(0, max(0, length - side) + 1)) for length in pixels.shape[:2])
        imageio.write(target / f"{number}.png", Picture.from_array(pixels[y : y + side, x : x + side]))


def timed(*argv: str) -> tuple[float, str]:
    """Wall seconds, and the last line on stdout."""
    started = time.perf_counter()
    ran = subprocess.run([sys.executable, "-m", "realsrt", *argv], check=True, stdout=subprocess.PIPE, text=True)
    return round(time.perf_counter() - started, 2), ran.stdout.splitlines()[-1]


if __name__ == "__main__":
    main()
