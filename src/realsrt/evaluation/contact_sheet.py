"""Contact sheets: the places where images differ most, side by side, with words; as an image or as one HTML file.

Shape suffixes: B batch, C channels, H W pixels.
"""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.errors import ImageError, UsageError, needs, why
from realsrt.evaluation.metrics import luma
from realsrt.io.atomic import whole_or_absent, write_whole

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".html")
SIDE = 96
"""Side of a crop in output pixels."""
_CELL, _GAP, _LINE = 288, 6, 16
_BLOCK = 8
_HEAD = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; }}
h2 {{ font-size: 1rem; margin: 1.5rem 0 .5rem; }}
section {{ display: flex; flex-wrap: wrap; gap: .6rem; }}
figure {{ margin: 0; }}
img {{ display: block; width: 288px; image-rendering: pixelated; }}
</style>
<h1>{title}</h1>
<p>{about}</p>"""


@dataclass(frozen=True)
class Crop:
    """One row of a sheet: square cuts, each (3,n,n) uint8, by label. `difference` is why it was chosen, luma 0…1."""

    title: str
    difference: float
    panels: Mapping[str, Tensor]
    rank: int = 0


def most_different(*images_BCHW: Tensor, side: int = SIDE, count: int = 1) -> list[tuple[int, int, float]]:
    """Squares (top, left, mean difference of luma) where (1,3,H,W) images differ most, worst first: two in the mean of
    the absolute difference, more in that of largest minus smallest.

    At most `count` that do not overlap, on a grid of 8 px; the whole of a smaller image. Raises ValueError when sizes
    differ.
    """
    if len(shapes := {tuple(image.shape) for image in images_BCHW}) != 1:
        raise ValueError(f"shapes differ: {' and '.join(map(str, shapes))}")
    height, width = (min(side, length) for length in images_BCHW[0].shape[2:])
    lumas = torch.stack([luma(image.clamp(0, 1)) for image in images_BCHW])
    gap_BCHW = lumas.amax(0) - lumas.amin(0)
    mean_HW = F.avg_pool2d(gap_BCHW, (height, width), stride=_BLOCK)[0, 0]
    found = []
    for _ in range(count):
        worst = int(mean_HW.argmax())
        row, column = divmod(worst, mean_HW.shape[1])
        value = float(mean_HW[row, column])
        if found and value <= 0:
            break
        found.append((row * _BLOCK, column * _BLOCK, value))
        rows = slice(max(0, row - height // _BLOCK + 1), row + height // _BLOCK)
        mean_HW[rows, max(0, column - width // _BLOCK + 1) : column + width // _BLOCK] = -1.0
    return found


def crops(
    name: str, panels: Mapping[str, Tensor], between: Sequence[str], *, count: int = 2, side: int = SIDE
) -> list[Crop]:
    """Where the panels named by `between`, equally large, differ most: all panels (1,3,H,W) cut at that place.

    A panel of another size, as a low-quality input has, is cut in proportion.
    """
    judged = [panels[label] for label in between]
    full_height, full_width = judged[0].shape[2:]
    made = []
    for rank, (top, left, value) in enumerate(most_different(*judged, side=side, count=count)):
        cut = {}
        for label, image_BCHW in panels.items():
            down, across = image_BCHW.shape[2] / full_height, image_BCHW.shape[3] / full_width
            first_row, first_column = round(top * down), round(left * across)
            last_row = max(first_row + 1, round(min(top + side, full_height) * down))
            last_column = max(first_column + 1, round(min(left + side, full_width) * across))
            part_CHW = image_BCHW[0, :, first_row:last_row, first_column:last_column]
            cut[label] = (part_CHW.clamp(0, 1) * 255).round().to(torch.uint8).clone()
        made.append(Crop(f"{name}  x {left}  y {top}  differ by {255 * value:.1f} of 255", value, cut, rank))
    return made


def choose(found: Sequence[Crop], rows: int) -> list[Crop]:
    """The crops to show: every image's first before any second, the most different ones, in that order."""
    return sorted(found, key=lambda crop: (crop.rank, -crop.difference))[:rows]


def save(path: Path, rows: Sequence[Crop], *, title: str, about: str = "") -> None:
    """Write the sheet, one row a crop, enlarged without smoothing; .html is one file with the images inside it, and
    begins with `title` and the line `about`. Raises UsageError without Pillow, ImageError."""
    if path.suffix.lower() == ".html":
        try:
            write_whole(path, _html(title, about, rows).encode(errors="backslashreplace"))  # names may be no text
        except OSError as error:
            raise ImageError(f"{path}: the sheet cannot be written: {why(error)}") from error
        return
    Image, ImageDraw = pillow()
    columns = max(len(crop.panels) for crop in rows)
    width, height = columns * (_CELL + _GAP) + _GAP, len(rows) * (_CELL + 2 * _LINE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = _GAP
    for crop in rows:
        draw.text((_GAP, top), _plain(crop.title), fill="black")
        for column, (label, panel_CHW) in enumerate(crop.panels.items()):
            left = _GAP + column * (_CELL + _GAP)
            draw.text((left, top + _LINE), _plain(label), fill="black")
            image = Image.fromarray(panel_CHW.permute(1, 2, 0).contiguous().numpy())
            scale = _CELL / max(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            sheet.paste(image.resize(size, Image.Resampling.NEAREST), (left, top + 2 * _LINE))
        top += _CELL + 2 * _LINE + _GAP
    try:
        with whole_or_absent(path) as descriptor, os.fdopen(os.dup(descriptor), "w+b") as file:
            sheet.save(file, Image.registered_extensions()[path.suffix.lower()])
    except (OSError, ValueError, KeyError) as error:  # KeyError: an extension that Pillow does not know
        raise ImageError(f"{path}: the sheet cannot be written: {why(error)}") from error


def _html(title: str, about: str, rows: Sequence[Crop]) -> str:
    Image, _ = pillow()

    def figure(label: str, panel_CHW: Tensor) -> str:
        buffer = io.BytesIO()
        Image.fromarray(panel_CHW.permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        return (
            f'<figure><img src="data:image/png;base64,{data}" alt=""><figcaption>{escape(label)}</figcaption></figure>'
        )

    lines = [_HEAD.format(title=escape(title), about=escape(about))]
    for crop in rows:
        lines += [f"<h2>{escape(crop.title)}</h2>\n<section>", *(figure(*panel) for panel in crop.panels.items())]
        lines.append("</section>")
    return "\n".join(lines) + "\n"


def check(path: Path) -> None:
    """Raise UsageError if no sheet can be written with this suffix, or Pillow is missing."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a sheet is written as {', '.join(SUFFIXES)}")
    pillow()


def pillow() -> tuple[Any, Any]:
    """PIL's Image and ImageDraw. Raises UsageError without Pillow."""
    with needs("metrics", "a sheet"):
        from PIL import Image, ImageDraw
    return Image, ImageDraw


def _plain(text: str) -> str:
    return text.encode("ascii", "replace").decode()
