"""File name endings of images: which are read, and which can be written."""

from pathlib import Path

WRITABLE = ("png", "jpg", "jpeg", "webp", "tif", "tiff", "avif", "jxl")
IMAGES = (*WRITABLE, "jpe", "jfif", "gif", "heic", "heif", "bmp")


def is_image(path: Path) -> bool:
    """Whether a file is named like an image that can be read."""
    return path.suffix.lower().lstrip(".") in IMAGES
