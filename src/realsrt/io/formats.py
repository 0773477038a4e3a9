"""Picture formats: what each can hold, and what this installation's libvips reads and writes."""

import functools
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from realsrt.errors import ImageError, installing
from realsrt.io.suffixes import jxl_library

os.environ.setdefault("VIPS_WARNING", "0")  # read by libvips as it starts: no warnings of its own on stderr
import pyvips

KINDS = {  # libvips' name of a kind of samples → numpy's, and its interpretation as gray and as RGB
    "uchar": (np.uint8, "b-w", "srgb"),
    "ushort": (np.uint16, "grey16", "rgb16"),
    "float": (np.float32, "b-w", "scrgb"),
}
LOADERS = {  # the format → libvips' operation that reads it; no other loader ever sees a file
    "PNG": "pngload_source",
    "JPEG": "jpegload_source",
    "WebP": "webpload_source",
    "TIFF": "tiffload_source",
    "AVIF": "heifload_source",
    "HEIC": "heifload_source",
    "GIF": "gifload_source",
}


@dataclass(frozen=True)
class Format:
    """What one output format can hold. `max_side` in px, `depths` in bits (32 = float), `max_xmp` in bytes; `gray`:
    with a profile of gray; `profiles`: with an ICC profile at all; `codes`: of colour spaces, as in ITU-T H.273."""

    name: str
    suffixes: tuple[str, ...]
    max_side: int
    depths: tuple[int, ...]
    alpha: bool = True
    gray: bool = True
    profiles: bool = True
    codes: bool = False
    iptc: bool = False
    max_xmp: int = 100_000_000
    options: Mapping[str, Any] = field(default_factory=dict)


FORMATS = (
    Format("PNG", (".png",), 1_000_000, (8, 16), codes=True, options={"compression": 6}),
    Format(
        "JPEG", (".jpg", ".jpeg"), 65_535, (8,), alpha=False, iptc=True, max_xmp=65_502,
        options={"Q": 95, "optimize_coding": True},
    ),
    Format("WebP", (".webp",), 16_383, (8,), gray=False, options={"Q": 95}),
    Format("TIFF", (".tif", ".tiff"), 1_000_000, (8, 16, 32), iptc=True, options={"compression": "deflate"}),
    Format(
        "AVIF", (".avif",), 16_384, (8, 12), gray=False, codes=True, options={"Q": 85, "compression": "av1"},
    ),
    Format("JPEG XL", (".jxl",), 1_000_000, (8, 16, 32), gray=False, profiles=False, codes=True, options={"Q": 95}),
)  # fmt: skip


def vips_image(pixels: np.ndarray, icc: bytes | None = None) -> pyvips.Image:
    """HWC pixels of one of KINDS, with an ICC profile if there is one, as libvips has them."""
    height, width, bands = pixels.shape
    name, kind = next((name, kind[1 + (bands > 2)]) for name, kind in KINDS.items() if pixels.dtype == kind[0])
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, bands, name)
    image = image.copy(interpretation=kind)
    if icc:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)  # pyright: ignore[reportArgumentType]
    return image


def output_format(path: str | os.PathLike[str]) -> Format:
    """The format that a file name's suffix asks for. Raises ImageError if there is none or this libvips lacks it."""
    suffix = Path(path).suffix.lower()
    writable = _writable()
    for format in writable:
        if suffix in format.suffixes:
            return format
    if suffix == ".jxl":
        raise ImageError(f"{path}: JPEG XL needs the extra jxl: {installing('jxl')}")
    known = " ".join(s for format in writable for s in format.suffixes)
    raise ImageError(f"{path}: cannot write '{suffix or 'no suffix'}'; use one of {known}")


def _writable() -> list[Format]:
    libvips = set(pyvips.get_suffixes())
    return [f for f in FORMATS if (jxl_library() if f.name == "JPEG XL" else libvips & set(f.suffixes))]


def check_output(
    path: str | os.PathLike[str], width: int, height: int, has_alpha: bool = False, depth: int = 8
) -> tuple[str, ...]:
    """Whether the format of `path` holds such a picture: notices if depth is lost, ImageError naming those that can."""
    format = output_format(path)
    able = [
        f.name
        for f in FORMATS
        if max(width, height) <= f.max_side and (f.alpha or not has_alpha) and f.name in supported_formats()["write"]
    ]
    if max(width, height) > format.max_side:
        limit = f"{format.name} holds at most {format.max_side:,} pixels a side"
        raise ImageError(f"{path}: {width}x{height} is too large, {limit}; use {' or '.join(able) or 'a smaller size'}")
    if has_alpha and not format.alpha:
        raise ImageError(f"{path}: {format.name} cannot hold the picture's transparency; use {' or '.join(able)}")
    if depth > max(format.depths):
        name = "float" if depth == 32 else f"{depth}-bit"
        deeper = ", ".join(f.name for f in FORMATS if depth <= max(f.depths) and f.name in supported_formats()["write"])
        return (f"{path}: {name} samples are rounded to {max(format.depths)} bit in {format.name} (kept by {deeper})",)
    return ()


def misnamed(source: PurePath, format: str, target: PurePath) -> tuple[str, ...]:
    """A notice where the output's format is that of the input's name, and the input is of another `format`."""
    named = next((f for f in _writable() if source.suffix.lower() in f.suffixes), None)
    if named is None or format in ("", named.name) or target.suffix.lower() not in named.suffixes:
        return ()
    kept = next((f for f in _writable() if f.name == format), FORMATS[0])
    loss = ", which loses detail" if "Q" in named.options and "Q" not in kept.options else ""
    told = f"is {format}, named like {named.name}; the output is {named.name} too{loss}"
    return (f"{source}: {told}; --ext {kept.suffixes[0][1:]} makes it {kept.name}",)


@functools.cache
def supported_formats() -> dict[str, list[str]]:
    """Names of the formats this libvips reads and writes: {"read": [...], "write": [...]}."""
    readable = [name for name, loader in LOADERS.items() if name != "HEIC" and pyvips.type_find("VipsForeign", loader)]
    more = {"HEIC": bool(heif_library()), "JPEG XL": jxl_library()}
    return {
        "read": [*readable, *(name for name in more if more[name])],
        "write": [format.name for format in _writable()],
    }


def heif_library() -> str:
    """The Python package of libheif, "" if none is installed: it decodes HEVC, which few builds of libvips do."""
    return next((name for name in ("pi_heif", "pillow_heif") if importlib.util.find_spec(name)), "")
