"""Results of several jobs as one zip, written while it is sent: nothing of it is held whole."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

_PIECE = 2**20


def zipped(files: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    """Pieces of an archive of files by their names in it, uncompressed as images are compressed already. A file that
    has gone meanwhile is left out."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            try:
                source = path.open("rb")
            except FileNotFoundError:
                continue
            with source, archive.open(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True) as target:
                while piece := source.read(_PIECE):
                    target.write(piece)
                    yield pipe.taken()
    yield pipe.taken()


def distinct(names: Sequence[str]) -> list[str]:
    """The names, all different whatever their case: a second `a.png` is `a_2.png`."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        stem, dot, ending = name.rpartition(".")
        made, count = name, 1
        while made.lower() in taken:
            count += 1
            made = f"{stem}_{count}{dot}{ending}" if dot else f"{name}_{count}"
        taken.add(made.lower())
        found.append(made)
    return found


class _Pipe(io.RawIOBase):
    """Takes bytes and gives them on; cannot seek."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        self._held += data
        return len(data)

    def taken(self) -> bytes:
        held = bytes(self._held)
        self._held.clear()
        return held
