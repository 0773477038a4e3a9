"""Small pictures for the screen: the result, the input enlarged beside it, the confidence over it, crops of candidates.

Legend: H W pixels, C channels, h w the confidence map's cells.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from realsrt.imaging.resize import resize
from realsrt.io import image as imageio
from realsrt.io.picture import Picture, from_float, to_float

SIDE = 2048  # px: no preview's longer side is above it
_QUALITY = 92
_MARGIN = 0.35  # shown around a redone region, of its sides
_LEAST = 160  # px: a candidate's crop is at least this wide and high
# Confidence from 0 to 1: orange-red, amber, pale, blue. Told apart with any colour vision.
_COLOURS = np.array([[213, 62, 15], [253, 174, 60], [240, 236, 220], [96, 160, 214], [33, 82, 156]], np.float32) / 255


def shrunk(picture: Picture, side: int = SIDE) -> Picture:
    """The picture with a longer side of at most `side`: by averaging whole blocks, rows at a time, so that a map of a
    file is never read whole."""
    height, width, channels = picture.pixels.shape
    block = -(-max(height, width) // side)
    if block == 1:
        return replace(picture, pixels=np.asarray(picture.pixels))
    across, down = max(1, width // block), max(1, height // block)
    tall, wide = min(block, height), min(block, width)
    made = np.empty((down, across, channels), picture.pixels.dtype)
    for row in range(down):
        strip = picture.pixels[row * block : row * block + tall, : across * wide]
        means = strip.reshape(tall, across, wide, channels).mean((0, 2), dtype=np.float32)
        made[row] = means if made.dtype.kind == "f" else np.rint(means)
    return replace(picture, pixels=made)


def enlarged(picture: Picture, hw: tuple[int, int]) -> Picture:
    """The input at the size (height, width) of a preview, by bicubic interpolation."""
    small = shrunk(picture, 2 * max(hw))
    rgb = torch.from_numpy(small.rgb_float()).permute(2, 0, 1)
    alpha = small.alpha_float()
    planes = rgb if alpha is None else torch.cat([rgb, torch.from_numpy(alpha)[None]])
    made = resize(planes[None], hw, "bicubic", antialias=True)[0].clamp(0, 1).permute(1, 2, 0).numpy()
    return picture.with_pixels(np.ascontiguousarray(made[..., :3]), None if alpha is None else made[..., 3])


def covered(picture: Picture, confidence_hw: np.ndarray, opacity: float) -> Picture:
    """The confidence in colours over a preview, `opacity` from 0 to 1: blue = sure, orange = unsure."""
    grid = torch.from_numpy(np.ascontiguousarray(confidence_hw, np.float32))[None, None]
    spread = resize(grid, (picture.height, picture.width), "bilinear", antialias=True)[0, 0].clamp(0, 1).numpy()
    place = spread * (len(_COLOURS) - 1)
    below = np.minimum(place.astype(np.int64), len(_COLOURS) - 2)
    share = (place - below)[..., None]
    colours = _COLOURS[below] * (1 - share) + _COLOURS[below + 1] * share
    mixed = picture.rgb_float() * (1 - opacity) + colours * opacity
    if not picture.gray:
        return picture.with_pixels(mixed, picture.alpha_float())
    return Picture.from_array(from_float(mixed, np.uint8))


def crop(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    """What to show of a box (x0, y0, x1, y1) in the picture's pixels: with some of what is around it."""
    spans = []
    for low, high, end in ((box[0], box[2], picture.width), (box[1], box[3], picture.height)):
        wanted = min(end, max(_LEAST, round((high - low) * (1 + 2 * _MARGIN))))
        start = min(max(0, (low + high - wanted) // 2), end - wanted)
        spans.append(slice(start, start + wanted))
    return replace(picture, pixels=np.ascontiguousarray(picture.pixels[spans[1], spans[0]]))


def save(picture: Picture, path: Path) -> Path:
    """As 8-bit JPEG (PNG where there is transparency), the ICC profile kept; returns the file, whose suffix is set."""
    plain = replace(picture, pixels=from_float(to_float(picture.pixels), np.uint8))
    path = path.with_suffix(".png" if picture.has_alpha else ".jpg")
    imageio.write(path, plain, quality=_QUALITY, strip=True)
    return path
