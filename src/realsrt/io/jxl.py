"""JPEG XL (ISO 18181) by the package imagecodecs, which knows pixels only. Here is what it leaves out: the codestream's
header (size, depth, colours; written anew, as its encoder takes all it is given for sRGB or for linear light), and the
boxes around it (EXIF, XMP). ICC profiles, which are packed like pixels, are neither read nor written."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

import numpy as np

from realsrt.io.metadata import colour
from realsrt.io.metadata.heif import BOXES, boxes

_SIGNATURE, _START = b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a"
_TYPE, _LEVEL_10 = b"\0\0\0\x14ftypjxl \0\0\0\0jxl ", b"\0\0\0\x09jxll\x0a"
_LOOK = 2**12  # bytes of a codestream that its header lies in
_MOST = 2**22  # bytes of a box of metadata
_ALPHA, _SPOT, _BLACK, _FILTER = 0, 2, 4, 5  # kinds of extra channels
_WHITES = {1: (0.3127, 0.329), 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_OWN = 2  # white or primaries given by their places in the diagram
_SPACES = {1: (1, 1), 9: (1, 9), 11: (11, 11), 12: (1, 11)}  # primaries of H.273: white and primaries of JPEG XL
_TRANSFERS = {1: 1, 6: 1, 14: 1, 15: 1, 8: 8, 13: 13, 16: 16, 17: 17, 18: 18}  # of H.273, of JPEG XL

# How numbers are written: four pairs of a base and of the count of bits that are added to it.
_ENUM, _SIDE = ((0, 0), (1, 0), (2, 4), (18, 6)), ((1, 9), (1, 13), (1, 18), (1, 30))
_WHOLE, _FLOAT = ((8, 0), (10, 0), (12, 0), (1, 6)), ((32, 0), (16, 0), (24, 0), (1, 6))
_PLACE = ((0, 19), (524_288, 19), (1_048_576, 20), (2_097_152, 21))
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


@dataclass
class Header:
    """`stored`: width and height before the orientation is undone, which the decoder does. `bits` a sample; `extra`:
    kinds of channels behind the colours, and whether these are multiplied by them. `own_profile`: an ICC profile says
    what the colours are; `signal`: or else a code. `marks`: places of its parts, in bits."""

    stored: tuple[int, int] = (0, 0)
    orientation: int = 1
    animated: bool = False
    bits: int = 8
    floats: bool = False
    extra: list[tuple[int, bool]] = field(default_factory=list)
    own_profile: bool = False
    gray: bool = False
    signal: colour.Signal | None = None
    marks: list[int] = field(default_factory=list)
    exif: bytes = b""
    xmp: bytes = b""

    @property
    def size(self) -> tuple[int, int]:
        width, height = self.stored
        return (height, width) if self.orientation >= 5 else (width, height)

    @property
    def bands(self) -> int:
        return (1 if self.gray else 3) + (_ALPHA in dict(self.extra))

    @property
    def premultiplied(self) -> bool:
        return (_ALPHA, True) in self.extra

    @property
    def cmyk(self) -> bool:
        return _BLACK in dict(self.extra)


class _Bits:
    """The numbers of a codestream's header, one after another."""

    def __init__(self, data: bytes) -> None:
        self.number, self.place = int.from_bytes(data[:_LOOK], "little"), 0

    def take(self, count: int = 1) -> int:
        value = self.number >> self.place & ((1 << count) - 1)
        self.place += count
        return value

    def choose(self, *options: tuple[int, int]) -> int:
        base, count = options[self.take(2)]
        return base + self.take(count)

    def size(self) -> tuple[int, int]:
        small = self.take()
        height = 8 * (1 + self.take(5)) if small else self.choose(*_SIDE)
        ratio = self.take(3)
        if ratio:
            return height * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1], height
        return 8 * (1 + self.take(5)) if small else self.choose(*_SIDE), height

    def depth(self) -> tuple[int, bool]:
        if self.take():
            bits = self.choose(*_FLOAT)
            self.take(4)
            return bits, True
        return self.choose(*_WHOLE), False

    def channel(self) -> tuple[int, bool]:
        if self.take():
            return _ALPHA, False
        kind = self.choose(*_ENUM)
        self.depth()
        self.choose((0, 0), (3, 0), (4, 0), (1, 3))
        self.take(8 * self.choose((0, 0), (0, 4), (16, 5), (48, 10)))
        if kind == _FILTER:
            self.choose((1, 0), (0, 2), (3, 4), (19, 8))
        return kind, bool(self.take({_ALPHA: 1, _SPOT: 64}.get(kind, 0))) and kind == _ALPHA

    def chromaticity(self) -> tuple[float, ...]:
        numbers = self.choose(*_PLACE), self.choose(*_PLACE)
        return tuple((-(n // 2 + 1) if n & 1 else n // 2) / 1e6 for n in numbers)

    def preview(self) -> None:
        options = ((16, 0), (32, 0), (1, 5), (33, 9)) if self.take() else ((1, 6), (65, 8), (321, 10), (1345, 12))
        self.choose(*options)
        if not self.take(3):
            self.choose(*options)

    def animation(self) -> None:
        self.choose((100, 0), (1000, 0), (1, 10), (1, 30))
        self.choose((1, 0), (1001, 0), (1, 8), (1, 10))
        self.choose((0, 0), (0, 3), (0, 16), (0, 32))
        self.take()

    def signal(self, *, gray: bool) -> colour.Signal:
        white = self.choose(*_ENUM)
        point = self.chromaticity() if white == _OWN else _WHITES.get(white, ())
        primaries = 1 if gray else self.choose(*_ENUM)
        corners = sum((self.chromaticity() for _ in range(3)), ()) if primaries == _OWN else ()
        gamma = self.take(24) / 1e7 if self.take() else 0.0
        transfer = 0 if gamma else self.choose(*_ENUM)
        self.choose(*_ENUM)  # rendering intent
        named = [code for code, space in _SPACES.items() if space == (white, primaries)]
        if named and not gamma:
            return colour.of_code(named[0], transfer, gray=gray)
        code = next((code for code, space in _SPACES.items() if space[1] == primaries), 1)
        return colour.of_places((*point, *(corners or colour.corners(code))), gamma, transfer, gray=gray)


def _header(stream: bytes) -> Header:
    bits = _Bits(stream)
    bits.take(16)
    found = Header(bits.size())
    start = bits.place
    if bits.take():  # all as by default
        return found
    if bits.take():
        found.orientation = 1 + bits.take(3)
        if bits.take():
            bits.size()
        if bits.take():
            bits.preview()
        found.animated = bool(bits.take())
        if found.animated:
            bits.animation()
    found.bits, found.floats = bits.depth()
    behind_depth = bits.place
    bits.take()
    found.extra = [bits.channel() for _ in range(min(bits.choose((0, 0), (1, 0), (2, 4), (1, 12)), 100))]
    of_eye = bits.take()  # then the decoder turns colours with a profile into sRGB
    colours = bits.place
    if not bits.take():
        profile, kind = bits.take(), bits.choose(*_ENUM)
        found.own_profile, found.gray = bool(profile and not of_eye), kind == 1
        if not profile and kind < 2:
            found.signal = bits.signal(gray=found.gray)
    found.marks = [start, behind_depth, colours, bits.place]
    return found


def read(file: BinaryIO) -> Header:
    """The header of an open file, and its metadata. Raises ValueError if there is no codestream."""
    file.seek(0)
    stream, found = file.read(_LOOK), {}
    if not stream.startswith(_START):
        stream = b""
        for kind, data in _boxes(file):
            if kind in (b"jxlc", b"jxlp"):
                stream = stream or data[4 if kind == b"jxlp" else 0 :]
            else:
                found.setdefault(kind, data)
    if not stream.startswith(_START):
        raise ValueError("it has no codestream")
    header = _header(stream)
    exif = found.get(b"Exif", b"")
    exif = exif[4 + int.from_bytes(exif[:4], "big") :]
    header.exif, header.xmp = b"Exif\0\0" + exif if exif else b"", found.get(b"xml ", b"")
    return header


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content, or its beginning) of a container's boxes that matter; what is packed is unpacked."""
    for kind, start, end in islice(boxes(file), BOXES):
        most = {b"jxlc": _LOOK, b"jxlp": _LOOK, b"Exif": _MOST, b"xml ": _MOST, b"brob": _MOST}.get(kind, 0)
        file.seek(start)
        data = file.read(min(most, end - start))
        yield (data[:4], _unpacked(data[4:])) if kind == b"brob" else (kind, data)


def _unpacked(data: bytes) -> bytes:
    try:
        return bytes(_codecs().brotli_decode(data, out=_MOST))
    except Exception:  # it raises whatever damage, or too much of it, leads to
        return b""


def _codecs() -> Any:
    return importlib.import_module("imagecodecs")


def samples(data: bytes, header: Header) -> np.ndarray:
    """The pixels of a file, HWC, upright: uint8, uint16 or float32, whole numbers full at their type's greatest.
    Raises whatever damage leads to."""
    array = np.asarray(_codecs().jpegxl_decode(data, index=0 if header.animated else None))
    array = array.reshape(*header.size[::-1], header.bands)
    if header.floats:
        return array.astype(np.float32)
    full, top = 2**header.bits - 1, np.iinfo(array.dtype).max
    return array if full == top else np.rint(array * np.float32(top / full)).astype(array.dtype)


def holds(code: tuple[int, int]) -> bool:
    """Whether a file can say this code point."""
    return code[0] in _SPACES and code[1] in _TRANSFERS


def encoded(pixels: np.ndarray, code: tuple[int, int], quality: int, exif: bytes, xmp: bytes) -> bytes:
    """A file of HWC pixels whose colours are meant as `code` says. From a quality of 100 on, for floats, and for HDR,
    nothing is lost."""
    if quality >= 100 or code[1] in colour.HDR or pixels.dtype.kind == "f":
        given: dict[str, Any] = {"lossless": True}
        shown = pixels
    else:  # as libjxl itself turns JPEG's quality into distance
        distance = 0.1 + 0.09 * (100 - quality) if quality >= 30 else 53 / 3000 * quality**2 - 23 / 20 * quality + 25
        given, shown = {"distance": distance}, colour.light_of(pixels, code)
    made = _codecs().jpegxl_encode(np.ascontiguousarray(shown[..., 0] if shown.shape[2] == 1 else shown), **given)
    level, stream = b"", made
    if not made.startswith(_START):
        level, stream = _LEVEL_10, made[made.index(b"jxlc") + 4 :]
    stream = _rewritten(stream, pixels, code)
    boxes = [(b"Exif", bytes(4) + exif.removeprefix(b"Exif\0\0") if exif else b""), (b"xml ", xmp), (b"jxlc", stream)]
    packed = ((len(body) + 8).to_bytes(4, "big") + kind + body for kind, body in boxes if body)
    return _SIGNATURE + _TYPE + level + b"".join(packed)


def _rewritten(stream: bytes, pixels: np.ndarray, code: tuple[int, int]) -> bytes:
    """A codestream of our encoder with the depth of `pixels` and the colours of `code` in its header."""
    start, behind_depth, colours, end = _header(stream).marks
    old = int.from_bytes(stream[:_LOOK], "little")
    number, place = old & ((1 << start) - 1), start

    def put(value: int, count: int) -> None:
        nonlocal number, place
        number, place = number | (value & ((1 << count) - 1)) << place, place + count

    def put_enum(value: int) -> None:
        put(value if value < 2 else 2 | (value - 2) << 2 if value < 18 else 3 | (value - 18) << 2, 2 + 4 * (value > 1))
        put(0, 2 * (value >= 18))

    if pixels.dtype.kind == "f":
        put(old >> start, behind_depth - start)
    else:
        put(0, 3)  # not all as by default, nothing beyond it, whole numbers
        put(*((0, 2) if pixels.dtype == np.uint8 else (3 | 15 << 2, 8)))
    put(old >> behind_depth, colours - behind_depth)
    put(0, 2)  # not as by default, no profile
    gray = pixels.shape[2] < 3
    for value in (int(gray), _SPACES[code[0]][0], *([] if gray else [_SPACES[code[0]][1]])):
        put_enum(value)
    put(0, 1)  # no gamma
    for value in (_TRANSFERS[code[1]], 1):  # meant relative to white
        put_enum(value)
    put(old >> end, 3)  # no extensions, transforms as by default
    return number.to_bytes((place + 7) // 8, "little") + stream[(end + 10) // 8 :]
