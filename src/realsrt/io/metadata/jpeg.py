"""The structure of a JPEG file (ITU-T T.81), and what some put behind its picture: others (MPF, CIPA DC-007), a gain
map, a video. Nothing is decoded."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import mmap

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the next one within or after coded data
_VIDEO = re.compile(rb"\0\0\0[\x08-\x40]ftyp")
_GAIN_MAP = re.compile(rb"http://ns\.adobe\.com/hdr-gain-map/|urn:iso:std:iso:ts:21496:-1|hdrgainmap", re.IGNORECASE)
_HUFFMAN, _PROGRESSIVE = (0xC0, 0xC1, 0xC2), 0xC2
_PREVIEWS = (0x010001, 0x010002)  # of the picture itself, in MPF
SEGMENTS = 100_000  # that are looked at
_PICTURES = 100
_LOOK = 2**16  # bytes of a picture behind the first that are looked at

GAIN_MAP, VIDEO, IMAGES = "gain map", "video", "pictures"


@dataclass
class Structure:
    """What a walk from marker to marker finds. `end` is where the picture ends, None if it says so nowhere; `missing`
    the bits of each coefficient (component, 0…63) that no scan has brought, `huffman` the coding of libjpeg's that
    tells when data ends too soon."""

    end: int | None = None
    huffman: bool = False
    missing: dict[tuple[int, int], int] = field(default_factory=dict)
    behind: list[tuple[int, int]] = field(default_factory=list)
    segments: int = 0

    @property
    def crowded(self) -> bool:
        """Whether there may be more segments than are looked at."""
        return self.segments == SEGMENTS

    @property
    def only_end_missing(self) -> bool:
        """Whether all scans are there, and nothing but the marker that ends the file may be lacking."""
        return self.end is None and self.huffman and not any(self.missing.values())


def walk(data: bytes | mmap) -> Structure:
    """Go through a JPEG file; whatever is odd in it ends the walk."""
    found = Structure()
    for marker, start, body in _segments(data):
        found.segments += 1
        if marker == 0xD9:
            found.end = start
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 6:
            found.huffman = marker in _HUFFMAN
            width = 64 if marker == _PROGRESSIVE else 1
            found.missing = {(name, k): 16 for name in body[6::3][: body[5]] for k in range(width)}
        elif marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] :][:3]
            for name in body[1 : 1 + 2 * body[0] : 2]:
                for k in range(first, min(last, 63) + 1):
                    if (name, k) in found.missing:
                        found.missing[name, k] = bits & 15
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            found.behind = _index(body[4:], start + 4)
    return found


def _segments(data: bytes | mmap) -> Iterator[tuple[int, int, bytes]]:
    """(marker, where its body begins, its body), to the end of the picture; that has no body."""
    place = 2
    for _ in range(SEGMENTS):
        match = _MARKER.search(data, place)
        if not match:
            return
        marker, place = match[0][1], match.end()
        if marker == 0xD9:
            yield marker, place, b""
            return
        size = int.from_bytes(data[place : place + 2], "big")
        if size < 2 or place + size > len(data):
            return
        yield marker, place + 2, data[place + 2 : place + size]
        place += size


def _index(body: bytes, base: int) -> list[tuple[int, int]]:
    """(kind, where it begins) of the pictures that an MPF segment lists, but for the first."""
    order = {b"II": "<", b"MM": ">"}.get(body[:2])
    if order is None or len(body) < 8:
        return []
    (start,) = struct.unpack(order + "I", body[4:8])
    (count,) = struct.unpack(order + "H", body[start : start + 2].ljust(2, b"\0"))
    for place in range(start + 2, min(start + 2 + 12 * count, len(body) - 11), 12):
        tag, _, size, offset = struct.unpack(order + "HHII", body[place : place + 12])
        if tag == 0xB002:
            rows = [body[i : i + 16] for i in range(offset, min(offset + size, len(body)), 16)][1:_PICTURES]
            fields = [struct.unpack(order + "IIIHH", row) for row in rows if len(row) == 16]
            return [(kind & 0xFFFFFF, base + begin) for kind, _, begin, *_ in fields]
    return []


def left_out(data: bytes | mmap, found: Structure) -> tuple[str, ...]:
    """What of a file is not its picture: GAIN_MAP, VIDEO, IMAGES. Only what is really there counts."""
    end = len(data) if found.end is None else found.end
    kinds = {end: 0} | {begin: kind for kind, begin in found.behind}
    names = set()
    for begin, kind in kinds.items():
        if data[begin : begin + 3] == b"\xff\xd8\xff" and kind not in _PREVIEWS:
            names.add(GAIN_MAP if _GAIN_MAP.search(data[begin : begin + _LOOK]) else IMAGES)
    if _VIDEO.search(data, end):
        names.add(VIDEO)
    return tuple(sorted(names))
