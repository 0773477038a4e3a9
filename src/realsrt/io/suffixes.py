"""File name endings of images: which are read, and which can be written."""

import importlib.util
from collections import Counter
from pathlib import PurePath

WRITABLE = ("png", "jpg", "jpeg", "webp", "tif", "tiff", "avif", "jxl")
IMAGES = (*WRITABLE, "jpe", "jfif", "mpo", "apng", "gif", "heic", "heif", "hif", "bmp")

_UNREAD = {  # what of a folder is passed over, and what to do; training passes over some of IMAGES too
    "raw (develop them first, as 16-bit TIFF or JPEG)": "3fr arw cr2 cr3 crw dcr dng erf fff iiq kdc mef mos mrw nef "
    "nrw orf pef raf rw2 rwl sr2 srf srw x3f",
    "video (take pictures out of them first)": "3gp avi m2ts m4v mkv mov mp4 mpeg mpg mts webm wmv",
    "of other formats (save them as PNG or TIFF first)": " ".join(IMAGES)
    + " dds exr fits hdr ico j2c j2k jp2 jpf jpm jpx pcx pgm pnm ppm "
    "psb psd svg tga xcf",
}
_KINDS = {suffix: kind for kind, suffixes in _UNREAD.items() for suffix in suffixes.split()}


class PassedOver(Counter[str]):
    """Counts what of a folder is an image or a video by its name, but of a kind that is not read."""

    def see(self, path: PurePath) -> None:
        if kind := _KINDS.get(path.suffix.lower().lstrip(".")):
            self[kind] += 1

    def __str__(self) -> str:
        """In one line: "passed over: 3 raw (develop them first), 1 video (...)"; "" if there is nothing."""
        return f"passed over: {', '.join(f'{self[kind]} {kind}' for kind in _UNREAD if self[kind])}" if self else ""


def is_image(path: PurePath) -> bool:
    """Whether a file is named like an image that can be read."""
    return path.suffix.lower().lstrip(".") in IMAGES


def is_picture_name(path: PurePath) -> bool:
    """Whether a file is named like an image or a video, of a kind that is read or not."""
    return path.suffix.lower().lstrip(".") in _KINDS


def is_kept(suffix: str) -> bool:
    """Whether an image whose name ends so ("jpg") can be written in its own format here."""
    return suffix in WRITABLE and (suffix != "jxl" or jxl_library())


def jxl_library() -> bool:
    """Whether the Python package is there that reads and writes JPEG XL."""
    return importlib.util.find_spec("imagecodecs") is not None
