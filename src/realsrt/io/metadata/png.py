"""The chunks of PNG files (PNG specification, 11.3) that libvips does not read or write rightly: colour, and text that
is not ASCII."""

import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST = 2**23  # bytes of all entries together, inflated
_ENTRIES = 1000
_CHUNKS = 2**18  # that are looked at; writers put 8 KB and more of the pixels into each
_SHORT = 64  # bytes
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp\0\0"
_ELSEWHERE = "Raw profile type "  # metadata that is carried as such


@dataclass
class Found:
    """What a walk through a PNG file finds: `texts`, keywords and what they say, in order; whether they are `complete`;
    the EXIF block and the XMP packet, which may lie behind the pixels, where libvips does not look."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = True
    exif: bytes = b""
    xmp: bytes = b""


def read(file: BinaryIO) -> Found:
    """Look through an open PNG file; damaged entries are left out.

    The end comes at _ENTRIES, or with the one that goes beyond _MOST bytes in all.
    """
    found, room = Found(), _MOST
    wanted = ((kind, file.read(min(length, _MOST + 1))) for kind, length in _chunks(file) if kind in (*_TEXTS, b"eXIf"))
    for number, (kind, data) in enumerate(wanted):
        if len(data) > room or number == _ENTRIES:
            found.complete = False
            break
        if kind == b"eXIf":
            found.exif, room = found.exif or data, room - len(data)
            continue
        try:
            entry, size = _entry(kind, data, room)
        except OverflowError:
            found.complete = False
            break
        room -= size
        if entry and entry[0] == "XML:com.adobe.xmp":
            found.xmp = found.xmp or entry[1].encode()
        elif entry and not entry[0].startswith(_ELSEWHERE):
            found.texts.append(entry)
    return found


def without_text(data: bytes) -> bytes:
    """A PNG file without its text chunks, for decoders that would inflate them all; XMP that is not packed stays."""
    kept, place, start = [], 8, 0
    while place + 8 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        kind, head = data[place + 4 : place + 8], data[place + 8 : place + 8 + len(_XMP)]
        if kind in _TEXTS and not (head == _XMP and end - place <= _MOST):
            kept.append(data[start:place])
            start = end
        place = end
    return b"".join([*kept, data[start:]])


def add(file: BinaryIO, entries: Iterable[tuple[str, str]]) -> None:
    """Put entries before the pixels of an open, whole PNG file (r+b), where all readers look: as tEXt where Latin-1
    holds them, else as iTXt, neither packed, as some programs read no other."""
    chunks = []
    for keyword, text in entries:
        key = keyword.encode("latin-1", "replace")[:79]
        try:
            kind, data = b"tEXt", key + b"\0" + text.encode("latin-1")
        except UnicodeEncodeError:
            kind, data = b"iTXt", key + b"\0\0\0\0\0" + text.encode("utf-8", "replace")
        chunks.append(_packed(kind, data))
    _insert(file, b"".join(chunks))


def before_pixels(file: BinaryIO) -> dict[bytes, bytes]:
    """An open PNG file's chunks before its pixels by their kind: the content of short ones, b"" for the others."""
    chunks = itertools.takewhile(lambda chunk: chunk[0] != b"IDAT", itertools.islice(_chunks(file), _ENTRIES))
    return {kind: file.read(length) if length <= _SHORT else b"" for kind, length in chunks}


def insert(file: BinaryIO, kind: bytes, data: bytes) -> None:
    """Put a chunk behind the header (IHDR) of an open, whole PNG file (r+b)."""
    _insert(file, _packed(kind, data))


def _insert(file: BinaryIO, chunk: bytes) -> None:
    """Put bytes behind the header; the rest moves on."""
    place, end = 33, file.seek(0, 2)
    while end > place:
        start = max(place, end - _MOST)
        file.seek(start)
        block = file.read(end - start)
        file.seek(start + len(chunk))
        file.write(block)
        end = start
    file.seek(place)
    file.write(chunk)


def _packed(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """(kind, length) of the chunks but the last; the file stands where the content begins."""
    file.seek(0)
    if file.read(8) != _SIGNATURE:
        return
    place = 8
    for _ in range(_CHUNKS):
        file.seek(place)
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head.ljust(8, b"\0"))
        if kind == b"IEND" or len(head) < 8:
            return
        yield kind, length
        place += 12 + length


def _entry(kind: bytes, data: bytes, room: int) -> tuple[tuple[str, str] | None, int]:
    """The entry, None if it is damaged, and the bytes it took. Raises OverflowError if it has more than `room`."""
    key, found, rest = data.partition(b"\0")
    if not (found and 0 < len(key) <= 79):
        return None, len(data)
    if kind == b"iTXt":
        packed, (_, _, body) = rest[:1] == b"\1", (rest[2:].split(b"\0", 2) + [b""] * 3)[:3]
    else:
        packed, body = kind == b"zTXt", rest[1:] if kind == b"zTXt" else rest
    whole = True
    try:
        if packed:
            unpack = zlib.decompressobj()
            body, whole = unpack.decompress(body, room + 1), unpack.eof
        if len(body) > room:
            raise OverflowError
        text = body.decode("utf-8" if kind == b"iTXt" else "latin-1") if whole else ""
    except (UnicodeDecodeError, zlib.error):
        return None, max(len(data), _MOST // 64)
    return (key.decode("latin-1"), text.replace("\0", "")) if whole else None, max(len(data), len(body))
