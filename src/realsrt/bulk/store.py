"""Folders on a disk or in an object store, by fsspec; whole files only, read at once and written at once."""

import base64
import contextlib
import functools
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

from realsrt.errors import ImageError, why
from realsrt.io.atomic import lock, rename, write_whole
from realsrt.io.files import file_sha256, open_fs

HOUSEKEEPING = ".realsrt-bulk"
_MD5 = re.compile(r"[0-9a-f]{32}")


def is_local(fs: Any) -> bool:
    protocol = fs.protocol
    return "file" in ([protocol] if isinstance(protocol, str) else protocol)


@functools.lru_cache(maxsize=64)
def open_store(url: str) -> "OutputStore":
    """The store of a URL, made once a process."""
    return OutputStore(url)


class OutputStore:
    """A folder that outputs and states are put into by names with slashes; each file is there whole or not at all."""

    def __init__(self, url: str) -> None:
        """Raises UsageError if the URL cannot be understood."""
        self.fs, root = open_fs(url)
        self.local = is_local(self.fs)
        self.root = os.path.abspath(root) if self.local else root
        self.shown = self.root if self.local else url.rstrip("/")

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def read(self, name: str) -> bytes | None:
        """What is there, or None. Raises OSError."""
        try:
            return Path(self.path(name)).read_bytes() if self.local else self.fs.cat_file(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, name: str, content: bytes) -> None:
        """Write at once: by a rename, or one object's upload. Raises OSError."""
        if not self.local:
            self.fs.pipe_file(self.path(name), content)
            return
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content, temporary=self._scratch() / secrets.token_hex(8), durable=False)

    def publish(self, file: Path, name: str) -> None:
        """Let a file of `scratch` appear under `name`. Raises OSError."""
        if not self.local:
            self.fs.pipe_file(self.path(name), file.read_bytes())
            return
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        rename(file, target)

    def holds(self, name: str, made: dict[str, Any]) -> bool:
        """Whether the file is what `fingerprint` once said; by the store's own MD5 where it tells one."""
        path = self.path(name)
        try:
            if not self.local:
                info = self.fs.info(path)
                if info.get("size") != made["size"]:
                    return False
                md5 = _told_md5(info)
                if md5:
                    return md5 == made["md5"]
                return hashlib.sha256(self.fs.cat_file(path)).hexdigest() == made["sha256"]
            return file_sha256(Path(path)) == made["sha256"]
        except (OSError, KeyError):
            return False

    def listed(self) -> Callable[[PurePath], bool]:
        """Says of a name whether a file is there; what is no disk is listed now, once for all. Raises OSError."""
        if self.local:
            return lambda name: os.path.isfile(self.path(str(name)))
        self.fs.invalidate_cache()
        found = set(self.fs.find(self.root))
        return lambda name: self.path(str(name)) in found

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder of one's own, on the same disk if the store is local, that is removed at the end."""
        where = self._scratch() if self.local else None
        folder = Path(tempfile.mkdtemp(dir=where, prefix="realsrt-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _scratch(self) -> Path:
        folder = Path(self.root) / HOUSEKEEPING / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder against a second run on this machine or disk. Raises ImageError if there is one.

        Object stores, and disks without locks, know none.
        """
        with contextlib.ExitStack() as stack:
            if self.local:
                path = Path(self.root) / HOUSEKEEPING / "lock"
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    file = stack.enter_context(open(path, "ab"))
                except OSError as problem:
                    raise ImageError(
                        f"{self.root}: cannot be written: {why(problem)}; choose another folder"
                    ) from problem
                if lock(file.fileno()) is False:
                    raise ImageError(f"{self.root}: another run is writing there; wait for it")
                shutil.rmtree(Path(self.root) / HOUSEKEEPING / "tmp", ignore_errors=True)  # what killed runs left
            yield


def fingerprint(file: Path) -> dict[str, Any]:
    """Size, SHA-256 and MD5 (which object stores tell of what they hold)."""
    content = file.read_bytes()
    return {
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
    }


def _told_md5(info: dict[str, Any]) -> str:
    tag = str(info.get("ETag", "")).strip('"').lower()
    if _MD5.fullmatch(tag):
        return tag
    with contextlib.suppress(ValueError, TypeError):
        return base64.b64decode(info["md5Hash"]).hex() if "md5Hash" in info else ""
    return ""
