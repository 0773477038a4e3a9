"""Picture files in and out by libvips: exact 8 and 16 bit, float, gray, alpha, ICC, EXIF. Errors are ImageError."""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from realsrt.errors import ImageError
from realsrt.picture import Picture, from_float, to_float

os.environ.setdefault("VIPS_WARNING", "0")  # read by libvips as it starts: no warnings of its own on stderr
import pyvips

logging.getLogger("pyvips").addHandler(logging.NullHandler())

MAX_PIXELS = 500_000_000

_READABLE = {
    "png": "PNG",
    "jpeg": "JPEG",
    "webp": "WebP",
    "tiff": "TIFF",
    "heif": "AVIF",
    "gif": "GIF",
    "jxl": "JPEG XL",
}
_LOADERS = ("png", "spng", "jpeg", "webp", "tiff", "heif", "gif", "nsgif", "jxl")
_CARRIED = ("icc-profile-data", "exif-data", "xmp-data", "iptc-data", "exif-ifd0-", "exif-ifd2-", "exif-ifd3-")
_NUMPY = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}


@dataclass(frozen=True)
class Format:
    """What one output format can hold. `max_side` in px, `depths` in bits (32 = float)."""

    name: str
    suffixes: tuple[str, ...]
    max_side: int
    depths: tuple[int, ...]
    alpha: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


FORMATS = (
    Format("PNG", (".png",), 1_000_000, (8, 16), options={"compression": 6}),
    Format("JPEG", (".jpg", ".jpeg"), 65_535, (8,), alpha=False, options={"Q": 95, "optimize_coding": True}),
    Format("WebP", (".webp",), 16_383, (8,), options={"Q": 95}),
    Format("TIFF", (".tif", ".tiff"), 1_000_000, (8, 16, 32), options={"compression": "deflate", "bigtiff": False}),
    Format("AVIF", (".avif",), 16_384, (8, 12), options={"Q": 85, "compression": "av1"}),
    Format("JPEG XL", (".jxl",), 1_000_000, (8, 16, 32), options={"Q": 95}),
)


def read(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read one picture file, upright, as gray or RGB with or without alpha; the first page of several.

    Looks at the header first, so that a file of more than `max_pixels` is refused before any decoding.
    Raises ImageError, one line naming the file, for whatever cannot be read whole.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageError(f"{path}: is a folder, not a picture; give the folder without a file's name, or a file")
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: is empty (0 bytes); copy or download it again")
        image = pyvips.Image.new_from_source(
            pyvips.Source.new_from_file(os.fsencode(path)), "", access="sequential", fail_on="error"
        )
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened: {error.strerror or error}") from error
    except pyvips.Error as error:
        if not os.access(path, os.R_OK):
            raise ImageError(f"{path}: cannot be opened: no permission to read it") from error
        raise _unreadable(path, error) from error
    if not str(image.get("vips-loader")).startswith(_LOADERS):
        raise _unreadable(path, None)
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{path}: {image.width}x{image.height} is above the limit of {max_pixels:,} pixels; "
            "if you trust the file, raise the limit with --max-pixels"
        )
    try:
        orientation = _number(image, "orientation")
        notices = []
        pages = _number(image, "n-pages")
        if pages > 1:
            notices.append(f"{path}: only the first of its {pages} pages or frames is used")
        image = _plain(image, path, notices)
        pixels = image.numpy()
    except pyvips.Error as error:
        raise _unreadable(path, error) from error
    pixels = _upright(pixels[..., None] if pixels.ndim == 2 else pixels, orientation)
    density = (image.xres, image.yres) if orientation < 5 else (image.yres, image.xres)
    return Picture(pixels, _metadata(image), density, tuple(notices), path)


def _number(image: pyvips.Image, name: str) -> int:
    value = image.get(name) if image.get_typeof(name) else 1
    return value if isinstance(value, int) else 1


def _unreadable(path: Path, error: pyvips.Error | None) -> ImageError:
    lines = [line.strip() for line in str(error or "").splitlines() if ":" in line]
    reason = lines[0].split(":", 1)[1].strip() if lines else ""
    if error is None or "not in a known format" in str(error):
        known = ", ".join(supported_formats()["read"])
        return ImageError(f"{path}: is not a picture that can be read here ({known}); convert it first")
    return ImageError(f"{path}: is damaged or cut short ({reason or error.message}); copy or download it again")


def _plain(image: pyvips.Image, path: Path, notices: list[str]) -> pyvips.Image:
    """The same picture as gray or RGB (+ alpha) of uint8, uint16 or float32."""
    kind = image.interpretation
    if kind == "cmyk":
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk")
        notices.append(f"{path}: converted from CMYK to RGB")
    elif kind not in ("b-w", "grey16", "srgb", "rgb", "rgb16", "scrgb", "multiband"):
        image = image.colourspace("rgb16" if image.format == "ushort" or kind == "labs" else "srgb")
        image = image.copy()
        image.remove("icc-profile-data")
        notices.append(f"{path}: converted from {kind} to RGB")
    if image.bands > 4:
        notices.append(f"{path}: only the first 4 of its {image.bands} channels are used")
        image = image.extract_band(0, n=4)
    if image.format not in _NUMPY:
        target = {"char": "uchar", "short": "ushort", "uint": "ushort", "int": "ushort"}.get(str(image.format), "float")
        image = image.cast(target, shift=image.format == "uint")
        notices.append(f"{path}: samples converted to {target}")
    return image


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation of 1…8 on HWC pixels."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _metadata(image: pyvips.Image) -> dict[str, tuple[int, Any]]:
    names = [name for name in image.get_fields() if name.startswith(_CARRIED) and "Orientation" not in name]
    return {name: (image.get_typeof(name), image.get(name)) for name in names}


def output_format(path: str | os.PathLike[str]) -> Format:
    """The format that a file name's suffix asks for. Raises ImageError if there is none or this libvips lacks it."""
    suffix = Path(path).suffix.lower()
    writable = [format for format in FORMATS if set(format.suffixes) & set(pyvips.get_suffixes())]
    for format in writable:
        if suffix in format.suffixes:
            return format
    known = " ".join(s for format in writable for s in format.suffixes)
    raise ImageError(f"{path}: cannot write '{suffix or 'no suffix'}'; use one of {known}")


def check_output(
    path: str | os.PathLike[str], width: int, height: int, has_alpha: bool = False, depth: int = 8
) -> tuple[str, ...]:
    """Whether the format of `path` holds such a picture: notices if depth is lost, ImageError naming those that can."""
    format = output_format(path)
    able = [f.name for f in FORMATS if max(width, height) <= f.max_side and (f.alpha or not has_alpha)]
    if max(width, height) > format.max_side:
        limit = f"{format.name} holds at most {format.max_side:,} pixels a side"
        raise ImageError(f"{path}: {width}x{height} is too large, {limit}; use {' or '.join(able) or 'a smaller size'}")
    if has_alpha and not format.alpha:
        raise ImageError(f"{path}: {format.name} cannot hold the picture's transparency; use {' or '.join(able)}")
    if depth > max(format.depths):
        name = "float" if depth == 32 else f"{depth}-bit"
        deeper = ", ".join(f.name for f in FORMATS if depth in f.depths)
        return (f"{path}: {name} samples are rounded to {max(format.depths)} bit in {format.name} (kept by {deeper})",)
    return ()


def write(
    path: str | os.PathLike[str], picture: Picture, *, quality: int | None = None, strip: bool = False
) -> tuple[str, ...]:
    """Write a picture in the format of the suffix; the file is either whole or absent. Returns notices.

    `quality` 1…100 is for the lossy formats. `strip` leaves EXIF, XMP and IPTC out (the ICC profile stays); TIFF never
    takes EXIF.
    Raises ImageError if the format cannot hold it or the disk does not take it.
    """
    path = Path(path)
    format = output_format(path)
    notices = check_output(path, picture.width, picture.height, picture.has_alpha, picture.depth)
    options = dict(format.options)
    if quality is not None and "Q" in options:
        options["Q"] = max(1, min(100, int(quality)))
    pixels = picture.pixels
    if picture.depth > 8 and picture.depth not in format.depths:
        wanted = np.uint8 if max(format.depths) == 8 else np.uint16
        pixels = from_float(to_float(pixels), wanted) if pixels.dtype != wanted else pixels
        if max(format.depths) == 12:
            options["bitdepth"] = 12
    if format.name == "TIFF":
        options["predictor"] = "none" if pixels.dtype.kind == "f" else "horizontal"
        options["bigtiff"] = pixels.nbytes > 3_500_000_000
    image = _vips(pixels, picture, strip)
    try:
        with _whole_or_absent(path) as descriptor:
            image.write_to_target(pyvips.Target.new_to_descriptor(descriptor), format.suffixes[0], **options)
    except pyvips.Error as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[1:]) or error.message
        raise ImageError(f"{path}: could not be written: {reason}") from error
    except OSError as error:
        raise ImageError(f"{path}: could not be written: {error.strerror or error}") from error
    return notices


def _vips(pixels: np.ndarray, picture: Picture, strip: bool) -> pyvips.Image:
    height, width, bands = pixels.shape
    name = next(name for name, dtype in _NUMPY.items() if pixels.dtype == dtype)
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, bands, name)
    kinds = {"uchar": ("b-w", "srgb"), "ushort": ("grey16", "rgb16"), "float": ("b-w", "scrgb")}
    image = image.copy(interpretation=kinds[name][bands > 2], xres=picture.density[0], yres=picture.density[1])
    for key, (gtype, value) in picture.metadata.items():
        if not strip or key == "icc-profile-data":
            image.set_type(gtype, key, value)
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)  # also inside the EXIF block: the pixels are upright
    return image


@contextlib.contextmanager
def _whole_or_absent(path: Path) -> Iterator[int]:
    """A descriptor of a temporary file beside `path` that becomes `path` at the end, or vanishes on any error."""
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # make the rename itself durable, where folders can be synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def supported_formats() -> dict[str, list[str]]:
    """Names of the formats this libvips reads and writes: {"read": [...], "write": [...]}."""
    readable = [name for stem, name in _READABLE.items() if pyvips.type_find("VipsOperation", f"{stem}load_source")]
    writable = [f.name for f in FORMATS if set(f.suffixes) & set(pyvips.get_suffixes())]
    return {"read": readable, "write": writable}
