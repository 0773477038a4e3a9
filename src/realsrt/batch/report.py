"""What became of each picture of a batch, a line of JSON each; what went wrong, one line for a person."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from realsrt.errors import ImageError, RealSRTError, one_line, why
from realsrt.io.files import check_writable

if TYPE_CHECKING:
    import numpy as np


_START = b'{"source": '


@dataclass(frozen=True)
class Record:
    """What became of one picture.

    `status` is done, failed or skipped; sizes in px; `confidence` the mean, in [0,1]; `trusted` the share of cells in
    the mask of trust. `way`, `denoise`, `share`: as `Restored` has them. `reason`: why it failed, was skipped or was
    done again. `model`: its name, for the hub with the commit; `model_sha256` of its file.
    """

    source: str
    target: str
    status: str
    reason: str | None = None
    width: int | None = None
    height: int | None = None
    out_width: int | None = None
    out_height: int | None = None
    seconds: float | None = None
    confidence: float | None = None
    trusted: float | None = None
    steps: float | int | None = None
    way: str | None = None
    denoise: float | None = None
    share: float | None = None
    model: str | None = None
    model_sha256: str | None = None
    notices: tuple[str, ...] = ()

    def line(self, encoding: str = "utf-8") -> str:
        """One line of JSON, without the fields that have nothing to say. What `encoding` lacks is escaped."""
        told = {key: value for key, value in asdict(self).items() if value not in (None, ())}
        text = json.dumps(told, ensure_ascii=False)
        try:
            text.encode(encoding)
        except UnicodeEncodeError:  # a file name that is no UTF-8, or a stream that is not
            text = json.dumps(told)
        return text


class Report:
    """Writes one JSON line a picture, as it is done, to `streams` and to the file `path` (added to if `append`).

    Half a line of ours that a killed run left at the end of `path` is taken away first.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, append: bool = False, streams: Sequence[IO[str]] = ()
    ) -> None:
        """Makes the file's folder if need be. Raises ImageError if it cannot be opened, or is no report."""
        self.records: list[Record] = []
        self.mute = ""  # why a stream takes no more lines; the rest goes on
        self._streams = list(streams)
        self._path, self._file = path, None
        if path is not None:
            check_report(path)
            try:
                Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
                self._file = open(path, "a" if append else "w", encoding="utf-8")  # noqa: SIM115 - closed in __exit__
                end_torn_line(path, _START)
            except OSError as error:
                raise ImageError(f"{path}: the report cannot be written: {why(error)}") from error

    def add(self, record: Record) -> None:
        """Raises ImageError if the file does not take it."""
        self.records.append(record)
        for stream in list(self._streams):
            try:
                print(record.line(getattr(stream, "encoding", None) or "utf-8"), file=stream, flush=True)
            except (OSError, ValueError) as error:  # its reader has gone, its disk is full, it is closed
                self._streams.remove(stream)
                reason = why(error)
                self.mute = f"stdout took no more lines ({reason}); the images are as they should be"
                abandon(stream)
        try:
            if self._file:
                print(record.line(), file=self._file, flush=True)
        except OSError as error:
            raise ImageError(f"{self._path}: the report cannot be written: {why(error)}") from error

    def count(self, status: str) -> int:
        return sum(record.status == status for record in self.records)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            with contextlib.suppress(OSError):  # on a full disk: what did not fit was reported
                self._file.close()


def abandon(stream: IO[str]) -> None:
    """Let nothing that is written to a stream from now on, at the end of Python too, be an error."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def check_report(path: str | os.PathLike[str]) -> None:
    """Raise ImageError unless a report may and can be written there, before any work."""
    require_ours(path, _START)
    if not os.path.exists(path):
        check_writable(Path(path))
    elif not os.access(path, os.W_OK):
        raise ImageError(f"{path}: the report cannot be written: no permission")


def require_ours(path: str | os.PathLike[str], start: bytes = b"") -> None:
    """Raise ImageError unless a file may be written to as one of lines that begin with `start`: it has such lines or
    none, or is a pipe or a terminal. A link to a file is not followed, for whose it may be."""
    linked = os.path.islink(path) and (os.path.isfile(path) or not os.path.exists(path))
    if linked or os.path.isdir(path):
        raise ImageError(f"{path}: is a {'link' if linked else 'folder'}; nothing is written there; give another name")
    if os.path.isfile(path):
        try:
            with open(path, "rb") as file:
                found = file.read(len(start))
        except OSError as error:
            raise ImageError(f"{path}: cannot be read: {why(error)}") from error
        if not start.startswith(found):
            raise ImageError(f"{path}: is a file of something else; nothing is written there; give another name")


def end_torn_line(path: str | os.PathLike[str], start: bytes) -> None:
    """Take half a line at the end of a file away if it is of those that begin with `start`; end it if it is not.
    Raises OSError. What is no regular file is left alone."""
    if not os.path.isfile(path):
        return
    with open(path, "r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        torn = content[whole:]
        if torn.startswith(start) or start.startswith(torn):
            file.truncate(whole)
        else:
            file.write(b"\n")


def mean_confidence(confidence: "np.ndarray | None") -> float | None:
    """The mean of a map, rounded as it is reported."""
    return None if confidence is None else round(float(confidence.mean()), 4)


def mean_steps(window_steps: "np.ndarray | None") -> float | int | None:
    """The mean of the steps that windows took, as it is reported: a whole number where all took as many."""
    if window_steps is None:
        return None
    mean = round(float(window_steps.mean()), 3)
    return int(mean) if mean.is_integer() else mean


def about(source: object, problem: BaseException) -> str:
    """One line naming the file and what went wrong with it, whatever was raised."""
    text = str(problem)
    if isinstance(problem, MemoryError):
        text = "there is not enough memory for this picture; close other programs or use a smaller one"
    elif isinstance(problem, OSError):
        advice = "; see to its permissions" if isinstance(problem, PermissionError) else ""
        text = f"{problem.filename or source}: {why(problem)}{advice}"
    elif not isinstance(problem, RealSRTError):
        text = f"unexpected {type(problem).__name__}: {' '.join(text.split())} (REALSRT_DEBUG=1 shows where)"
    text, name = one_line(text), one_line(str(source))
    return text if name in text else f"{name}: {text}"
