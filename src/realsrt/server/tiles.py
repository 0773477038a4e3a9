"""Images cut into tiles of several sizes, so that a browser fetches what it shows only; made when first asked for."""

import contextlib
import json
import os
import shutil
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from realsrt.io import image as imageio
from realsrt.io import preview
from realsrt.server.problems import refuse

SIDE = 512  # pixels of a tile, at most
_QUALITY = 92
_LOCKS = [threading.Lock() for _ in range(64)]  # one of them for each folder


@dataclass(frozen=True)
class Tiles:
    """An image of `width` x `height` pixels in `levels`; level 0 is one tile, each further one twice as wide and high.
    `suffix`: of the tiles' files."""

    width: int
    height: int
    levels: int
    suffix: str
    side: int = SIDE


def known_tiles(folder: Path) -> Tiles | None:
    """The tiles below `folder`, if they have been made."""
    try:
        return Tiles(**json.loads((folder / "tiles.json").read_bytes()))
    except FileNotFoundError:
        return None


def tiles_of(source: Path, folder: Path, max_pixels: int) -> Tiles:
    """The tiles of an image file, below `folder`, made if they are not there. Raises a 410 if the file is gone."""
    with _LOCKS[hash(folder) % len(_LOCKS)]:
        if found := known_tiles(folder):
            return found
        if not source.is_file():
            raise refuse(410, "the files of this job have been removed")
        return _made(source, folder, max_pixels)


def _made(source: Path, folder: Path, max_pixels: int) -> Tiles:
    image = preview.vips(imageio.read(source, max_pixels=max_pixels))
    suffix = ".webp" if image.hasalpha() else ".jpg"
    levels = 1
    while SIDE << (levels - 1) < max(image.width, image.height):
        levels += 1
    tiles = Tiles(image.width, image.height, levels, suffix)
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.parent.mkdir(exist_ok=True)
        more = ",subsample_mode=off" if suffix == ".jpg" else ""
        image.dzsave(
            str(unfinished / "t"), suffix=f"{suffix}[Q={_QUALITY},keep=none{more}]", tile_size=SIDE, overlap=0,
            depth="onetile",
        )  # fmt: skip
        made = unfinished / "t_files"
        (made / "tiles.json").write_text(json.dumps(asdict(tiles)), "utf-8")
        os.rename(made, folder)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(unfinished)
    return tiles
