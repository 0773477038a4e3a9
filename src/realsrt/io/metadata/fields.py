"""What a picture file says beside its pixels: taken from libvips' image, and put on the one to be written."""

import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pyvips

from realsrt.io.formats import Format
from realsrt.io.metadata import colour, exif, heif, png, xmp
from realsrt.io.metadata.provenance import Provenance
from realsrt.io.picture import Picture

_MOST = 2**22  # bytes of one field
_CARRIED = (
    "icc-profile-data", "exif-data", "xmp-data", "iptc-data", "exif-ifd0-", "exif-ifd2-", "exif-ifd3-",
    "jpeg-thumbnail-data",
)  # fmt: skip
TEXT = "png-comment-"
_BLOB = pyvips.GValue.blob_type
_THUMBNAIL_SIDE = 160
_MAX_DENSITY = 1_000_000  # px/mm, libvips' limit
_SUBJECT = {"exif-ifd2-SubjectArea": 0x9214, "exif-ifd2-SubjectLocation": 0xA214}
_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC_RESOURCE = 0x0404


def collect(image: pyvips.Image, notices: list[str] | None = None) -> dict[str, tuple[int, Any]]:
    """libvips' field names → (type, value) of all that is carried; orientation is not, IPTC without its wrapper.

    What is too large is left out, and said in `notices`.
    """
    names = [name for name in _fields(image) if name.startswith(_CARRIED) and "Orientation" not in name]
    found: dict[str, tuple[int, Any]] = {name: (image.get_typeof(name), image.get(name)) for name in names}
    if "iptc-data" in found:
        data = _unwrapped(bytes(found["iptc-data"][1]))
        found["iptc-data"] = (_BLOB, data)
        if not data:
            del found["iptc-data"]
    if len(found.get("exif-data", (0, b""))[1]) > exif.MAX_BLOCK:
        found = {name: field for name, field in found.items() if not name.startswith("exif-")}
        if notices is not None:
            notices.append(f"its EXIF of more than {exif.MAX_BLOCK:,} bytes is left out")
    for name in [name for name, (_, value) in found.items() if len(value) > _MOST]:
        del found[name]
        if notices is not None:
            notices.append(f"its {name} of more than {_MOST:,} bytes is left out")
    return found


def _fields(image: pyvips.Image) -> list[str]:
    try:
        return image.get_fields()
    except UnicodeDecodeError:  # a hostile name among them, or a PNG's keyword with accents: whole blocks only
        return [name for name in _CARRIED if image.get_typeof(name)]


def collect_tiff(file: BinaryIO, notices: list[str]) -> dict[str, tuple[int, Any]]:
    """The EXIF and IPTC of an open TIFF file as `collect` would give them."""
    records = exif.read_iptc(file)
    found: dict[str, tuple[int, Any]] = {} if records is None else {"iptc-data": (_BLOB, records)}
    try:
        block = exif.read(file)
    except ValueError as error:
        notices.append(f"its EXIF is left out: {error}")
        return found
    return found | collect_exif(block) if block else found


def collect_exif(block: bytes) -> dict[str, tuple[int, Any]]:
    """The fields of an EXIF block as `collect` would give them."""
    image = pyvips.Image.black(1, 1).copy()
    image.set_type(_BLOB, "exif-data", block)  # pyright: ignore[reportArgumentType]
    return collect(image)


def text_fields(texts: Iterable[tuple[str, str]]) -> dict[str, tuple[int, Any]]:
    """The text entries of a PNG file, named as libvips names them."""
    return {f"{TEXT}{n}-{key}": (pyvips.GValue.gstr_type, text) for n, (key, text) in enumerate(texts)}


def complete_png(file: BinaryIO, picture: Picture) -> None:
    """Add to an open PNG file (r+b) its text entries, which libvips would pack, and garble where they are not ASCII."""
    fields = picture.metadata.items()
    entries = [(name.split("-", 3)[3], text) for name, (_, text) in fields if name.startswith(TEXT)]
    if entries:
        png.add(file, entries)
    if picture.code:
        png.insert(file, b"cICP", bytes((*picture.code, 0, 1)))


def complete_tiff(file: BinaryIO, picture: Picture) -> None:
    """Add to an open TIFF file (r+b) what libvips does not write into it."""
    iptc = picture.metadata.get("iptc-data")
    block = picture.exif
    places = {_SUBJECT[name]: numbers for name, numbers in subject(picture).items()}
    exif.add(
        file, bytes(block) if block else None, bytes(iptc[1]) if iptc else None, picture.width, picture.height, places
    )  # fmt: skip


def density(image: pyvips.Image) -> tuple[float, float]:
    """px/mm along x and y; from EXIF where the format itself (WebP, AVIF) says nothing of it."""
    if (image.xres, image.yres) != (1.0, 1.0):
        return (image.xres, image.yres) if max(image.xres, image.yres) < _MAX_DENSITY else (1.0, 1.0)
    per_mm = {"2": 1 / 25.4, "3": 0.1}.get(_exif(image, "ResolutionUnit")[:1], 0.0)
    found = [_ratio(_exif(image, name)) * per_mm for name in ("XResolution", "YResolution")]
    return (found[0], found[1]) if min(found) > 0 and max(found) < _MAX_DENSITY else (1.0, 1.0)


def _exif(image: pyvips.Image, tag: str) -> str:
    name = f"exif-ifd0-{tag}"
    return str(image.get(name)) if image.get_typeof(name) else ""


def _ratio(text: str) -> float:
    match = re.match(r"(\d{1,10})/(\d{1,10}) ", text)
    return int(match[1]) / int(match[2]) if match and int(match[2]) else 0.0


def attach(
    image: pyvips.Image, picture: Picture, format: Format, path: Path, provenance: Provenance | None
) -> tuple[pyvips.Image, tuple[str, ...]]:
    """The image with the picture's metadata, corrected for its new size; notices on what the format cannot hold."""
    notices = []
    fields = dict(picture.metadata)
    packet, remarks = _packet(fields, picture, format, provenance)
    notices += [f"{path}: {remark}" for remark in remarks]
    fields.pop("xmp-data", None)
    if packet is not None:
        fields["xmp-data"] = (_BLOB, packet)
    if "iptc-data" in fields and not format.iptc:
        del fields["iptc-data"]
        notices.append(f"{path}: {format.name} cannot hold the picture's IPTC data (kept by JPEG and TIFF)")
    elif "iptc-data" in fields and format.name == "TIFF":
        del fields["iptc-data"]  # `complete_tiff` sees to it
    elif "iptc-data" in fields:
        fields["iptc-data"] = (_BLOB, _wrapped(fields["iptc-data"][1]))
    fields = {name: field for name, field in fields.items() if not name.startswith(TEXT)}  # see `complete_png`
    code = fields.pop("cicp", None)
    if code and format.name == "AVIF":  # see `complete_avif`
        fields["icc-profile-data"] = (_BLOB, colour.stand_in(code[1][0]))
    for name, numbers in subject(picture).items():
        text = " ".join(map(str, numbers))
        if text:
            fields[name] = (pyvips.GValue.gstr_type, f"{text} ({text}, Short, {len(numbers)} components)")
        else:
            del fields[name]
    if "jpeg-thumbnail-data" in fields:
        fields["jpeg-thumbnail-data"] = (_BLOB, _thumbnail(image))
        fields["exif-ifd1-Compression"] = (pyvips.GValue.gstr_type, "6")
    # a copy that no operation has seen: libvips' cache would go on giving results without the new fields
    image = image.copy(xres=picture.density[0], yres=picture.density[1])
    for key, (gtype, value) in fields.items():
        image.set_type(gtype, key, value)
    return image, tuple(notices)


def subject(picture: Picture) -> dict[str, list[int]]:
    """EXIF's places of the subject (SubjectArea, SubjectLocation: pixels of the picture before it was turned) in the
    picture as it is now; none where they do not fit into 16 bit."""
    size, found = _resized(picture), {}
    for name in _SUBJECT:
        match = re.match(r"\d{1,5}( \d{1,5}){1,3}(?= \()", str(picture.metadata.get(name, (0, ""))[1]))
        if match and size.before:
            found[name] = size.area([int(number) for number in match[0].split()])
    return found


def _resized(picture: Picture) -> xmp.Resized:
    return xmp.Resized(picture.width, picture.height, picture.size_before, picture.orientation)


def _packet(
    fields: dict[str, tuple[int, Any]], picture: Picture, format: Format, provenance: Provenance | None
) -> tuple[bytes | None, tuple[str, ...]]:
    """The XMP packet to write, and what to tell of it."""
    before = bytes(fields["xmp-data"][1]) if "xmp-data" in fields else None
    made = (provenance.software, provenance.parameters) if provenance else ("", "")
    size = _resized(picture)
    remarks: tuple[str, ...] = ()
    try:
        packet, remarks = xmp.updated(before, size, *made)
    except xmp.TooMuchError as error:
        packet, _ = xmp.updated(None, size, *made)
        remarks = (f"the picture's XMP is left out: {error}",)
    except ValueError as error:
        packet = before
        remarks = (f"the picture's XMP is kept as it is, without an entry on its making: {error}",)
    if packet is not None and len(packet) > format.max_xmp:
        return None, (f"{format.name} cannot hold the picture's XMP of {len(packet):,} bytes; it is left out",)
    return packet, remarks


def complete_avif(file: BinaryIO, picture: Picture) -> None:
    """Put a code point into an open AVIF file (r+b), in the place of the ICC profile that libvips wrote."""
    if picture.code:
        heif.replace_profile(file, picture.code)


def _thumbnail(image: pyvips.Image) -> bytes:
    small = image.thumbnail_image(_THUMBNAIL_SIDE, height=_THUMBNAIL_SIDE, size="down")
    small = small.flatten() if small.hasalpha() else small
    return small.colourspace("srgb").cast("uchar").jpegsave_buffer(Q=75, keep=0)


def _unwrapped(data: bytes) -> bytes:
    """The bare IPTC records of what libvips calls iptc-data: in JPEG a list of Photoshop's resources, in TIFF they
    themselves."""
    if not data.startswith(_PHOTOSHOP):
        return data
    position = len(_PHOTOSHOP)
    while data[position : position + 4] == b"8BIM" and len(data) >= position + 7:
        (kind,) = struct.unpack(">H", data[position + 4 : position + 6])
        name = 1 + data[position + 6]
        start = position + 6 + name + name % 2
        if len(data) < start + 4:
            break
        (size,) = struct.unpack(">I", data[start : start + 4])
        if kind == _IPTC_RESOURCE:
            return data[start + 4 : start + 4 + size]
        position = start + 4 + size + size % 2
    return b""


def _wrapped(records: bytes) -> bytes:
    size = struct.pack(">I", len(records))
    return (
        _PHOTOSHOP + b"8BIM" + struct.pack(">H", _IPTC_RESOURCE) + b"\0\0" + size + records + b"\0" * (len(records) % 2)
    )
