"""Where a run keeps what it writes: a folder, or a URL that fsspec knows (s3://, gs://, abfs://, sftp:// …).

At a URL a checkpoint is a folder of its own::

    checkpoints/00001200/state.pt, model.safetensors
    checkpoints/00001200/complete.json      sizes and hashes of the others; uploaded last
    model.safetensors, log.jsonl, tensorboard/ …

Without a fitting complete.json a checkpoint does not exist, so it does not matter where an upload was cut off.
"""

import hashlib
import json
import os
import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from realsrt.errors import CheckpointError, UsageError, first_line
from realsrt.io.files import file_sha256, open_fs
from realsrt.training.state import read_state

_PARTS = ("state.pt", "model.safetensors")
_MARK = "complete.json"


class RunStorage:
    """``folder`` is where the run writes: ``out`` itself, or for a URL a folder in the user's cache."""

    def __init__(self, out: str | Path) -> None:
        """Raises UsageError where fsspec does not know the URL or lacks a package for it."""
        self.url = str(out).rstrip("/") if "://" in str(out) else ""
        self.folder = Path(out)
        if not self.url:
            return
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        name = posixpath.basename(self.url) + "-" + hashlib.sha256(self.url.encode()).hexdigest()[:12]
        self.folder = cache / "realsrt" / "runs" / name
        self._fs, self._root = open_fs(self.url)
        self._kept: int | None = None  # the checkpoint of this run before the one that comes next

    def read(self, stage: str) -> dict[str, Any] | None:
        """The state to go on from, or None; at a URL that of the newest complete checkpoint.

        Raises CheckpointError, UsageError.
        """
        if not self.url:
            file = self.folder / "state.pt"
            return read_state(file, stage) if file.exists() else None
        found = list(self._checkpoints())
        for step in sorted(found, reverse=True):
            content = self._whole(step)
            if content is not None:
                saved = read_state(content, stage, name=f"{self.url}/{_name(step)}/state.pt")
                self._kept = step
                self._fetch_log()
                return saved
        if found:
            raise CheckpointError(f"{self.url} holds no complete checkpoint; start again with --overwrite")
        return None

    def holds_run(self) -> str:
        """What there is of a run that a new one would destroy, or "". Raises UsageError."""
        if self.url:
            return next((_name(step) for step in self._checkpoints()), "")
        return next((name for name in _PARTS if (self.folder / name).exists()), "")

    def publish(self, step: int, *, final: bool, say: Callable[[str], object]) -> None:
        """Upload what was just saved, the mark last; then only this checkpoint and this run's one before it are kept.

        If the upload fails, a line says so, and the next save tries again; at the end of a run it is a
        CheckpointError, and the files are in ``folder``.
        """
        if not self.url:
            return
        try:
            self._upload(step)
        except Exception as error:  # the storage's, its HTTP library's, or the network's
            if final:
                why = f"can't upload to {self.url}: {first_line(error)}; the run is in {self.folder}"
                raise CheckpointError(why) from None
            say(f"can't upload step {step} to {self.url} ({first_line(error)}); the next save tries again")
            return
        self._prune(step, say)
        self._kept = step

    def _upload(self, step: int) -> None:
        target = f"{self._root}/{_name(step)}"
        self._fs.makedirs(target, exist_ok=True)
        if self._fs.exists(f"{target}/{_MARK}"):
            self._fs.rm_file(f"{target}/{_MARK}")
        mark: dict[str, Any] = {"step": step, "files": {}}
        for part in _PARTS:
            file = self.folder / part
            mark["files"][part] = {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
            self._fs.put_file(str(file), f"{target}/{part}")
        self._fs.pipe_file(f"{target}/{_MARK}", json.dumps(mark).encode())
        others = [self.folder / "model.safetensors", self.folder / "log.jsonl"]
        others += [path for path in (self.folder / "tensorboard").rglob("*") if path.is_file()]
        for file in others:
            if file.exists():
                to = f"{self._root}/{file.relative_to(self.folder).as_posix()}"
                self._fs.makedirs(posixpath.dirname(to), exist_ok=True)
                self._fs.put_file(str(file), to)

    def _prune(self, step: int, say: Callable[[str], object]) -> None:
        for other in self._checkpoints():
            if other not in (step, self._kept):
                try:
                    folder = f"{self._root}/{_name(other)}"
                    if self._fs.exists(f"{folder}/{_MARK}"):
                        self._fs.rm_file(f"{folder}/{_MARK}")  # first, so that no half of it looks whole
                    self._fs.rm(folder, recursive=True)
                except Exception as error:
                    say(f"can't remove {self.url}/{_name(other)}: {error}")

    def _checkpoints(self) -> Iterator[int]:
        """The steps of which there is a folder, complete or not."""
        try:
            self._fs.invalidate_cache()
            names = self._fs.ls(f"{self._root}/checkpoints", detail=False)
        except FileNotFoundError:
            return
        except Exception as error:
            raise UsageError(f"can't list {self.url}: {first_line(error)}") from None
        for name in names:
            last = posixpath.basename(name.rstrip("/"))
            if last.isdigit():
                yield int(last)

    def _whole(self, step: int) -> bytes | None:
        """state.pt of a checkpoint, if it is complete."""
        folder = f"{self._root}/{_name(step)}"
        try:
            wanted = json.loads(self._fs.cat_file(f"{folder}/{_MARK}"))["files"]["state.pt"]
            content = self._fs.cat_file(f"{folder}/state.pt")
        except (OSError, ValueError, KeyError, TypeError):
            return None
        fits = len(content) == wanted["bytes"] and hashlib.sha256(content).hexdigest() == wanted["sha256"]
        return content if fits else None

    def _fetch_log(self) -> None:
        if self._fs.exists(f"{self._root}/log.jsonl") and int(os.environ.get("RANK", "0")) == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._fs.get_file(f"{self._root}/log.jsonl", str(self.folder / "log.jsonl"))


def _name(step: int) -> str:
    return f"checkpoints/{step:08d}"
