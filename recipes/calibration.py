"""Crops to calibrate the embedded model on: photographs like those that it is evaluated on.

The numbers of its confidence were fitted on 100 crops,

    python recipes/calibration.py photos.tar more.tar hr --only cid clic --count 100
    realsrt degrade hr lq --protocol mixed
    python recipes/confidence.py runs/small/small.safetensors lq hr src/realsrt/weights/small.safetensors

and its mask of trust on 52, each under every degradation:

    python recipes/calibration.py photos.tar more.tar trust/hr --only clic --half --count 18
    python recipes/calibration.py photos.tar more.tar trust/hr --only cid --count 32
    python recipes/calibration.py photos.tar more.tar trust/hr --only elem pop --count 4
    mkdir lq hr
    for kind in bicubic light realesrgan; do
        realsrt degrade trust/hr trust/$kind --protocol $kind
        for name in $(ls trust/hr); do
            cp trust/hr/$name hr/${name%.png}.$kind.png
            cp trust/$kind/$name lq/${name%.png}.$kind.png
        done
    done
    realsrt calibrate lq hr --output src/realsrt/weights/small.calibration.json

One crop of 512x512 px a photograph, as pairs must be independent, at a place drawn from the file's name; photographs
are taken evenly from all that are large enough. The embedded model's are training photographs, which it has seen in
tiles and otherwise degraded; some are in both sets. The 52 are in the proportions of the collections that the
evaluation images come from, and at their scale: those of one collection were halved. (Of a fourth there are none; a
second stands in for it.)
"""

import argparse
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

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
    made.add_argument("--half", action="store_true", help="halve the photographs first")
    given = made.parse_args()
    given.target.mkdir(parents=True, exist_ok=True)
    found = []
    for entry in entries(given.photographs):
        name = Path(entry.name.rpartition(":")[2]).name
        header = entry.open()
        if min(header.width, header.height) >= SIDE * (1 + given.half) and name.startswith(tuple(given.only)):
            found.append((name, entry))
    found.sort(key=lambda one: one[0])
    count = min(given.count, len(found))
    for name, entry in (found[number * len(found) // count] for number in range(count)):
        pixels = entry.decode().transpose(1, 2, 0)
        if given.half:
            pixels = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).reduce(2))
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        y, x = (int(rng.integers(side - SIDE + 1)) for side in pixels.shape[:2])
        crop = np.ascontiguousarray(pixels[y : y + SIDE, x : x + SIDE])
        imageio.write(given.target / f"{Path(name).stem}.png", Picture.from_array(crop))
    print(f"{count} of {len(found)} photographs")


if __name__ == "__main__":
    main()
