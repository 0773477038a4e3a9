"""The text entries of PNG files (PNG specification, 11.3.3), of which libvips reads and writes ASCII only rightly."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST = 2**22  # bytes of one entry; longer ones are left out
_ENTRIES = 1000
_ELSEWHERE = ("XML:com.adobe.xmp", "Raw profile type ")  # metadata that is carried as such


def read(file: BinaryIO) -> list[tuple[str, str]]:
    """Keywords and texts of an open PNG file, in order: tEXt, zTXt and iTXt; damaged entries are left out."""
    found = []
    for kind, data in _chunks(file):
        entry = _entry(kind, data)
        if entry and not entry[0].startswith(_ELSEWHERE):
            found.append(entry)
    return found[:_ENTRIES]


def add(file: BinaryIO, entries: Iterable[tuple[str, str]]) -> None:
    """Put entries at the end of an open, whole PNG file (r+b): as tEXt where Latin-1 holds them, else as iTXt."""
    file.seek(-12, 2)
    end = file.read(12)
    file.seek(-12, 2)
    for keyword, text in entries:
        key = keyword.encode("latin-1", "replace")[:79]
        try:
            kind, data = b"tEXt", key + b"\0" + text.encode("latin-1")
        except UnicodeEncodeError:
            kind, data = b"iTXt", key + b"\0\0\0\0\0" + text.encode("utf-8", "replace")
        file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    file.write(end)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Those that hold text."""
    file.seek(0)
    if file.read(8) != _SIGNATURE:
        return
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt") and length <= _MOST:
            yield kind, file.read(length)
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)


def _entry(kind: bytes, data: bytes) -> tuple[str, str] | None:
    key, found, rest = data.partition(b"\0")
    if not (found and 0 < len(key) <= 79):
        return None
    try:
        if kind == b"tEXt":
            text = rest.decode("latin-1")
        elif kind == b"zTXt":
            text = _inflated(rest[1:]).decode("latin-1")
        else:
            packed, (_, _, body) = rest[:1] == b"\1", (rest[2:].split(b"\0", 2) + [b""] * 3)[:3]
            text = (_inflated(body) if packed else body).decode("utf-8")
    except (UnicodeDecodeError, zlib.error):
        return None
    return key.decode("latin-1"), text.replace("\0", "")


def _inflated(data: bytes) -> bytes:
    """Raises zlib.error if it is damaged or longer than an entry may be."""
    unpack = zlib.decompressobj()
    text = unpack.decompress(data, _MOST)
    if not unpack.eof:
        raise zlib.error("too long or cut short")
    return text
