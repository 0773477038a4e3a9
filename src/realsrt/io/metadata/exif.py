"""EXIF and IPTC in TIFF files, which libvips loses there: tags of a file's first directory, taken and added.

An EXIF block is itself a small TIFF file, so both ways are one: read a directory and those it points to, write them
elsewhere. Values are carried as bytes, turned round where the byte order differs; offsets inside maker notes are not
mended. All reads are bounded, and counted before they are made: a damaged block gives fewer tags, never an error.
"""

import io
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 18: 8}
_SWAP = {**_SIZES, 5: 4, 10: 4}  # rationals are pairs
_NUMBERS = {1: "u1", 3: "<u2", 4: "<u4", 5: "<u4", 11: "<f4", 12: "<f8", 16: "<u8"}
_IPTC = 0x83BB  # written by libvips at a quarter of its length, hence here
_EXIF, _GPS, _INTEROP = 0x8769, 0x8825, 0xA005
_POINTERS = {_EXIF, _GPS, _INTEROP}
_DESCRIBING = {  # of the first directory: what is said about the picture, not how its pixels lie in the file
    0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E,
    0x9C9F, _EXIF, _GPS,
}  # fmt: skip
_COMMENT = 0x9286
_PREFIX, _HEAD = b"Exif\0\0", b"II*\0\x08\0\0\0"
_WIDTH, _HEIGHT = 0xA002, 0xA003
_PHOTOMETRIC, _SUBDIRECTORIES = 0x0106, 0x014A
_OF_SENSORS = {b"\x23\x80", b"\x4c\x88"}  # colour filter array, linear raw
MAX_BLOCK = 65_500  # bytes: in JPEG it ends there
_MAX_VALUE = 60_000
_MAX_TAGS = 1000  # of a directory
_ALL_BYTES = 2**20  # of all that is looked at, directories read again included


@dataclass(frozen=True)
class _Entry:
    """One tag: its TIFF type, and its value in little-endian bytes, or the directory it points to."""

    kind: int
    value: bytes
    directory: Mapping[int, "_Entry"] | None = None


def read(file: BinaryIO) -> bytes | None:
    """The EXIF block ("Exif\\0\\0" and a TIFF) of an open TIFF or BigTIFF file, or None if it says nothing.

    Raises ValueError if there is more than such a block holds, or than is looked at.
    """
    reader = _Reader(file)
    entries = reader.entries(_DESCRIBING)
    block = _PREFIX + _HEAD + _build(entries, 8) if entries else b""
    if reader.exhausted or len(block) > MAX_BLOCK:
        raise ValueError(f"it has more than {MAX_BLOCK:,} bytes")
    return block or None


def is_raw(file: BinaryIO) -> bool:
    """Whether an open TIFF or BigTIFF file, or a directory below its first, holds what a camera's sensor gave."""
    reader = _Reader(file)
    first = reader.entries({_PHOTOMETRIC, _SUBDIRECTORIES})
    below = first.get(_SUBDIRECTORIES)
    size = _SIZES[below.kind] if below else 0
    places = [int.from_bytes(below.value[i : i + size], "little") for i in range(0, 16 * size, size)] if below else []
    found = [first, *(reader.entries({_PHOTOMETRIC}, place) for place in places if place)]
    return any(_PHOTOMETRIC in one and one[_PHOTOMETRIC].value in _OF_SENSORS for one in found)


def numbers(file: BinaryIO, tags: set[int]) -> dict[int, tuple[float, ...]]:
    """Those of these tags in an open TIFF or BigTIFF file's first directory that are unsigned numbers or floats."""
    found = {}
    for tag, entry in _Reader(file).entries(tags).items():
        values = np.frombuffer(entry.value, _NUMBERS.get(entry.kind, "u1")).astype(float)
        if entry.kind == 5:
            values = values[::2] / np.maximum(values[1::2], 1)
        if entry.kind in _NUMBERS:
            found[tag] = tuple(values.tolist())
    return found


def has_more_pages(file: BinaryIO, most: int) -> bool:
    """Whether an open TIFF or BigTIFF file has more than `most` directories one after another, or they never end."""
    reader = _Reader(file)
    place = reader.first
    for _ in range(most):
        if not place:
            return False
        place = reader.following(place)
    return bool(place)


def read_iptc(file: BinaryIO) -> bytes | None:
    """The IPTC records of an open TIFF or BigTIFF file, whichever type its writer gave them."""
    found = _Reader(file).entries({_IPTC}).get(_IPTC)
    return found.value if found else None


def add(
    file: BinaryIO,
    exif: bytes | None,
    iptc: bytes | None,
    width: int,
    height: int,
    places: Mapping[int, Sequence[int]] | None = None,
) -> None:
    """Add an EXIF block's tags and IPTC records to the open little-endian TIFF file (r+b): those that its first
    directory lacks.

    PixelXDimension and PixelYDimension become `width` and `height`, tags of 16-bit numbers those in `places`. The new
    directory is put at the end of the file.
    """
    entries = _Reader(io.BytesIO(exif.removeprefix(_PREFIX))).entries(_DESCRIBING) if exif else {}
    if _EXIF in entries:
        size = {_WIDTH: _Entry(4, struct.pack("<I", width)), _HEIGHT: _Entry(4, struct.pack("<I", height))}
        size |= {tag: _Entry(3, struct.pack(f"<{len(new)}H", *new)) for tag, new in (places or {}).items()}
        inner = {tag: entry for tag, entry in {**(entries[_EXIF].directory or {}), **size}.items() if entry.value}
        entries[_EXIF] = replace(entries[_EXIF], directory=inner)
    if iptc:
        entries[_IPTC] = _Entry(7, iptc)
    reader = _Reader(file)
    if not entries or reader.order != "<":
        return
    old = dict(reader.records())
    new = {tag: entry for tag, entry in entries.items() if tag not in old}
    end = file.seek(0, os.SEEK_END)
    start = end + end % 2
    file.write(b"\0" * (end % 2) + _build(new, start, old, reader.big))
    file.seek(8 if reader.big else 4)
    file.write(struct.pack("<Q" if reader.big else "<I", start))


def comment(block: bytes) -> str:
    """The UserComment of an EXIF block, "" if there is none. UTF-16 of either byte order, as programs write both."""
    found = _Reader(io.BytesIO(block.removeprefix(_PREFIX))).entries({_EXIF}).get(_EXIF)
    value = found.directory[_COMMENT].value if found and found.directory and _COMMENT in found.directory else b""
    if value.startswith(b"UNICODE\0"):
        text = value[8:]
        little = text.startswith(b"\xff\xfe") or text[1::2].count(0) > text[::2].count(0)
        return text.decode("utf-16-le" if little else "utf-16-be", "replace").strip("\ufeff\0")
    return value[8:].decode("utf-8", "replace").strip("\0") if value[:5] == b"ASCII" or not any(value[:8]) else ""


def strings(block: bytes) -> dict[int, str]:
    """The text of an EXIF block's first directory, by tag."""
    entries = _Reader(io.BytesIO(block.removeprefix(_PREFIX))).entries()
    return {
        tag: entry.value.decode("utf-8", "replace").rstrip("\0") for tag, entry in entries.items() if entry.kind == 2
    }


def with_texts(block: bytes | None, texts: Mapping[int, str], user_comment: str = "") -> bytes | None:
    """A block with more text: in its first directory by tag, and as UserComment. None if it would be too long."""
    entries = _Reader(io.BytesIO((block or b"").removeprefix(_PREFIX))).entries()
    entries |= {tag: _Entry(2, text.encode() + b"\0") for tag, text in texts.items()}
    if user_comment:
        value = b"UNICODE\0" + user_comment.encode("utf-16-be", "replace")
        below = entries[_EXIF].directory if _EXIF in entries else None
        entries[_EXIF] = _Entry(4, b"", {**(below or {}), _COMMENT: _Entry(7, value)})
    made = _PREFIX + _HEAD + _build(entries, 8)
    return made if len(made) <= MAX_BLOCK else None


class _Reader:
    """Directories of a TIFF file, whatever its byte order and offset size.

    `exhausted`: there was more in them than is looked at.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._bytes = file, _ALL_BYTES
        self.exhausted = False
        head = self._at(0, 16)
        self.order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        self.big = bool(self.order) and head[2:4] == struct.pack(self.order + "H", 43)
        self._offset = "Q" if self.big else "I"
        self.first = self._number(head[8:16] if self.big else head[4:8], self._offset)

    def _at(self, position: int, count: int) -> bytes:
        self._bytes -= count
        if self._bytes < 0:
            self.exhausted = True
            return b""
        try:
            self._file.seek(position)
            return self._file.read(count)
        except (OSError, OverflowError, ValueError):
            return b""

    def _number(self, data: bytes, form: str) -> int:
        size = struct.calcsize("<" + form)
        return struct.unpack(self.order + form, data[:size])[0] if self.order and len(data) >= size else 0

    def records(self, position: int | None = None) -> list[tuple[int, bytes]]:
        """(tag, the whole record as it lies in the file), up to the first that is cut off."""
        position = self.first if position is None else position
        if not position:
            return []
        width, size = (8, 20) if self.big else (2, 12)
        count = min(self._number(self._at(position, width), "Q" if self.big else "H"), _MAX_TAGS)
        data = self._at(position + width, count * size)
        rows = [data[i : i + size] for i in range(0, len(data) - size + 1, size)]
        return [(self._number(row, "H"), row) for row in rows]

    def following(self, position: int) -> int:
        """Where the directory after this one begins; 0 if there is none."""
        width, size = (8, 20) if self.big else (2, 12)
        count = self._number(self._at(position, width), "Q" if self.big else "H")
        return self._number(self._at(position + width + count * size, struct.calcsize(self._offset)), self._offset)

    def entries(self, wanted: set[int] | None = None, position: int | None = None, depth: int = 0) -> dict[int, _Entry]:
        """The tags of one directory whose values are whole and of bearable size, and those of its subdirectories."""
        found: dict[int, _Entry] = {}
        for tag, row in self.records(position):
            if tag in found or (wanted is not None and tag not in wanted):
                continue
            kind, count = self._number(row[2:], "H"), self._number(row[4:], self._offset)
            field = row[12:] if self.big else row[8:]
            if tag in _POINTERS:
                inner = self.entries(None, self._number(field, self._offset), depth + 1) if depth < 2 else {}
                if inner:
                    found[tag] = _Entry(4, b"", inner)
                continue
            size = _SIZES.get(kind, 0) * count
            value = field[:size] if size <= len(field) else b""
            if len(field) < size <= _MAX_VALUE:
                value = self._at(self._number(field, self._offset), size)
            if size and len(value) == size:
                unit = _SWAP[kind] if self.order == ">" and tag != _IPTC else 1
                found[tag] = _Entry(kind, np.frombuffer(value, f"u{unit}").byteswap().tobytes())
        return found


def _build(
    entries: Mapping[int, _Entry], start: int, old: Mapping[int, bytes] | None = None, big: bool = False
) -> bytes:
    """A little-endian directory that begins at `start`, with `old` records taken as they are, and after it its values
    and subdirectories."""
    rows = dict(old or {})
    offset, inline = ("<Q", 8) if big else ("<I", 4)
    count = len(rows) + len(entries)
    where = start + (8 if big else 2) + count * (20 if big else 12) + inline
    tail = b""
    for tag, entry in entries.items():
        value = entry.value if entry.directory is None else _build(entry.directory, where + len(tail), big=big)
        number = 1 if entry.directory is not None else len(value) // _SIZES[entry.kind]
        if entry.directory is not None or len(value) > inline:
            pointer = struct.pack(offset, where + len(tail))
            tail += value + b"\0" * (len(value) % 2)
        else:
            pointer = value.ljust(inline, b"\0")
        rows[tag] = struct.pack("<HH", tag, entry.kind) + struct.pack(offset, number) + pointer
    head = struct.pack("<Q" if big else "<H", count)
    return head + b"".join(rows[tag] for tag in sorted(rows)) + b"\0" * inline + tail
