"""Images made ready for screens: 8 bits, sRGB, small ones shrunk."""

import numpy as np
import pyvips

from realsrt.io.formats import vips_image
from realsrt.io.metadata import colour
from realsrt.io.picture import Picture, from_float, to_float, to_whole

SIDE = 512  # pixels at most
_QUALITY = 80


def plain(picture: Picture) -> Picture:
    """The same colours as 8-bit samples of sRGB, HDR brought down to white; an ICC profile that cannot be used is left
    out."""
    pixels = picture.pixels if picture.depth == 8 else from_float(to_float(picture.pixels), np.uint8)
    try:
        if picture.code and picture.code[1] in colour.HDR:
            shown, _ = colour.to_srgb(vips_image(to_whole(picture.pixels)), picture.code, 8)
        elif picture.icc:
            shown = vips_image(pixels, picture.icc).icc_transform("srgb", embedded=True)
        else:
            return Picture(pixels)
        return Picture(np.ascontiguousarray(shown.numpy().reshape(shown.height, shown.width, shown.bands)))
    except pyvips.Error:
        return Picture(pixels)


def vips(picture: Picture) -> pyvips.Image:
    """`plain`, as libvips has it."""
    return vips_image(plain(picture).pixels)


def jpeg(picture: Picture, side: int = SIDE) -> bytes:
    """A JPEG within side x side pixels; transparency on white."""
    image = _shrunk(picture, side)
    if image.hasalpha():
        image = image.flatten(background=[255])
    return image.write_to_buffer(f".jpg[Q={_QUALITY},keep=none]")


def png(picture: Picture, side: int) -> bytes:
    """A PNG within side x side pixels."""
    return _shrunk(picture, side).write_to_buffer(".png[keep=none]")


def _shrunk(picture: Picture, side: int) -> pyvips.Image:
    every = max(1, max(picture.width, picture.height) // (2 * side))  # a coarse step first, to convert few pixels
    part = Picture(np.ascontiguousarray(picture.pixels[::every, ::every]), picture.metadata)
    image = vips(part)
    return image.thumbnail_image(side, height=side) if max(part.width, part.height) > side else image
