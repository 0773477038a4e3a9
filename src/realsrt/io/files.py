"""Files as the disk has them: their hashes, room for them before a picture is computed, the end of that room."""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from realsrt.errors import ImageError, UsageError, first_line, why
from realsrt.io import atomic

MAX_PIXELS = 500_000_000  # larger images are refused before they are decoded
FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS = (*map(os.strerror, FULL), "database or disk is full")  # the last is SQLite's
# The least part of its uncompressed size that a picture of a photograph takes, by suffix: only what surely does not
# fit is refused.
_LEAST = {".png": 0.2, ".tif": 0.2, ".tiff": 0.2}
_LEAST_LOSSY = 0.01
_NOT_ON_WINDOWS = re.compile(r'(con|prn|aux|nul|(com|lpt)[0-9¹²³]) *(\..*)?|.*[<>:"|?*\x00-\x1f].*|.*[. ]', re.I | re.S)


class NoRoomError(ImageError):
    """A file surely does not fit on the disk."""


def check_name(path: Path) -> None:
    """Raise ImageError if the file system can hold no file of this name: Windows would write to a device, a stream of
    another file, or under another name."""
    if atomic.WINDOWS and _NOT_ON_WINDOWS.fullmatch(path.name):
        raise ImageError(f"{path}: Windows can hold no file of this name; use another, or --suffix")
    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ImageError(f"{path}: cannot be written: {why(error)}; use another name or folder") from error


def check_writable(target: Path) -> None:
    """Raise ImageError if `target` cannot be written: a folder is there, its folder is read-only or can't be made."""
    folder = next(folder for folder in target.absolute().parents if folder.exists())
    if target.is_dir():
        raise ImageError(f"{target}: there is a folder of this name; remove it or use another name")
    if not folder.is_dir():
        raise ImageError(f"{target}: {folder} is no folder; choose another place")
    if not os.access(folder, os.W_OK):
        raise ImageError(f"{target}: no permission to write into {folder}; choose another folder")


def check_room(target: Path, samples: int, depth: int) -> None:
    """Raise NoRoomError if there is surely no room for a picture of so many samples of `depth` bits."""
    folder = next(folder for folder in target.absolute().parents if folder.exists())
    need = int(samples * depth / 8 * _LEAST.get(target.suffix.lower(), _LEAST_LOSSY))
    free = shutil.disk_usage(folder).free
    if need > free:
        raise NoRoomError(
            f"{target}: needs at least {_size(need)}, and {_size(free)} are free; make room or choose another folder"
        )


def open_fs(url: str) -> tuple[Any, str]:
    """The file system, by fsspec, of a path or URL, and the path there. Raises UsageError if it is unknown, or needs
    what is not installed."""
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as problem:
        hint = " (pip install s3fs, gcsfs or adlfs)" if isinstance(problem, ImportError) else ""
        raise UsageError(f"{url}: {first_line(problem)}{hint}") from problem
    return fs, path.rstrip("/")


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} KB"


def is_full(problem: BaseException) -> bool:
    """Whether an error, or what caused it, says that the disk or the quota is used up."""
    return any(
        getattr(error, "errno", None) in FULL or any(text in str(error) for text in _FULL_TEXTS)
        for error in _chain(problem)
    )


def file_sha256(path: Path) -> str:
    """Hex digest of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__
