"""Crops to calibrate the embedded model on: photographs that neither its training nor its evaluation saw.

    apt-get download lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds plasma-workspace-wallpapers
    pip download --no-deps scikit-image
    for deb in *.deb; do dpkg-deb -x "$deb" photos; done; unzip -d photos scikit_image*.whl 'skimage/data/*'
    python recipes/calibration.py photos hr
    realsrt degrade hr lq --protocol mixed
    realsrt calibrate lq hr --output src/realsrt/weights/small.calibration.json

One crop a photograph, as pairs must be independent: reduced to a short side of 900 px where it is larger, then of eight
places, drawn from the file's name, the one of 512x512 px with most detail.
"""

import sys
import zlib
from pathlib import Path

import numpy as np
import pyvips

from realsrt.io import image as imageio
from realsrt.io.picture import Picture

SIDE, SHORT, PLACES = 512, 900, 8
PHOTOGRAPHS = {  # of the packages' pictures, those that are photographs
    "skimage/data": "astronaut brick camera chelsea coffee coins grass gravel motorcycle_left rocket",
    "usr/share/backgrounds": "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace"
    " Picture_1A_by_freespace Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi free_by_Peter_Nerlich"
    " friends_by_Aitzol_Berasategi greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi"
    " picosdeeuropa_by_Aitzol_Berasategi seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi"
    " Kleiber_by_Lukas_Baubkus",
    "usr/share/backgrounds/mate/nature": "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm"
    " TwoWings Wood YellowFlower",
    "usr/share/wallpapers": "BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite"
    " OneStandsOut Path Volna summer_1am",
}  # fmt: skip


def file_of(place: Path) -> Path:
    """The one file of that stem, or the largest in a wallpaper's folder."""
    if place.is_dir():
        return max((place / "contents/images").iterdir(), key=lambda path: path.stat().st_size)
    return next(path for path in place.parent.iterdir() if path.stem == place.name)


def crop(path: Path, name: str) -> np.ndarray:
    """(H,W,3) uint8, sides a multiple of 4 and at most 512."""
    image = pyvips.Image.new_from_file(str(path)).colourspace("srgb")
    assert isinstance(image, pyvips.Image)
    image = image.flatten() if image.hasalpha() else image
    image = image.resize(min(1, SHORT / min(image.width, image.height)), kernel="lanczos3")
    pixels = image.numpy()[..., :3]
    height, width = (min(SIDE, side // 4 * 4) for side in pixels.shape[:2])
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    corners = rng.integers(0, [pixels.shape[0] - height + 1, pixels.shape[1] - width + 1], (PLACES, 2))
    crops = [pixels[y : y + height, x : x + width] for y, x in corners]
    return max(crops, key=lambda one: float(np.abs(np.diff(one.mean(2), axis=0)).mean()))


def main(photos: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for folder, names in PHOTOGRAPHS.items():
        for name in names.split():
            pixels = crop(file_of(photos / folder / name), name)
            imageio.write(target / f"{name}.png", Picture.from_array(np.ascontiguousarray(pixels)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
