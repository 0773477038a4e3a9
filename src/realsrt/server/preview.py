"""A picture shrunk to a small JPEG."""

import numpy as np
import pyvips

from realsrt.io.picture import Picture, from_float

SIDE = 512  # pixels at most
_QUALITY = 80


def jpeg(picture: Picture, side: int = SIDE) -> bytes:
    """An 8-bit JPEG within side x side pixels; transparency on white."""
    every = max(1, max(picture.width, picture.height) // (2 * side))  # a coarse step first, to convert few pixels
    part = Picture(np.ascontiguousarray(picture.pixels[::every, ::every]))
    rgb, alpha = part.rgb_float(), part.alpha_float()
    if alpha is not None:
        rgb = rgb * alpha[..., None] + (1 - alpha[..., None])
    image = pyvips.Image.new_from_array(from_float(rgb, np.uint8), interpretation="srgb")
    if max(part.width, part.height) > side:
        image = image.thumbnail_image(side, height=side)
    return image.jpegsave_buffer(Q=_QUALITY)
