"""Files that are either whole or absent."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from realsrt.errors import CheckpointError


def temporary_beside(path: Path) -> Path:
    """A new name for what becomes `path`, or helps to make it; `manifest.remove_leftovers` knows such names."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write to a temporary name beside ``path``, fsync, rename. Raises CheckpointError; leaves nothing behind."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise CheckpointError(f"can't write {path}: {error.strerror}") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise CheckpointError(f"can't write {path}: {error.strerror}") from None
        raise
