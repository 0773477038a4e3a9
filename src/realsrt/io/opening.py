"""Opening a picture file: the loader for what it is, its header, and one line for a person where that fails."""

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np

from realsrt.errors import ImageError, why
from realsrt.io import jxl, tiff
from realsrt.io.formats import KINDS, LOADERS, heif_library, supported_formats
from realsrt.io.metadata import colour, exif, gif, heif, jpeg, png
from realsrt.io.signature import ADVICE, HEAD, identify
from realsrt.io.suffixes import jxl_library

import pyvips  # isort: skip - after formats, which tells libvips to be quiet

_WALKED = 2**31  # bytes of a JPEG file that is looked through for what lies behind its picture
_READ = 2**28  # bytes of one that is read for it; beyond that it is mapped, and its missing end not mended
_PAGES = 10_000  # of a TIFF; libvips goes through all of them
_TRIED = 2**27  # pixels up to which a HEIC picture is decoded to see whether it can be
_LEFT_OUT = {
    jpeg.GAIN_MAP: "its gain map (HDR) is left out, the base picture is used",
    jpeg.VIDEO: "the video of this motion photo is left out",
    jpeg.IMAGES: "only the first of its pictures is used",
}
_FIELDS = {"exif": "exif-data", "xmp": "xmp-data", "icc_profile": "icc-profile-data"}
_UNSUPPORTED = (
    "unsupported", "not configured", "no decoding plugin", "not implemented", "not supported", "not been built in",
    "samples out of range", "bad labq format",
)  # fmt: skip


@dataclass(frozen=True)
class Opened:
    """A file whose header has been read. `format` as `identify` names it; `notices` on what is left out of it;
    `texts`: of PNG, keywords and what they say; `boxes` of AVIF and HEIC; `signal`: what JPEG XL says of its colours;
    `samples` gives the pixels of what libvips cannot decode, HWC, upright. `bits` a sample in the file, where they
    come as 16, of which libheif uses the first."""

    path: Path
    format: str
    image: pyvips.Image
    notices: tuple[str, ...] = ()
    texts: Sequence[tuple[str, str]] = ()
    boxes: heif.Boxes | None = None
    signal: colour.Signal | None = None
    premultiplied: bool = False
    samples: Callable[[], np.ndarray] | None = None
    bits: int = 16

    def decoded(self) -> pyvips.Image:
        """The image whose pixels can be had, full at 65535 if it has more than 8 bit; where it is not libvips that
        decodes, they are now. Raises ImageError."""
        image = self._pixels()
        kind, sample = image.interpretation, str(image.format)
        if sample == "ushort" and self.bits < 16 and self.boxes:
            image = (image * (65535 / (65536 - 2 ** (16 - self.bits)))).rint().cast(sample)
        if self.premultiplied and image.hasalpha():
            top = {"uchar": 255, "ushort": 65535}.get(sample, 1)
            image = image.unpremultiply(max_alpha=top)
            image = image if top == 1 else image.rint().cast(sample)
        return image.copy(interpretation=kind)

    def _pixels(self) -> pyvips.Image:
        if self.samples is None:
            return self.image
        try:
            pixels = np.ascontiguousarray(self.samples()).reshape(self.image.height, self.image.width, self.image.bands)
        except Exception as error:  # they raise whatever damage leads to
            raise unreadable(self.path, error) from error
        image = pyvips.Image.new_from_array(pixels).copy(interpretation=self.image.interpretation)
        for name in _FIELDS.values():
            if self.image.get_typeof(name):
                image.set_type(pyvips.GValue.blob_type, name, self.image.get(name))
        image.remove("orientation")  # which libvips takes from EXIF; the decoder has turned it
        return image


def open_image(path: Path, *, strict: bool = False) -> Opened:
    """The header only, by a loader of ours: others (SVG, PDF, text) never see the file. Raises ImageError.

    `strict`: what libjpeg would only warn of is an error too.
    """
    try:
        if path.is_dir():
            raise ImageError(f"{path}: is a folder, not a picture; give the folder without a file's name, or a file")
        if not path.is_file() and path.exists():
            raise ImageError(f"{path}: is not a regular file; give a picture file")
        if _size(path) == 0:
            raise ImageError(f"{path}: is empty (0 bytes); copy or download it again")
        with path.open("rb") as file:
            format = identify(file.read(HEAD))
            if format == "TIFF" and exif.is_raw(file):
                format = "RAW"
            if format == "TIFF" and exif.has_more_pages(file, _PAGES):
                raise _crowded(path, _PAGES, "pages")
            ycbcr = tiff.colours(path, file) if format == "TIFF" else None
        if format == "HEIC":
            return _heic(path)
        if format == "JPEG XL" and jxl_library():
            return _jxl(path)
        if not pyvips.type_find("VipsForeign", LOADERS.get(format, "")):
            raise ImageError(f"{path}: {ADVICE[format]}") if format in ADVICE else unreadable(path, None)
        if format == "JPEG" and path.stat().st_size <= _WALKED:
            return _jpeg(path, "warning" if strict else "error")
        if format == "PNG":
            return _png(path)
        if format == "GIF":
            return _gif(path)
        image = _load(LOADERS[format], _source(path))
        image = ycbcr.rgb(image) if ycbcr else image
        return _of_boxes(Opened(path, format, image), _boxes(path)) if format == "AVIF" else Opened(path, format, image)
    except OSError as error:
        if isinstance(error, PermissionError):
            raise ImageError(f"{path}: cannot be opened: no permission to read it") from error
        raise ImageError(f"{path}: cannot be opened: {why(error)}") from error
    except pyvips.Error as error:
        raise unreadable(path, error) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except ValueError as error:
        raise ImageError(f"{str(path)!a}: is no name that a file could have ({why(error)})") from error


def _crowded(path: Path, most: int, what: str) -> ImageError:
    """Of a file whose parts would keep its decoder busy for minutes, or fill the memory."""
    return ImageError(f"{path}: has more than {most:,} {what}, as no picture needs; save it anew with an image editor")


def _left_out(path: Path, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{path}: {_LEFT_OUT[name]}" for name in names)


def _source(path: Path) -> pyvips.Source:
    return pyvips.Source.new_from_file(os.fsencode(path))  # pyright: ignore[reportArgumentType] - bytes will do


def _load(loader: str, source: pyvips.Source, fail_on: str = "error") -> pyvips.Image:
    image = pyvips.Operation.call(loader, source, access="sequential", fail_on=fail_on)
    image._references.append(source)
    return image


def _jpeg(path: Path, fail_on: str) -> Opened:
    """Also one that lacks only the marker of its end; of several pictures the first."""
    with path.open("rb") as file, ExitStack() as stack:
        large = path.stat().st_size > _READ
        data = stack.enter_context(mmap(file.fileno(), 0, access=ACCESS_READ)) if large else file.read()
        found = jpeg.walk(data)
        notices = _left_out(path, jpeg.left_out(data, found))
    if found.crowded:
        raise _crowded(path, jpeg.SEGMENTS, "segments")
    if not (found.only_end_missing and isinstance(data, bytes)):
        return Opened(path, "JPEG", _load(LOADERS["JPEG"], _source(path), fail_on), notices)
    mended = data.removesuffix(b"\xff") + b"\xff\xd9"
    image = _load(LOADERS["JPEG"], pyvips.Source.new_from_memory(mended), "warning")
    return Opened(path, "JPEG", image, (*notices, f"{path}: its last bytes are missing; the picture is complete"))


def _png(path: Path) -> Opened:
    """libvips would inflate all text there is; and does not look behind the pixels."""
    with path.open("rb") as file:
        found = png.read(file)
    notices, source = (), None
    if not found.complete:
        kept = f"only {len(found.texts)} of its text entries are kept; the others, or its XMP, are too many or too long"
        notices, source = (f"{path}: {kept}",), pyvips.Source.new_from_memory(png.without_text(path.read_bytes()))
    image = _load(LOADERS["PNG"], source or _source(path))
    late = {"exif-data": found.exif and b"Exif\0\0" + found.exif, "xmp-data": found.xmp}
    for name, value in late.items():
        if value and not image.get_typeof(name):
            image.set_type(pyvips.GValue.blob_type, name, value)  # pyright: ignore[reportArgumentType]
    return Opened(path, "PNG", image, notices, found.texts)


def _gif(path: Path) -> Opened:
    """Where a picture does not cover its screen, nothing is seen; libvips would make that black."""
    image = _load(LOADERS["GIF"], _source(path))
    with path.open("rb") as file:
        frame = gif.first_frame(file)
    if frame and not image.hasalpha():
        left, top, width, height = frame
        if left + top or width < image.width or height < image.height:
            covered = (pyvips.Image.black(max(width, 1), max(height, 1)) + 255).cast("uchar")
            image = image.bandjoin(covered.embed(left, top, image.width, image.height))
    return Opened(path, "GIF", image)


def _boxes(path: Path) -> heif.Boxes:
    with path.open("rb") as file:
        boxes = heif.read(file)
    if boxes.crowded:
        raise _crowded(path, heif.BOXES, "boxes")
    return boxes


def _of_boxes(opened: Opened, boxes: heif.Boxes, bits: int | None = None) -> Opened:
    """An AVIF or HEIC file with what its boxes say."""
    if bits is None:
        bits = int(str(opened.image.get("bits-per-sample"))) if opened.image.get_typeof("bits-per-sample") else 8
    notices = _left_out(opened.path, boxes.left_out)
    return replace(opened, boxes=boxes, notices=notices, premultiplied=boxes.premultiplied, bits=bits)


def _heic(path: Path) -> Opened:
    """By the Python package of libheif, else by libvips, if its libheif decodes HEVC; which only trying it tells."""
    boxes = _boxes(path)
    if not heif_library():
        image = _load(LOADERS["HEIC"], _source(path))
        try:
            image = image.copy_memory() if image.width * image.height < _TRIED else image
            return _of_boxes(Opened(path, "HEIC", image), boxes)
        except pyvips.Error as error:
            raise ImageError(f"{path}: {ADVICE['HEIC']}") from error
    try:
        decoder = importlib.import_module(heif_library()).open_heif(path, convert_hdr_to_8bit=False)
        (width, height), mode = decoder.size, decoder.mode
        if min(width, height) < 1:
            raise ValueError(f"it is {width}x{height}")
    except Exception as error:  # it raises whatever damage leads to
        raise unreadable(path, error) from error
    image = _blank(width, height, len(mode.partition(";")[0]), "ushort" if ";16" in mode else "uchar", decoder.info)
    opened = Opened(path, "HEIC", image, samples=lambda: np.asarray(decoder))
    if len(decoder) > 1:
        boxes = replace(boxes, left_out=(*boxes.left_out, jpeg.IMAGES))
    return _of_boxes(opened, boxes, decoder.info["bit_depth"])


def _jxl(path: Path) -> Opened:
    try:
        with path.open("rb") as file:
            header = jxl.read(file)
    except ValueError as error:
        raise unreadable(path, error) from error
    if header.cmyk:
        raise unreadable(path, ValueError("CMYK is not supported"))
    notices = []
    if header.animated:
        notices.append(f"{path}: only the first of its frames is used")
    if header.own_profile:
        notices.append(f"{path}: its ICC profile cannot be read from JPEG XL; taken as sRGB")
    sample = "float" if header.floats else "uchar" if header.bits <= 8 else "ushort"
    image = _blank(*header.size, header.bands, sample, {"exif": header.exif, "xmp": header.xmp})
    return Opened(
        path, "JPEG XL", image, tuple(notices), signal=header.signal, premultiplied=header.premultiplied,
        samples=lambda: jxl.samples(path.read_bytes(), header), bits=header.bits,
    )  # fmt: skip


def _blank(width: int, height: int, bands: int, sample: str, metadata: Mapping[str, Any]) -> pyvips.Image:
    """An image with all of a file that libvips cannot decode but its pixels."""
    kind = KINDS[sample][1 + (bands > 2)]
    image = pyvips.Image.black(width, height, bands=bands).cast(sample).copy(interpretation=kind)  # not libvips' cached
    for name, value in metadata.items():
        if value and name in _FIELDS:
            image.set_type(pyvips.GValue.blob_type, _FIELDS[name], value)
    image.remove("orientation")
    return image


def unreadable(path: Path, error: Exception | None) -> ImageError:
    """What to tell of a file that a loader refused, None: that no loader is for."""
    if error is None or "not in a known format" in str(error):
        known = ", ".join(supported_formats()["read"])
        return ImageError(f"{path}: is not a picture that can be read here ({known}); convert it first")
    if any(word in str(error).lower() for word in _UNSUPPORTED):
        return ImageError(f"{path}: holds what cannot be read here ({reason(error)}); convert it first")
    return ImageError(f"{path}: is damaged or cut short ({reason(error)}); copy or download it again")


def reason(error: Exception) -> str:
    """What a loader says is wrong: libvips puts that first, and what it led to below."""
    for line in str(error).splitlines():
        if ":" in line and (said := line.split(":", 1)[1].strip()):
            return said
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
