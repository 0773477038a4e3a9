"""Files as others than ours decode them."""

from pathlib import Path

from PIL import Image


def opened(path: Path) -> Image.Image:
    """By Pillow; JPEG XL, which it does not know, by imagecodecs, with the EXIF of its box, of 8 bit."""
    if path.suffix != ".jxl":
        with Image.open(path) as image:
            image.load()
            return image
    import imagecodecs

    data = path.read_bytes()
    pixels = imagecodecs.jpegxl_decode(data)
    image = Image.fromarray(pixels if pixels.itemsize == 1 else (pixels // 257).astype("uint8"))
    if b"Exif" in data:
        start = data.index(b"Exif")
        image.info["exif"] = b"Exif\0\0" + data[start + 8 : start - 4 + int.from_bytes(data[start - 4 : start], "big")]
    return image
