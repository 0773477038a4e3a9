"""Boxes of HEIF files (AVIF, HEIC; ISO 14496-12, 23008-12): how the picture's colours are meant, what else is there."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from realsrt.io.metadata.jpeg import GAIN_MAP, IMAGES, VIDEO

_MAX_META = 2**21  # bytes
BOXES = 1000  # side by side
_ENDLESS = 2**62


@dataclass(frozen=True)
class Boxes:
    """`nclx`: what the picture's own colour box says: primaries and transfer (ITU-T H.273), or None; `left_out` as
    `jpeg.left_out`; `premultiplied`: the colours, by alpha; `crowded`: there are more boxes than are looked at."""

    nclx: tuple[int, int] | None = None
    premultiplied: bool = False
    left_out: tuple[str, ...] = ()
    crowded: bool = False


def read(file: BinaryIO) -> Boxes:
    """Look through an open file; what cannot be understood is as if it were not there."""
    kinds, meta = [], b""
    for kind, start, end in islice(boxes(file), BOXES + 1):
        kinds.append(kind)
        if kind == b"meta" and start + 4 <= end <= start + _MAX_META:
            file.seek(start + 4)
            meta = file.read(end - start - 4)
    gain_map = b"urn:com:apple:photo:2020:aux:hdrgainmap" in meta or b"tmap" in meta
    there = {GAIN_MAP: gain_map, VIDEO: b"mpvd" in kinds, IMAGES: b"moov" in kinds}
    references = dict(_inside(dict(_inside(meta)).get(b"iref", b"")[4:]))
    return Boxes(_nclx(meta), b"prem" in references, tuple(name for name in there if there[name]), len(kinds) > BOXES)


def boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(kind, where its content begins, where it ends) of an open file's boxes side by side, up to nonsense. One that
    takes all that is left ends at _ENDLESS."""
    place = 0
    while place < _ENDLESS:
        file.seek(place)
        head = file.read(16)
        size, body = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, body = int.from_bytes(head[8:16], "big"), 16
        if len(head) < 8 or 0 < size < body or size >= _ENDLESS:
            return
        yield head[4:8], place + body, place + size if size else _ENDLESS
        place = place + size if size else _ENDLESS


def _inside(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((kind, data[start:end]) for kind, start, end in islice(boxes(io.BytesIO(data)), BOXES))


def _nclx(meta: bytes) -> tuple[int, int] | None:
    """Of the primary item's properties."""
    boxes = dict(_inside(meta))
    pitm, iprp = boxes.get(b"pitm", b""), dict(_inside(boxes.get(b"iprp", b"")))
    primary = int.from_bytes(pitm[4:8] if pitm[:1] == b"\1" else pitm[4:6], "big")
    properties = list(_inside(iprp.get(b"ipco", b"")))
    for number in _associated(iprp.get(b"ipma", b""), primary):
        if 0 < number <= len(properties):
            kind, data = properties[number - 1]
            if kind == b"colr" and data[:4] == b"nclx" and len(data) >= 8:
                return int.from_bytes(data[4:6], "big"), int.from_bytes(data[6:8], "big")
    return None


def _associated(ipma: bytes, item: int) -> list[int]:
    """The numbers, from 1, of an item's properties."""
    name = 4 if ipma[:1] == b"\1" else 2
    wide = 2 if ipma[3:4] and ipma[3] & 1 else 1
    place = 8
    for _ in range(min(int.from_bytes(ipma[4:8], "big"), BOXES)):
        count = ipma[place + name] if place + name < len(ipma) else 0
        start = place + name + 1
        if int.from_bytes(ipma[place : place + name], "big") == item:
            rows = (ipma[start + wide * i : start + wide * (i + 1)] for i in range(count))
            return [int.from_bytes(row, "big") & (0x7FFF if wide == 2 else 0x7F) for row in rows]
        place = start + wide * count
    return []


def replace_profile(file: BinaryIO, code: tuple[int, int]) -> None:
    """Turn the ICC profile of an open AVIF file (r+b) of one picture into a code point, as libheif codes: the matrix of
    BT.601, full range. What it is shorter by becomes free space within the meta box, so that nothing behind moves."""
    file.seek(0)
    head = bytearray(file.read(_MAX_META))
    start = head.find(b"meta") - 4
    end = start + int.from_bytes(head[start : start + 4], "big")
    colr = max(head.find(b"colr" + kind, start, end) for kind in (b"prof", b"rICC")) - 4
    if not 0 < start < colr:
        return
    size = int.from_bytes(head[colr : colr + 4], "big")
    box = struct.pack(">I8sHHHB", 19, b"colrnclx", *code, 6, 0x80)
    spare = size - len(box)
    for outer in (b"ipco", b"iprp"):
        place = head.rfind(outer, start, colr) - 4
        head[place : place + 4] = struct.pack(">I", int.from_bytes(head[place : place + 4], "big") - spare)
    free = struct.pack(">I4s", spare, b"free") + bytes(spare - 8)
    file.seek(start)
    file.write(head[start:colr] + box + head[colr + size : end] + free)
