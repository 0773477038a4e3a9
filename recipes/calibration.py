"""Crops to calibrate the embedded model on: photographs like those that it is evaluated on.

    python recipes/calibration.py photos.tar more.tar hr --only cid clic --count 100
    realsrt degrade hr lq --protocol mixed
    python recipes/confidence.py runs/small/small.safetensors lq hr src/realsrt/weights/small.safetensors
    realsrt calibrate lq hr --output src/realsrt/weights/small.calibration.json

One crop of 512x512 px a photograph, as pairs must be independent, at a place drawn from the file's name; photographs
are taken evenly from all that are large enough. The embedded model's are of the training photographs of the two
collections that most of the evaluation images come from: it has seen them, in tiles and otherwise degraded.
"""

import argparse
import zlib
from pathlib import Path

import numpy as np

from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.training.sources import entries

SIDE = 512


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("photographs", type=Path, nargs="+", help="folders and tars")
    made.add_argument("target", type=Path)
    made.add_argument("--only", nargs="*", default=[""], metavar="START", help="files whose names start so")
    made.add_argument("--count", type=int, default=100)
    given = made.parse_args()
    given.target.mkdir(parents=True, exist_ok=True)
    found = []
    for entry in entries(given.photographs):
        name = Path(entry.name.rpartition(":")[2]).name
        header = entry.open()
        if min(header.width, header.height) >= SIDE and name.startswith(tuple(given.only)):
            found.append((name, entry))
    found.sort(key=lambda one: one[0])
    count = min(given.count, len(found))
    for name, entry in (found[number * len(found) // count] for number in range(count)):
        pixels = entry.decode().transpose(1, 2, 0)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        y, x = (int(rng.integers(side - SIDE + 1)) for side in pixels.shape[:2])
        crop = np.ascontiguousarray(pixels[y : y + SIDE, x : x + SIDE])
        imageio.write(given.target / f"{Path(name).stem}.png", Picture.from_array(crop))
    print(f"{count} of {len(found)} photographs")


if __name__ == "__main__":
    main()
