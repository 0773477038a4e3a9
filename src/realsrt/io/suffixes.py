"""File name endings of images: which are read, and which can be written."""

import importlib.util
from pathlib import Path

WRITABLE = ("png", "jpg", "jpeg", "webp", "tif", "tiff", "avif", "jxl")
IMAGES = (*WRITABLE, "jpe", "jfif", "mpo", "apng", "gif", "heic", "heif", "hif", "bmp")


def is_image(path: Path) -> bool:
    """Whether a file is named like an image that can be read."""
    return path.suffix.lower().lstrip(".") in IMAGES


def is_kept(suffix: str) -> bool:
    """Whether an image whose name ends so ("jpg") can be written in its own format here."""
    return suffix in WRITABLE and (suffix != "jxl" or jxl_library())


def jxl_library() -> bool:
    """Whether the Python package is there that reads and writes JPEG XL."""
    return importlib.util.find_spec("imagecodecs") is not None
