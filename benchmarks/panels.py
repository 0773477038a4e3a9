"""Labelled images in a grid, at 100 % or made smaller; and where an image has the most detail."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from realsrt.evaluation import contact_sheet
from realsrt.evaluation.pairing import crop_multiple
from realsrt.imaging.resize import upscale_bicubic

_GAP, _LINE, _FONT = 8, 18, 14


@dataclass(frozen=True)
class Panel:
    """An image (3,H,W) uint8 and the lines above it."""

    lines: tuple[str, ...]
    image: Tensor


def to_bytes(image_BCHW: Tensor) -> Tensor:
    """(1,3,H,W) in [0,1] → (3,H,W) uint8."""
    return (image_BCHW[0].clamp(0, 1) * 255).round().to(torch.uint8)


def nearest(lq_BCHW: Tensor) -> Tensor:
    """Four times as large, without smoothing."""
    return F.interpolate(lq_BCHW, scale_factor=4.0, mode="nearest")


def most_detail(image_BCHW: Tensor, side: int) -> tuple[int, int]:
    """Top and left of the square that loses most when the image is shrunk to a quarter and enlarged again."""
    image_BCHW = crop_multiple(image_BCHW, 4)
    if not image_BCHW.numel():
        return 0, 0
    soft = upscale_bicubic(F.avg_pool2d(image_BCHW, 4), 4)
    top, left, _ = contact_sheet.most_different(image_BCHW, soft, side=side)[0]
    return top, left


def save_grid(path: Path, rows: Sequence[Sequence[Panel]], title: str, *, largest: int | None = None) -> None:
    """A PNG of rows of panels. Images with a side beyond `largest` are made smaller, and their title says so."""
    shown = [[(panel, _fit(panel.image, largest)) for panel in panels] for panels in rows]
    scales = {image.width / panel.image.shape[2] for panels in shown for panel, image in panels}
    if min(scales) < 1:
        title += f"  (shown at {100 * min(scales):.0f} %)"
    columns = max(len(panels) for panels in shown)
    widths = [max(panels[i][1].width for panels in shown if i < len(panels)) for i in range(columns)]
    heights = [max(image.height for _, image in panels) for panels in shown]
    lines = max(len(panel.lines) for panels in rows for panel in panels)
    width = sum(widths) + _GAP * (columns + 1)
    height = sum(heights) + len(rows) * (lines * _LINE + _GAP) + _LINE + 2 * _GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, fill="black", font_size=_FONT)
    top = _LINE + 2 * _GAP
    for panels, tall in zip(shown, heights, strict=True):
        left = _GAP
        for (panel, image), wide in zip(panels, widths, strict=False):
            for number, line in enumerate(panel.lines):
                draw.text((left, top + number * _LINE), _cut(draw, line, wide), fill="black", font_size=_FONT)
            sheet.paste(image, (left, top + lines * _LINE))
            left += wide + _GAP
        top += tall + lines * _LINE + _GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _fit(image_CHW: Tensor, largest: int | None) -> Image.Image:
    image = Image.fromarray(image_CHW.permute(1, 2, 0).contiguous().numpy())
    scale = min(1.0, (largest or max(image.size)) / max(image.size))
    if scale == 1:
        return image
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BOX)


def _cut(draw: ImageDraw.ImageDraw, line: str, width: int) -> str:
    """As much of a line as fits above its panel."""
    while line and draw.textlength(line, font_size=_FONT) > width:
        line = line[:-1]
    return line
