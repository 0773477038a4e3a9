"""A tar of recorded pairs that grows, and is whole at every moment.

A tar ends where a block of zeros stands in place of a header. So new members are written behind that block, and forced
to disk; then their first header takes the block's place. Whoever reads meanwhile, or after a crash, finds the old end
or the new one.
"""

import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from realsrt.errors import RealSRTError, UsageError, why
from realsrt.io.atomic import lock
from realsrt.io.files import is_full

_BLOCK = tarfile.BLOCKSIZE
_SETTINGS = "teach.json"


class PairTar:
    """A tar of which the first member holds settings; ``names`` are those of the others."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Open or make the file. Raises UsageError where it can't be written, another process is writing it, or it
        holds something else or other settings."""
        self.path, self.names = path, []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        except OSError as error:
            raise UsageError(f"can't write {path} ({error.strerror})") from None
        try:
            if lock(self._file.fileno()) is False:
                raise UsageError(f"another process is writing {self.path}; give each its own --shard")
            self._end = self._read(settings)
        except BaseException:
            self._file.close()
            raise

    def _read(self, settings: Mapping[str, Any]) -> int:
        """Where the members end; what an interrupted write left behind that is overwritten."""
        first, end = None, 0
        size = self._file.seek(0, os.SEEK_END)
        while (member := self._header(end)) is not None:
            content = end + _BLOCK
            after = content + -(-member.size // _BLOCK) * _BLOCK
            if after > size:
                raise UsageError(f"{self.path} is damaged at {member.name}; remove it and begin again")
            if end == 0 and member.name == _SETTINGS:
                self._file.seek(content)
                first = json.loads(self._file.read(member.size))
            else:
                self.names.append(member.name)
            end = after
        if end and first is None:
            raise UsageError(f"{self.path} is there already, and not from realsrt teach; name another file")
        if first is None:
            self.add({_SETTINGS: json.dumps(dict(settings), indent=1).encode()}, at=0)
            self.names.clear()
            return self._end
        if wrong := [name for name in sorted(first.keys() | settings.keys()) if first.get(name) != settings.get(name)]:
            told = ", ".join(f"{name} {_shown(first.get(name))}, not {_shown(settings.get(name))}" for name in wrong)
            raise UsageError(f"{self.path} was made with {told}; go on with the same, or name another file")
        return end

    def _header(self, position: int) -> tarfile.TarInfo | None:
        """The header at a place, or None at the end."""
        self._file.seek(position)
        block = self._file.read(_BLOCK)
        if not any(block):
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except tarfile.HeaderError:
            raise UsageError(f"{self.path} is there already, and not from realsrt teach; name another file") from None

    def add(self, members: Mapping[str, bytes], *, at: int | None = None) -> None:
        """Append files, all of them or none. Raises RealSRTError when the disk is full or fails."""
        end = self._end if at is None else at
        content = b"".join(_member(name, data) for name, data in members.items())
        try:
            self._put(end + _BLOCK, content[_BLOCK:] + bytes(2 * _BLOCK), whole=True)
            self._put(end, content[:_BLOCK])
        except OSError as error:
            reason = "the disk is full" if is_full(error) else why(error)
            raise RealSRTError(f"{self.path}: {reason}; what is there is whole, and the same command goes on") from None
        self._end = end + len(content)
        self.names += members

    def _put(self, position: int, content: bytes, *, whole: bool = False) -> None:
        self._file.seek(position)
        self._file.write(content)
        self._file.flush()
        if whole:
            self._file.truncate()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let others write."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _member(name: str, content: bytes) -> bytes:
    """One file as a tar has it: header, content, zeros up to a whole block."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % _BLOCK)


def _shown(value: Any) -> str:
    return str(value)[:12] if value is not None else "none"
