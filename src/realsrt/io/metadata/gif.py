"""The blocks of GIF files (GIF89a specification) up to the first picture."""

from typing import BinaryIO

_BLOCKS = 10_000


def first_frame(file: BinaryIO) -> tuple[int, int, int, int] | None:
    """Left, top, width and height of an open file's first picture on its screen, None if there is none."""
    file.seek(0)
    head = file.read(13).ljust(13, b"\0")
    file.seek(13 + _table(head[10]))
    for _ in range(_BLOCKS):
        kind = file.read(1)
        if kind == b",":
            places = [int.from_bytes(file.read(2), "little") for _ in range(4)]
            return places[0], places[1], places[2], places[3]
        if kind == b"!":
            file.seek(1, 1)
        elif kind == b"" or kind == b";":
            return None
        while kind == b"!" and (size := file.read(1)) not in (b"", b"\0"):
            file.seek(size[0], 1)
    return None


def _table(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
