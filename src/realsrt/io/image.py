"""Image files in and out by libvips: exact 8 and 16 bit, float, gray, alpha, ICC, EXIF. Errors are ImageError."""

import errno
import io
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from realsrt.errors import ImageError, UsageError, why
from realsrt.io import jxl
from realsrt.io.atomic import whole_or_absent
from realsrt.io.files import MAX_PIXELS
from realsrt.io.formats import FORMATS, KINDS, Format, check_output, output_format, supported_formats, vips_image
from realsrt.io.metadata import colour, png, text
from realsrt.io.metadata.fields import (
    attach,
    collect,
    collect_tiff,
    complete_avif,
    complete_png,
    complete_tiff,
    density,
    text_fields,
)
from realsrt.io.metadata.provenance import Provenance
from realsrt.io.opening import Opened, open_image, unreadable
from realsrt.io.picture import Picture, check_floats, from_float, to_float, to_whole

import pyvips  # isort: skip - after formats, which tells libvips to be quiet

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "check_output",
    "fitted",
    "header",
    "is_transparent",
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

_WHOLE = {
    "char": "signed 8-bit samples", "short": "signed 16-bit samples", "int": "signed 32-bit samples",
    "uint": "32-bit whole numbers as samples",
}  # fmt: skip


def read(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read one image file, upright, as gray or RGB with or without alpha; the first page of several.

    Args:
        path: The file. What it is, its content says, not its name.
        max_pixels: A file of more is refused by its header, before any decoding.

    Returns:
        The image, its metadata, and notices of one line on what was left out.

    Raises:
        ImageError: One line naming the file, for whatever cannot be read whole.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write(f"{folder}/gray.png", np.zeros((20, 30), np.uint8))
    ...     read(f"{folder}/gray.png").pixels.shape
    (20, 30, 1)
    """
    path = Path(path)
    try:
        return _read(open_image(path, strict=True), max_pixels)
    except ImageError as error:
        if not isinstance(error.__cause__, pyvips.Error):
            raise
        opened = open_image(path)
        if opened.format != "JPEG":
            raise
    picture = _read(opened, max_pixels)  # as far as its decoder gets over what it warns of
    return replace(picture, notices=(*picture.notices, f"{path}: has errors in its data; parts of it may look wrong"))


def _read(opened: Opened, max_pixels: int) -> Picture:
    path = opened.path
    _check_size(path, opened.image, max_pixels)
    image = opened.decoded()
    try:
        orientation = _number(image, "orientation")
        notices = []
        pages = _number(image, "n-pages")
        if pages > 1:
            notices.append(f"only the first of its {pages} pages or frames is used")
        elif opened.format == "PNG":
            with path.open("rb") as file:
                animated = b"acTL" in png.before_pixels(file)  # libvips shows the first frame and says nothing
            notices += ["only the first of its frames is used"] if animated else []
        fields = _fields(opened, image, notices)
        x, y = density(image)
        image = _plain(image, notices)
        if image.get_typeof("icc-profile-data"):
            if "icc-profile-data" in fields:
                fields["icc-profile-data"] = (image.get_typeof("icc-profile-data"), image.get("icc-profile-data"))
        elif "icc-profile-data" in fields:
            del fields["icc-profile-data"]  # of the space it was converted from
        else:
            fields |= _said_of_colour(opened, image.bands < 3, notices)
        pixels = _decode(image)
        if opened.format == "GIF" and image.hasalpha() and pixels[..., -1].min() == 255:
            pixels = pixels[..., :-1]  # an animation has alpha whether or not anything shows through
    except (pyvips.Error, OSError) as error:
        raise unreadable(path, error) from error
    except _Refused as error:
        raise ImageError(f"{path}: {error}") from error
    check_floats(pixels, f"{path}: ")
    pixels = _upright(pixels, orientation)
    told = (*opened.notices, *(f"{path}: {notice}" for notice in notices))
    size = pixels.shape[1], pixels.shape[0]
    density_xy = (x, y) if orientation < 5 else (y, x)
    depth = opened.bits if pixels.dtype == np.uint16 else None
    return Picture(pixels, fields, density_xy, told, path, size, orientation, opened.format, depth)


class _Refused(Exception):
    """What a picture is that cannot be taken as it is."""


def _fields(opened: Opened, image: pyvips.Image, notices: list[str]) -> dict[str, tuple[int, Any]]:
    """The metadata that is carried."""
    fields = collect(image, notices)
    if opened.format == "TIFF":
        with opened.path.open("rb") as file:
            fields |= collect_tiff(file, notices)
    return fields | text_fields(opened.texts)


def _said_of_colour(opened: Opened, gray: bool, notices: list[str]) -> dict[str, tuple[int, Any]]:
    """Fields for what a file without an ICC profile says of its colours."""
    if opened.boxes and opened.boxes.nclx:
        signal = colour.of_code(*opened.boxes.nclx, gray=gray)
    elif opened.format == "PNG":
        with opened.path.open("rb") as file:
            signal = colour.of_png(file, gray=gray)
    else:
        signal = opened.signal or colour.Signal()
    notices += [signal.notice] if signal.notice else []
    said = {"icc-profile-data": signal.icc, "cicp": bytes(signal.code or ())}
    return {name: (pyvips.GValue.blob_type, data) for name, data in said.items() if data}


@dataclass(frozen=True)
class Header:
    """What a file's header says: the size once upright, the format's name as `identify` has it, and the bytes that a
    decoded pixel takes."""

    width: int
    height: int
    has_alpha: bool
    format: str
    pixel_bytes: int


def header(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Header:
    """Look at an image file without decoding it.

    Args:
        path, max_pixels: As in `read`.

    Returns:
        What its header says.

    Raises:
        ImageError: As `read` does, but for damage further on.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write(f"{folder}/a.webp", np.zeros((20, 30, 3), np.uint8))
    ...     header(f"{folder}/a.webp")
    Header(width=30, height=20, has_alpha=False, format='WebP', pixel_bytes=3)
    """
    path = Path(path)
    opened = open_image(path)
    image = opened.image
    _check_size(path, image, max_pixels)
    width, height = image.width, image.height
    if _number(image, "orientation") >= 5:
        width, height = height, width
    sample = {"uchar": 1, "char": 1, "ushort": 2, "short": 2}.get(str(image.format), 4)
    return Header(width, height, bool(image.hasalpha()), opened.format, image.bands * sample)


def is_transparent(path: str | os.PathLike[str]) -> bool:
    """Whether anything shows through an image file: of one with alpha only decoding tells. Raises ImageError."""
    opened = open_image(Path(path))
    try:
        image = opened.decoded()
        full = {"uchar": 255, "ushort": 65535}.get(str(image.format), 1)
        return bool(image.hasalpha()) and bool((image[image.bands - 1] < full).max())
    except pyvips.Error as error:
        raise unreadable(opened.path, error) from error


def _decode(image: pyvips.Image) -> np.ndarray:
    """The samples, HWC: in memory, or beyond IN_MEMORY bytes a read-only map of a nameless file in the system's
    temporary folder (TMPDIR), if there is room."""
    shape, dtype = (image.height, image.width, image.bands), np.dtype(KINDS[str(image.format)][0])
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


def _number(image: pyvips.Image, name: str) -> int:
    value = image.get(name) if image.get_typeof(name) else 1
    return value if isinstance(value, int) else 1


def _plain(image: pyvips.Image, notices: list[str]) -> pyvips.Image:
    """The same picture as gray or RGB (+ alpha) of uint8, uint16 or float32. Raises _Refused."""
    kind = image.interpretation
    if image.format in _WHOLE and kind != "labs":
        raise _Refused(
            f"has {_WHOLE[str(image.format)]}, whose range is not known; scale them to 8 or 16 bit first, or to floats"
            " from 0 to 1"
        )
    if kind == "cmyk":
        depth = 16 if image.format == "ushort" else 8
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
        notices.append("converted from CMYK to RGB")
    elif kind not in ("b-w", "grey16", "srgb", "rgb", "rgb16", "scrgb", "multiband"):
        image = image.colourspace("rgb16" if image.format == "ushort" or kind == "labs" else "srgb")
        image = image.copy()
        image.remove("icc-profile-data")
        notices.append(f"converted from {kind} to RGB")
    if image.bands > 4:
        notices.append(f"only the first 4 of its {image.bands} channels are used")
        image = image.extract_band(0, n=4)
    return image if image.format in KINDS else image.cast("float")


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
    """Write an image in the format of the suffix; the file is either whole or absent.

    Args:
        path: The file; one that is there is replaced.
        picture: The image, or an array as `Picture.from_array` takes it.
        quality: 1 to 100, for the lossy formats.
        strip: Leave out all metadata but the ICC profile and the density, `provenance` too.
        provenance: What goes into the XMP: software, model, settings.

    Returns:
        Notices of one line each on what the format could not hold.

    Raises:
        ImageError: The format cannot hold it, the disk does not take it, or there are floats outside [0,1].
        UsageError: For another quality.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(f"{folder}/a.jpg", np.zeros((20, 30, 3), np.uint8), quality=90)
    ()
    """
    path = Path(path)
    picture = picture if isinstance(picture, Picture) else Picture.from_array(picture)
    check_floats(picture.pixels, f"{path}: ")
    format = output_format(path)
    picture = fitted(picture, path)
    depth = min(picture.depth, picture.file_depth or picture.depth)
    notices = check_output(path, picture.width, picture.height, picture.has_alpha, depth)
    options = {**format.options, "keep": _kept(format, picture) if strip else "all"}
    if quality is not None and not (isinstance(quality, Real) and 1 <= quality <= 100):
        raise UsageError(f"quality goes from 1 to 100, got {quality!r}")
    if quality is not None and "Q" in options:
        options["Q"] = int(quality)
    if picture.depth not in format.depths and max(format.depths) == 12:
        options["bitdepth"] = 12
    if strip:
        kept = {key: field for key, field in picture.metadata.items() if key in ("icc-profile-data", "cicp")}
        picture, provenance = replace(picture, metadata=kept), None
    try:
        picture, image, remarks = _in_colours_of(format, picture)
        if format.name == "PNG":
            picture = replace(picture, metadata=text.to_png(picture.metadata))
        else:
            moved, left = text.from_png(picture.metadata)
            picture = replace(picture, metadata=moved)
            if left:
                names = ", ".join(sorted(left)[:5])
                remarks.append(f"{format.name} has no place for the picture's text {names} (kept by PNG)")
        if format.name == "TIFF":
            options["predictor"] = "none" if image.format == "float" else "horizontal"
            options["bigtiff"] = picture.pixels.nbytes > 3_500_000_000
            if picture.width * picture.height >= _TILED:
                options |= {"tile": True, "tile_width": 256, "tile_height": 256}
        image, more = attach(image, picture, format, path, provenance)
        image.set_type(pyvips.GValue.gint_type, "orientation", 1)  # also inside the EXIF block: the pixels are upright
        with whole_or_absent(path) as descriptor:
            if format.name == "JPEG XL":
                _write_jxl(descriptor, image, picture.code or (1, colour.SRGB), options)
            else:
                image.write_to_target(pyvips.Target.new_to_descriptor(descriptor), format.suffixes[0], **options)
            complete = {"TIFF": complete_tiff, "PNG": complete_png, "AVIF": complete_avif}.get(format.name)
            if complete:
                with os.fdopen(os.dup(descriptor), "r+b") as file:
                    complete(file, picture)
    except pyvips.Error as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[1:]) or error.message
        if "write failed" in reason and shutil.disk_usage(path.parent).free < _CRUMBS:  # libvips does not say why
            reason = os.strerror(errno.ENOSPC)
        raise ImageError(f"{path}: could not be written: {reason}") from error
    except RuntimeError as error:  # imagecodecs'
        raise ImageError(f"{path}: could not be written: {error}") from error
    except OSError as error:
        raise ImageError(f"{path}: could not be written: {why(error)}") from error
    return (*notices, *(f"{path}: {remark}" for remark in remarks), *more)


def _write_jxl(descriptor: int, image: pyvips.Image, code: tuple[int, int], options: Mapping[str, Any]) -> None:
    """The EXIF block is what libvips makes of the image's fields for another format."""
    blank = pyvips.Image.black(image.width, image.height).copy(xres=image.xres, yres=image.yres)
    for name in image.get_fields():
        if name.startswith(("exif-", "jpeg-thumbnail-data", "orientation")):
            blank.set_type(image.get_typeof(name), name, image.get(name))
    small: dict[str, Any] = {"bitdepth": 1, "compression": 1, "keep": "none" if options["keep"] == "icc" else "exif"}
    block = png.read(io.BytesIO(blank.pngsave_buffer(**small))).exif
    xmp: Any = image.get("xmp-data") if image.get_typeof("xmp-data") else b""
    pixels = image.numpy().reshape(image.height, image.width, image.bands)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(jxl.encoded(pixels, code, options["Q"], block, bytes(xmp)))


def fitted(picture: Picture, path: str | os.PathLike[str]) -> Picture:
    """The picture as the format of `path` takes it: where that holds no alpha, without one that is full everywhere."""
    drop = picture.has_alpha and not output_format(path).alpha and picture.opaque
    return picture.without_alpha() if drop else picture


def _in_colours_of(format: Format, picture: Picture) -> tuple[Picture, pyvips.Image, list[str]]:
    """The picture with the profile and code point that are to be written, its pixels in the format's depth, and what to
    tell of it."""
    fields, pixels = dict(picture.metadata), picture.pixels
    bits = 8 if max(format.depths) == 8 else 16
    code = picture.code
    if code and not (format.codes and (format.profiles or jxl.holds(code))):
        del fields["cicp"]
        if code[1] in colour.HDR:
            fields.pop("icc-profile-data", None)
            image, peak = colour.to_srgb(vips_image(to_whole(pixels)), code, min(bits, picture.depth))
            told = f"{format.name} cannot hold {colour.HDR[code[1]]}: it is sRGB now"
            told += f", its light of up to {peak:,.0f} cd/m² brought down to white" if peak > colour.WHITE else ""
            return replace(picture, metadata=fields), image, [told]
    if picture.depth > 8 and picture.depth not in format.depths:
        wanted = np.uint8 if bits == 8 else np.uint16
        pixels = from_float(to_float(pixels), wanted) if pixels.dtype != wanted else pixels
    image, remarks = vips_image(pixels), []
    profile, kind = colour.sound(bytes(picture.icc or b"")), b""
    if profile:
        kind = profile[16:20]
        fields["icc-profile-data"] = (pyvips.GValue.blob_type, profile)
    elif picture.icc:
        del fields["icc-profile-data"]
        remarks.append("its ICC profile is damaged and left out")
    if kind and code and not format.profiles:
        del fields["icc-profile-data"]  # which says the same
    elif picture.gray and kind == b"GRAY" and not format.gray:
        image = vips_image(to_whole(pixels), profile)
        image = image.icc_transform("srgb", embedded=True, depth=bits if image.format == "ushort" else 8)
        kind = b"RGB "
        del fields["icc-profile-data"]
        remarks.append(f"{format.name} holds no gray profile: it is sRGB now, and looks the same")
    elif kind and kind != (b"GRAY" if picture.gray else b"RGB "):
        del fields["icc-profile-data"]
        remarks.append("its ICC profile is for another kind of picture and left out")
    elif kind and not format.profiles:
        del fields["icc-profile-data"]
        new = colour.same_as(profile)
        if new is None:
            new = 9, colour.SRGB
            image = colour.into(vips_image(to_whole(pixels), profile), new, 8 if picture.depth == 8 else 16)
            remarks.append(f"{format.name} is written without ICC profile: it is BT.2020 now, and looks the same")
        fields["cicp"] = (pyvips.GValue.blob_type, bytes(new))
    return replace(picture, metadata=fields), image, remarks


def _kept(format: Format, picture: Picture) -> str:
    """What libvips shall write of stripped metadata: these formats have the density in EXIF, else holding nothing."""
    return "icc|exif" if format.name in ("JPEG", "WebP", "AVIF", "JPEG XL") and picture.density != (1.0, 1.0) else "icc"
