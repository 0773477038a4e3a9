"""Where photographs come from: folders, single files and WebDataset-format tars, by name."""

import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips

from realsrt.errors import UsageError, first_line
from realsrt.io.opening import reason
from realsrt.io.suffixes import PassedOver

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
TARS = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Entry:
    """One image file: a stretch of a file on disk, or, from a compressed tar, its content."""

    name: str
    path: Path
    offset: int = 0
    length: int | None = None
    content: bytes | None = None

    def open(self) -> pyvips.Image:
        """The image with its header read, its pixels not yet. Raises UsageError."""
        try:
            return pyvips.Image.new_from_buffer(self.read(), "", fail_on="truncated")
        except pyvips.Error as error:
            raise self._unusable(error) from None
        except OSError as error:
            raise UsageError(f"training data {self.name} can't be read ({error.strerror})") from None

    def decode(self) -> np.ndarray:
        """RGB pixels, (3, H, W) uint8. Raises UsageError."""
        image = self.open()
        try:
            image = image.colourspace("srgb")
            if image.hasalpha():
                image = image.flatten()
            array = image.cast("uchar").numpy()
        except pyvips.Error as error:
            raise self._unusable(error) from None
        return np.ascontiguousarray(array.transpose(2, 0, 1))

    def read(self) -> bytes:
        if self.content is not None:
            return self.content
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(-1 if self.length is None else self.length)

    def _unusable(self, error: Exception) -> UsageError:
        return UsageError(f"{self.name} can't be decoded ({reason(error)}); remove it from the training data")


def entries(sources: Iterable[Path], passed: PassedOver | None = None) -> Iterator[Entry]:
    """Every image file of the sources, those of a source in name order. ``a-{00..04}.tar`` and ``{a,b}.tar`` stand
    for several. Other members of a tar (.json, .txt, .cls …) and AppleDouble files (``._*``) are passed over;
    ``passed`` counts those that are images of other kinds.

    Raises UsageError for what is missing or can't be read.
    """
    for source in (path for pattern in sources for path in expand(pattern)):
        if not source.exists():
            raise UsageError(f"no such training data: {source}")
        try:
            yield from _entries(source, PassedOver() if passed is None else passed)
        except (OSError, EOFError, tarfile.TarError) as error:
            raise UsageError(f"training data {source} can't be read ({first_line(error)})") from None


def expand(pattern: Path) -> list[Path]:
    """What a name with ``{00..04}`` or ``{a,b}`` stands for, in order; a name that exists stands for itself."""
    found = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", str(pattern))
    if found is None or pattern.exists():
        return [pattern]
    first, last, choices = found.groups()
    if choices is not None:
        values = choices.split(",")
    else:
        values = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    before, after = str(pattern)[: found.start()], str(pattern)[found.end() :]
    return [path for value in values for path in expand(Path(before + value + after))]


def _entries(source: Path, passed: PassedOver) -> Iterator[Entry]:
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.is_file() and _wanted(p, passed)):
            yield Entry(str(path), path)
    elif source.name.lower().endswith(TARS):
        yield from sorted(_members(source, passed), key=lambda entry: entry.name)
    else:
        yield Entry(str(source), source)


def _members(source: Path, passed: PassedOver) -> Iterator[Entry]:
    plain = source.name.lower().endswith(".tar")
    with tarfile.open(source) as tar:
        for member in tar:
            if not member.isfile() or not _wanted(Path(member.name), passed):
                continue
            name = f"{source}:{member.name}"
            if plain and not member.issparse():
                yield Entry(name, source, member.offset_data, member.size)
            elif file := tar.extractfile(member):
                yield Entry(name, source, content=file.read())


def _wanted(path: Path, passed: PassedOver) -> bool:
    if path.name.startswith("._"):
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    passed.see(path)
    return False
