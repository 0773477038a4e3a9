"""Files that are either whole or absent, and locks between processes."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

WINDOWS = os.name == "nt"
BINARY = getattr(os, "O_BINARY", 0)
"""For os.open: Windows would write each line's end as two bytes."""
_PATIENCE = (0.05, 0.2, 0.8)  # seconds


def shortened(name: str) -> str:
    """As much of a file's name as leaves room for more: 100 bytes."""
    return os.fsencode(name)[:100].decode("utf-8", "ignore")


def temporary_beside(path: Path) -> Path:
    """A new name for what becomes `path`, or helps to make it; `batch.resume.remove_leftovers` knows such names."""
    return path.with_name(f".{shortened(path.name)}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def whole_or_absent(path: Path, *, temporary: Path | None = None, durable: bool = True) -> Iterator[int]:
    """A descriptor of a temporary file, by default beside `path`, that becomes `path` at the end, or vanishes on any
    error. `durable`: also if the power fails. What exists and is no regular file, as a pipe or /dev/stdout, is written
    itself: nothing takes its place. Raises OSError."""
    if path.exists() and not path.is_file():
        with open(path, "wb", buffering=0) as file:
            yield file.fileno()
        return
    temporary = temporary or temporary_beside(path)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
    try:
        try:
            yield descriptor
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        rename(temporary, path, durable=durable)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(
    path: Path, content: bytes | memoryview, *, temporary: Path | None = None, durable: bool = True
) -> None:
    """Write a file at once, see `whole_or_absent`. Raises OSError."""
    with (
        whole_or_absent(path, temporary=temporary, durable=durable) as descriptor,
        os.fdopen(os.dup(descriptor), "wb") as file,
    ):
        file.write(content)


def rename(source: Path, target: Path, *, durable: bool = True) -> None:
    """Let a file take the place of another; `durable`: the name too, where folders can be synced. Windows refuses while
    another program reads the other, as virus scanners do for a moment: it is tried again for a second. Raises OSError.
    """
    for seconds in (*_PATIENCE, None):
        try:
            os.replace(source, target)
            break
        except PermissionError:
            if not WINDOWS or seconds is None:
                raise
            time.sleep(seconds)
    if durable:
        with contextlib.suppress(OSError):
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def lock(descriptor: int) -> bool | None:
    """Take an open file for this process alone, until it is closed or shared. False: another process has it; None: this
    system or its disk knows no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return None


def share_lock(descriptor: int) -> None:
    """Let others share a file, or wait until it can be shared."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
