"""Drawing how a picture comes about: the picture after each step above its map of confidence, the input first.

A figure (PNG, JPEG, PDF, SVG; several pictures below one another), an animation (GIF), or a page with slider (HTML).
Needs Matplotlib and Pillow (the extra ``visualize``).
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from realsrt.errors import ImageError, UsageError, needs, why
from realsrt.inference.regions import CELL
from realsrt.io import preview
from realsrt.io.atomic import write_whole
from realsrt.io.picture import to_float

if TYPE_CHECKING:
    from realsrt.inference.result import Upscaled
    from realsrt.io.picture import Picture

FIGURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
SUFFIXES = (*FIGURES, ".gif", ".html")
Box = tuple[int, int, int, int]
_MARK = "#19d3ff"
_COLOURS = "magma"  # as on the page (server/static/cells.js): brighter = surer
_INSET = 0.52  # of a panel's shorter side
_DPI = 150


@dataclass(frozen=True)
class Strip:
    """One picture's way: the input as large as the output (nearest), picture and confidence after each step, and the
    box (x0,y0,x1,y1) to show enlarged. Pictures are (H,W,3) uint8, maps (H,W) float in [0,1]."""

    name: str
    enlarged: np.ndarray
    images: list[np.ndarray]
    maps: list[np.ndarray]
    zoom: Box


def strip(name: str, picture: Picture, steps: Iterable[Upscaled], zoom: Box | None = None) -> Strip:
    """A strip of a picture and what `Upscaler.stream` makes of it. Without `zoom`, the square of about a quarter of
    the shorter side that ends up least confident. Raises UsageError for a box outside."""
    images, maps, confidence = [], [], None
    for step in steps:
        images.append(_shown(step.image))
        height, width = images[-1].shape[:2]
        if (confidence := step.confidence) is None:
            raise UsageError("to draw confidence, upscale with confidence=True")
        maps.append(confidence.repeat(CELL, 0).repeat(CELL, 1)[:height, :width])
    if confidence is None:
        raise UsageError("there is no step to draw")
    (height, width, _), small = images[-1].shape, _shown(picture)
    rows, columns = (np.arange(out) * side // out for out, side in zip((height, width), small.shape, strict=False))
    if zoom is None:
        zoom = least_confident_box(confidence, (height, width))
    x0, y0, x1, y1 = zoom
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise UsageError(f"the zoom {x0},{y0},{x1},{y1} is not a box inside the picture of {width}x{height} pixels")
    return Strip(name, small[rows[:, None], columns], images, maps, zoom)


def least_confident_box(confidence: np.ndarray, hw: tuple[int, int]) -> Box:
    """The square of a quarter of the shorter side (at least 64 px, if there are) with the lowest mean confidence."""
    side = min(*hw, max(64, min(hw) // 4))
    n = max(1, min(side // CELL, *confidence.shape))
    total = np.pad(confidence.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[n:, n:] - total[:-n, n:] - total[n:, :-n] + total[:-n, :-n]
    y, x = (int(i) * CELL for i in np.unravel_index(sums.argmin(), sums.shape))
    y, x = min(y, hw[0] - side), min(x, hw[1] - side)
    return x, y, x + side, y + side


def _shown(picture: Picture) -> np.ndarray:
    """On white, as 8-bit sRGB."""
    picture = preview.plain(picture)
    rgb, alpha = picture.rgb_float(), picture.alpha_float()
    if alpha is not None:
        rgb = rgb * alpha[..., None] + 1 - alpha[..., None]
    return np.rint(to_float(rgb) * 255).astype(np.uint8)


def write(path: Path, strips: Sequence[Strip], *, quality: int = 90) -> None:
    """Draw strips into a file; its suffix says how. GIF and HTML take one strip. Raises UsageError, ImageError."""
    check(path, len(strips))
    suffix = path.suffix.lower()
    if suffix == ".html":
        data = _html(strips[0])
    elif suffix == ".gif":
        data = _gif(strips[0])
    else:
        data = _figure(strips, suffix[1:].replace("jpeg", "jpg"), quality)
    try:
        write_whole(path, data)
    except OSError as error:
        raise ImageError(f"{path}: could not be written: {why(error)}") from error


def check(path: Path, count: int) -> None:
    """Raises UsageError if so many strips cannot be drawn into such a file, or the extra is missing."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: cannot draw a '{suffix}' file; use {', '.join(SUFFIXES)}")
    if count != 1 and suffix not in FIGURES:
        raise UsageError(f"a {suffix} shows one picture, got {count}; use .png for several")
    with needs("visualize", "drawing"):
        import matplotlib  # noqa: F401
        import PIL  # noqa: F401


def shades(strips: Sequence[Strip]) -> tuple[float, float]:
    """The confidences drawn lightest and darkest: all but the last percent at either end, over all steps."""
    values = np.concatenate([m[::CELL, ::CELL].ravel() for one in strips for m in one.maps])
    low, high = np.percentile(values, [1, 99])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(high) + 0.5)


def _figure(strips: Sequence[Strip], kind: str, quality: int) -> bytes:
    """Rows of pictures above rows of maps; brighter = surer."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns = 1 + len(strips[0].images)
    panel, gap, head, foot, bar = 2.3, 0.05, 0.28, 0.06, 0.5
    heights = [panel * one.enlarged.shape[0] / one.enlarged.shape[1] for one in strips]
    width = columns * panel + (columns - 1) * gap + bar
    height = head + sum(2 * h + gap for h in heights) + (len(strips) - 1) * 3 * gap + foot
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    normal = Normalize(*shades(strips))

    def axes(column: int, y: float, h: float) -> Any:
        ax = figure.add_axes((column * (panel + gap) / width, 1 - (y + h) / height, panel / width, h / height))
        ax.set_axis_off()
        return ax

    top = head
    for number, (one, h) in enumerate(zip(strips, heights, strict=True)):
        titles = ["input", *(f"step {step}" for step in range(1, columns))]
        for column, image in enumerate([one.enlarged, *one.images]):
            ax = axes(column, top, h)
            ax.imshow(image, interpolation="antialiased" if column else "nearest", aspect="auto")
            _inset(ax, image, one.zoom, nearest=column == 0)
            if number == 0:
                ax.set_title(titles[column], fontsize=11, pad=4)
            if column:
                ax = axes(column, top + h + gap, h)
                grid = one.maps[column - 1]
                ax.imshow(grid, cmap=_COLOURS, norm=normal, interpolation="nearest", aspect="auto")
                _frame(ax, one.zoom)
        below = axes(0, top + h + gap, h)
        below.text(0.97, 0.5, "confidence\n(brighter = surer)", fontsize=11, ha="right", va="center", linespacing=1.4)
        if number == 0:
            left = columns * (panel + gap) / width
            scale = figure.add_axes((left, 1 - (top + 2 * h + gap) / height, 0.1 / width, h / height))
            figure.colorbar(ScalarMappable(normal, _COLOURS), cax=scale)
            scale.tick_params(labelsize=8, length=2)
        top += 2 * h + 4 * gap
    buffer = io.BytesIO()
    more: dict[str, Any] = {"metadata": {"Title": "RealSRT"}}
    if kind == "jpg":
        more = {"pil_kwargs": {"quality": quality, "optimize": True, "progressive": True}}
    figure.savefig(buffer, format=kind, **more)
    return buffer.getvalue()


def _frame(ax: Any, box: Box, width: float = 1.2) -> None:
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = box
    ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=_MARK, linewidth=width))


def _inset(ax: Any, image: np.ndarray, box: Box, *, nearest: bool) -> None:
    """The box, enlarged into the corner that is farthest from it."""
    _frame(ax, box)
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    ratio = (y1 - y0) / (x1 - x0)
    side = _INSET * min(width, height)
    w, h = (side, side * ratio) if ratio <= 1 else (side / ratio, side)
    left = 0.0 if x0 + x1 > width else 1 - w / width
    bottom = 0.0 if y0 + y1 < height else 1 - h / height
    inset = ax.inset_axes((left, bottom, w / width, h / height))
    inset.imshow(image[y0:y1, x0:x1], interpolation="nearest" if nearest else "lanczos", aspect="auto")
    inset.set_xticks([])
    inset.set_yticks([])
    for spine in inset.spines.values():
        spine.set(edgecolor=_MARK, linewidth=1.6)


def _panels(one: Strip, side: int) -> list[tuple[str, Any, Any]]:
    """Title, picture and map of the input (whose map is white) and of every step, Pillow images of at most `side`."""
    import matplotlib
    from PIL import Image, ImageDraw

    low, high = shades([one])
    colours = matplotlib.colormaps[_COLOURS]
    maps = [np.full_like(one.images[0], 255)]
    maps += [(colours(np.clip((m - low) / (high - low), 0, 1))[..., :3] * 255).astype(np.uint8) for m in one.maps]
    titles = ["input", *(f"step {step} of {len(one.images)}" for step in range(1, 1 + len(one.images)))]
    panels = []
    for title, image, grid in zip(titles, [one.enlarged, *one.images], maps, strict=True):
        pair = [Image.fromarray(image), Image.fromarray(grid)]
        for shown in pair:
            ImageDraw.Draw(shown).rectangle(one.zoom, outline=_MARK, width=max(2, max(shown.size) // 300))
            shown.thumbnail((side, side), Image.Resampling.LANCZOS)
        panels.append((title, *pair))
    return panels


def _zoomed(one: Strip, side: int) -> list[Any]:
    """The box of the input and of every step, as Pillow images."""
    from PIL import Image

    x0, y0, x1, y1 = one.zoom
    factor = side / max(x1 - x0, y1 - y0)
    size = max(1, round((x1 - x0) * factor)), max(1, round((y1 - y0) * factor))
    filters = [Image.Resampling.NEAREST, *[Image.Resampling.BICUBIC] * len(one.images)]
    crops = [image[y0:y1, x0:x1] for image in (one.enlarged, *one.images)]
    return [Image.fromarray(crop).resize(size, method) for crop, method in zip(crops, filters, strict=True)]


def _gif(one: Strip) -> bytes:
    """Picture, enlarged place and map side by side, a second each, the last longer."""
    from PIL import Image, ImageDraw, ImageFont

    frames = []
    for (title, image, grid), zoomed in zip(_panels(one, 480), _zoomed(one, 480), strict=True):
        zoomed.thumbnail((image.width, image.height))
        frame = Image.new("RGB", (2 * image.width + zoomed.width + 20, image.height + 26), "white")
        frame.paste(image, (0, 26))
        frame.paste(zoomed, (image.width + 10, 26))
        font = ImageFont.load_default(16)
        ImageDraw.Draw(frame).text((4, 4), title, fill="black", font=font)
        if title != "input":
            at = (image.width + zoomed.width + 20, 4)
            ImageDraw.Draw(frame).text(at, "confidence (brighter = surer)", fill="black", font=font)
            frame.paste(grid, (at[0], 26))
        frames.append(frame)
    buffer = io.BytesIO()
    times = [1000] * (len(frames) - 1) + [2500]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, disposal=1)
    return buffer.getvalue()


def _html(one: Strip) -> bytes:
    """One file, pictures embedded; a slider and the arrow keys go through the steps."""
    steps = [
        {"title": title, "image": _uri(image, "JPEG"), "zoom": _uri(zoomed, "PNG"), "map": _uri(grid, "PNG")}
        for (title, image, grid), zoomed in zip(_panels(one, 1400), _zoomed(one, 480), strict=True)
    ]
    page = Path(__file__).with_name("page.html").read_text("utf-8")
    low, high = shades([one])
    fill = {
        "@NAME@": escape(one.name), "@LAST@": str(len(steps) - 1), "@LOW@": f"{low:.2f}", "@HIGH@": f"{high:.2f}",
        "@STEPS@": json.dumps(steps),
    }  # fmt: skip
    for mark, text in fill.items():
        page = page.replace(mark, text)
    return page.encode(errors="backslashreplace")  # a name may be no text


def _uri(image: Any, format: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format, **({"quality": 92} if format == "JPEG" else {}))
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
