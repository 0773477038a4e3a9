"""Picture files in and out by libvips: exact 8 and 16 bit, float, gray, alpha, ICC, EXIF. Errors are ImageError."""

import errno
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from realsrt.errors import ImageError, UsageError
from realsrt.io.atomic import whole_or_absent
from realsrt.io.files import MAX_PIXELS
from realsrt.io.formats import FORMATS, READERS, Format, check_output, output_format, supported_formats
from realsrt.io.metadata.fields import (
    attach,
    collect,
    collect_png,
    collect_tiff,
    complete_png,
    complete_tiff,
    density,
)
from realsrt.io.metadata.provenance import Provenance
from realsrt.io.picture import TOLERATED, Picture, from_float, to_float

import pyvips  # isort: skip - after formats, which tells libvips to be quiet

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "check_output",
    "header",
    "output_format",
    "read",
    "supported_formats",
    "write",
]

logging.getLogger("pyvips").addHandler(logging.NullHandler())

IN_MEMORY = 2**28  # bytes of an input that are kept in memory
_MAX_BANDS = 16
_SPARE = 2**28  # bytes left free on the disk of the temporary folder
_CRUMBS = 2**16  # bytes: with less, a disk is full
_TILED = 2**26  # pixels from which on a TIFF is written in tiles, so that readers need not decode whole rows

_NUMPY = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}


def read(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read one picture file, upright, as gray or RGB with or without alpha; the first page of several.

    Looks at the header first, so that a file of more than `max_pixels` is refused before any decoding.
    Raises ImageError, one line naming the file, for whatever cannot be read whole.
    """
    path = Path(path)
    image = _open(path)
    _check_size(path, image, max_pixels)
    try:
        orientation = _number(image, "orientation")
        notices = []
        pages = _number(image, "n-pages")
        if pages > 1:
            notices.append(f"{path}: only the first of its {pages} pages or frames is used")
        elif _is_animated_png(path):
            notices.append(f"{path}: only the first of its frames is used")
        fields = collect(image)
        collect_more = {"tif": collect_tiff, "png": collect_png}.get(str(image.get("vips-loader"))[:3])
        if collect_more:
            with path.open("rb") as file:
                fields |= collect_more(file)
        x, y = density(image)
        image = _plain(image, path, notices)
        if "icc-profile-data" in fields and not image.get_typeof("icc-profile-data"):
            del fields["icc-profile-data"]  # of the space it was converted from
        elif image.get_typeof("icc-profile-data"):
            fields["icc-profile-data"] = (image.get_typeof("icc-profile-data"), image.get("icc-profile-data"))
        pixels = _decode(image)
        if str(image.get("vips-loader")).startswith("gif") and image.hasalpha() and pixels[..., -1].min() == 255:
            pixels = pixels[..., :-1]  # an animation has alpha whether or not anything shows through
    except (pyvips.Error, OSError) as error:
        raise _unreadable(path, error) from error
    _check_floats(path, pixels)
    pixels = _upright(pixels, orientation)
    return Picture(pixels, fields, (x, y) if orientation < 5 else (y, x), tuple(notices), path)


@dataclass(frozen=True)
class Header:
    """What a file's header says: the size once upright, the format's name as in `formats.READERS`, and the bytes that a
    decoded pixel takes."""

    width: int
    height: int
    has_alpha: bool
    format: str
    pixel_bytes: int


def header(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Header:
    """Look at a picture file without decoding it. Raises ImageError as `read` does, but for damage further on."""
    path = Path(path)
    image = _open(path)
    _check_size(path, image, max_pixels)
    width, height = image.width, image.height
    if _number(image, "orientation") >= 5:
        width, height = height, width
    loader = str(image.get("vips-loader")).partition("load")[0]  # "png" of "pngload_source"
    name = next(format for reader, format in READERS.items() if loader in reader.lower())
    sample = {"uchar": 1, "char": 1, "ushort": 2, "short": 2}.get(str(image.format), 4)
    return Header(width, height, bool(image.hasalpha()), name, image.bands * sample)


def _open(path: Path) -> pyvips.Image:
    """The header only, by a loader of ours: others (SVG, PDF, text) never see the file."""
    try:
        if path.is_dir():
            raise ImageError(f"{path}: is a folder, not a picture; give the folder without a file's name, or a file")
        if not path.is_file() and path.exists():
            raise ImageError(f"{path}: is not a regular file; give a picture file")
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: is empty (0 bytes); copy or download it again")
        source = pyvips.Source.new_from_file(os.fsencode(path))  # pyright: ignore[reportArgumentType] - bytes will do
        loader = pyvips.vips_lib.vips_foreign_find_load_source(source.pointer)
        name = "" if loader == pyvips.ffi.NULL else pyvips.ffi.string(loader).decode()
        if name not in READERS:
            pyvips.vips_lib.vips_error_clear()  # or the next picture's error would say it too
            raise _unreadable(path, None)
        image = pyvips.Operation.call(name, source, access="sequential", fail_on="error")
        image._references.append(source)
        return image
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened: {error.strerror or error}") from error
    except pyvips.Error as error:
        if not os.access(path, os.R_OK):
            raise ImageError(f"{path}: cannot be opened: no permission to read it") from error
        raise _unreadable(path, error) from error


def _decode(image: pyvips.Image) -> np.ndarray:
    """The samples, HWC: in memory, or beyond IN_MEMORY bytes a read-only map of a nameless file in the system's
    temporary folder (TMPDIR), if there is room."""
    shape, dtype = (image.height, image.width, image.bands), np.dtype(_NUMPY[str(image.format)])
    size = int(np.prod(shape)) * dtype.itemsize
    if size <= IN_MEMORY or os.name == "nt" or shutil.disk_usage(tempfile.gettempdir()).free < size + _SPARE:
        return image.numpy().reshape(shape)  # pyvips drops axes of 1x1 gray
    descriptor, name = tempfile.mkstemp(".raw", "realsrt-")
    try:
        os.close(descriptor)
        image.rawsave(name)
        return np.asarray(np.memmap(name, dtype, "r", shape=shape))
    finally:
        os.unlink(name)


def _check_size(path: Path, image: pyvips.Image, max_pixels: int) -> None:
    """Refuse what would fill the memory: too many pixels, or too many channels."""
    if image.bands > _MAX_BANDS:
        raise ImageError(f"{path}: has {image.bands} channels, more than any picture; {_MAX_BANDS} are read at most")
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{path}: {image.width}x{image.height} is above the limit of {max_pixels:,} pixels; "
            "if you trust the file, raise the limit with --max-pixels"
        )


def _check_floats(path: Path, pixels: np.ndarray) -> None:
    """Floats outside [0,1] would be clipped without a word."""
    if pixels.dtype.kind != "f":
        return
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError(f"{path}: has values that are not finite (NaN or infinity); mend it first")
    if low < -TOLERATED or high > 1 + TOLERATED:
        raise ImageError(f"{path}: float pictures go from 0 to 1, this one from {low:g} to {high:g}; scale it first")


def _is_animated_png(path: Path) -> bool:
    """Whether an animation's chunk comes before the pixels; libvips shows the first frame and says nothing."""
    with path.open("rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return False
        for _ in range(100):
            length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            if kind in (b"acTL", b"IDAT", b""):
                return kind == b"acTL"
            file.seek(length + 4, os.SEEK_CUR)
    return False


def _number(image: pyvips.Image, name: str) -> int:
    value = image.get(name) if image.get_typeof(name) else 1
    return value if isinstance(value, int) else 1


def _unreadable(path: Path, error: Exception | None) -> ImageError:
    lines = [line.strip() for line in str(error or "").splitlines() if ":" in line]
    reason = lines[0].split(":", 1)[1].strip() if lines else ""
    if error is None or "not in a known format" in str(error):
        known = ", ".join(supported_formats()["read"])
        return ImageError(f"{path}: is not a picture that can be read here ({known}); convert it first")
    if "Unsupported" in reason or "No decoding plugin" in reason:
        return ImageError(f"{path}: holds what cannot be read here ({reason}); convert it first")
    return ImageError(f"{path}: is damaged or cut short ({reason or _line(error)}); copy or download it again")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def _plain(image: pyvips.Image, path: Path, notices: list[str]) -> pyvips.Image:
    """The same picture as gray or RGB (+ alpha) of uint8, uint16 or float32."""
    kind = image.interpretation
    if kind == "cmyk":
        depth = 16 if image.format == "ushort" else 8
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
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


def write(
    path: str | os.PathLike[str],
    picture: Picture | np.ndarray,
    *,
    quality: int | None = None,
    strip: bool = False,
    provenance: Provenance | None = None,
) -> tuple[str, ...]:
    """Write a picture in the format of the suffix; the file is either whole or absent. Returns notices.

    `picture` may be an array, as `Picture.from_array` takes it.
    `quality` 1…100 is for the lossy formats. `strip` leaves out all metadata but the ICC profile and the density, the
    `provenance` too, which else goes into the XMP.
    Raises ImageError if the format cannot hold it or the disk does not take it, UsageError for another quality.
    """
    path = Path(path)
    picture = picture if isinstance(picture, Picture) else Picture.from_array(picture)
    format = output_format(path)
    notices = check_output(path, picture.width, picture.height, picture.has_alpha, picture.depth)
    options = {**format.options, "keep": _kept(format, picture) if strip else "all"}
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"quality goes from 1 to 100, got {quality}")
    if quality is not None and "Q" in options:
        options["Q"] = int(quality)
    pixels = picture.pixels
    if picture.depth > 8 and picture.depth not in format.depths:
        wanted = np.uint8 if max(format.depths) == 8 else np.uint16
        pixels = from_float(to_float(pixels), wanted) if pixels.dtype != wanted else pixels
        if max(format.depths) == 12:
            options["bitdepth"] = 12
    if format.name == "TIFF":
        options["predictor"] = "none" if pixels.dtype.kind == "f" else "horizontal"
        options["bigtiff"] = pixels.nbytes > 3_500_000_000
        if picture.width * picture.height >= _TILED:
            options |= {"tile": True, "tile_width": 256, "tile_height": 256}
    try:
        if strip:
            kept = {key: field for key, field in picture.metadata.items() if key == "icc-profile-data"}
            picture, provenance = replace(picture, metadata=kept), None
        image, more = attach(_vips(pixels), picture, format, path, provenance)
        image.set_type(pyvips.GValue.gint_type, "orientation", 1)  # also inside the EXIF block: the pixels are upright
        with whole_or_absent(path) as descriptor:
            image.write_to_target(pyvips.Target.new_to_descriptor(descriptor), format.suffixes[0], **options)
            complete = {"TIFF": complete_tiff, "PNG": complete_png}.get(format.name)
            if complete:
                with os.fdopen(os.dup(descriptor), "r+b") as file:
                    complete(file, picture)
    except pyvips.Error as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[1:]) or error.message
        if "write failed" in reason and shutil.disk_usage(path.parent).free < _CRUMBS:  # libvips does not say why
            reason = os.strerror(errno.ENOSPC)
        raise ImageError(f"{path}: could not be written: {reason}") from error
    except OSError as error:
        raise ImageError(f"{path}: could not be written: {error.strerror or error}") from error
    return (*notices, *more)


def _kept(format: Format, picture: Picture) -> str:
    """What libvips shall write of stripped metadata: these formats have the density in EXIF, else holding nothing."""
    return "icc|exif" if format.name in ("JPEG", "WebP", "AVIF") and picture.density != (1.0, 1.0) else "icc"


def _vips(pixels: np.ndarray) -> pyvips.Image:
    height, width, bands = pixels.shape
    name = next(name for name, dtype in _NUMPY.items() if pixels.dtype == dtype)
    if isinstance(pixels, np.memmap):  # libvips maps a part of the file at a time
        image = pyvips.Image.rawload(str(pixels.filename), width, height, bands, format=name)
    else:
        image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, bands, name)
    kinds = {"uchar": ("b-w", "srgb"), "ushort": ("grey16", "rgb16"), "float": ("b-w", "scrgb")}
    return image.copy(interpretation=kinds[name][bands > 2])
