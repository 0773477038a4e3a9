"""What an output folder holds and how it was made, so that --resume skips only what is whole and still wanted.

One JSON line a picture in the folder's `.realsrt-manifest.jsonl`; of several lines for a picture the last counts. A
line is written after its files, so after a crash a picture is made once more rather than taken for done.
"""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from realsrt.batch.plan import STEP, FileJob
from realsrt.batch.report import end_torn_line, require_ours
from realsrt.errors import ImageError, one_line, why
from realsrt.io.atomic import lock, share_lock, shortened
from realsrt.io.files import file_sha256

NAME = ".realsrt-manifest.jsonl"
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")  # as imageio names them
_START = b'{"target": '


class Manifest:
    """The manifest of one output folder, open for adding. `alone`: no other run has it open (unknown: False)."""

    def __init__(self, root: Path) -> None:
        """Makes the folder if need be. Raises ImageError if it cannot be written."""
        self.path = root / NAME
        try:
            root.mkdir(parents=True, exist_ok=True)
            require_ours(self.path)
            if self.path.exists() and not self.path.is_file():
                raise ImageError(f"{self.path}: is a pipe or a device; remove it, or choose another folder")
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - closed in __exit__
            held = lock(self._file.fileno())
            self.alone = bool(held)
            if self.alone:
                end_torn_line(self.path, _START)
            elif held is False:
                share_lock(self._file.fileno())  # waits while another run tidies up
            self._entries = dict(_entries(self.path))
        except OSError as error:
            raise ImageError(f"{root}: cannot be written: {why(error)}; choose another folder") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def share(self) -> None:
        """Let other runs in; to be called once what is only done alone is done."""
        if self.alone:
            share_lock(self._file.fileno())

    def targets(self) -> set[Path]:
        """Of all images that it lists, whatever became of them."""
        return {self.path.parent / target for target in self._entries}

    def key(self, job: FileJob) -> str:
        """The target's path within the folder, with slashes."""
        return Path(os.path.relpath(job.target, self.path.parent)).as_posix()

    def missing(self, job: FileJob, digest: str, settings: Mapping[str, Any]) -> str:
        """Why a picture has to be made: "" if its files are those once made of this input with these settings."""
        entry = self._entries.get(self.key(job))
        if entry is None:
            return "the output is not in the folder's manifest" if os.path.lexists(job.target) else "there is no output"

        def damaged(name: str, made: Any) -> str:
            path = job.target.parent / Path(name).name  # never a path that the manifest might name elsewhere
            return "" if made and _digest_or_none(path) == made else one_line(str(path))

        return outdated(entry, digest, settings, damaged)

    def add(self, job: FileJob, digest: str, settings: Mapping[str, Any], outputs: Iterable[Path]) -> None:
        """Record a finished picture: its input's hash, its settings, its files. Raises ImageError."""
        made = {path.name: file_sha256(path) for path in outputs}
        entry = {"target": self.key(job), "input": digest, "settings": _plain(settings), "outputs": made}
        if self._entries.get(entry["target"]) == entry:
            return
        try:
            self._write(json.dumps(entry).encode() + b"\n")
        except OSError as error:
            raise ImageError(f"{self.path}: cannot be written: {why(error)}") from error
        self._entries[entry["target"]] = entry

    def _write(self, line: bytes) -> None:
        while line:  # a full disk may take a part; the next write then says what is wrong
            line = line[self._file.write(line) :]


def outdated(
    entry: Mapping[str, Any], digest: str, settings: Mapping[str, Any], damaged: Callable[[str, Any], str]
) -> str:
    """Why an image has to be made again: "" if its files are those once made of this input with these settings.

    `entry` says what was made: input, settings, outputs; `damaged(name, made)` names a file that is no longer so.
    """
    if entry["input"] != digest:
        return "the input has changed"
    old, new = entry["settings"], _plain(settings)
    if changed := sorted(name for name in {*old, *new} if old.get(name) != new.get(name)):
        return f"other settings: {', '.join(changed)}"
    for name, made in entry["outputs"].items():
        if path := damaged(name, made):
            return f"{path} is damaged or gone"
    return ""


def listed_outputs(root: Path) -> dict[str, str]:
    """The real paths of all files that the manifest of an output folder lists, and their sha256."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for target, entry in _entries(root / NAME):
            for name, digest in entry["outputs"].items():
                with contextlib.suppress(ValueError):  # a name that can be none
                    found[os.path.realpath((root / target).parent / Path(name).name)] = digest
    return found


def remove_leftovers(jobs: Sequence[FileJob], companions: Sequence[str] = ()) -> int:
    """Remove the temporary files that a killed run left beside these targets; returns how many. Only while no other run
    writes there."""
    expected: dict[Path, set[str]] = {}
    for job in jobs:
        names = {shortened(path.name) for path in (job.target, *map(job.beside, companions))}
        expected.setdefault(job.target.parent, set()).update(names)
    removed = 0
    for folder, names in expected.items():
        with contextlib.suppress(OSError):
            for path in list(folder.iterdir()):
                found = _TEMPORARY.fullmatch(path.name)
                if found and names & {found[1], STEP.sub("", found[1])} and path.is_file():
                    path.unlink()
                    removed += 1
    return removed


def _digest_or_none(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except (OSError, ValueError):  # the latter: a name that can be none
        return None


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As they come back from JSON: tuples are lists."""
    return json.loads(json.dumps(dict(settings)))


def _entries(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    """The readable lines; a line that is damaged only means that its picture is made again."""
    if not path.is_file():  # a pipe or a device has no end
        return
    with path.open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, RecursionError):
                entry = json.loads(line)
                tables = isinstance(entry, dict) and all(
                    isinstance(entry.get(k), dict) for k in ("settings", "outputs")
                )
                if tables and isinstance(entry.get("target"), str) and entry["outputs"] and "input" in entry:
                    yield entry["target"], entry
