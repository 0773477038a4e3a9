"""What became of each picture of a batch, a line of JSON each; what went wrong, one line for a person."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Self

from realsrt.errors import ImageError, RealSRTError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Record:
    """What became of one picture.

    `status` is done, failed or skipped; sizes in px; `confidence` the mean, in [0,1]. `reason`: why it failed, was
    skipped or was done again. `model`: its name, for the hub with the commit; `model_sha256` of its file.
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
    steps: float | None = None
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

    Half a line that a killed run left at the end of `path` is taken away first.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, append: bool = False, streams: Sequence[IO[str]] = ()
    ) -> None:
        """Raises ImageError if the file cannot be opened."""
        self.records: list[Record] = []
        self._streams = list(streams)
        self._path, self._file = path, None
        if path is not None:
            try:
                self._file = open(path, "a" if append else "w", encoding="utf-8")  # noqa: SIM115 - closed in __exit__
                cut_torn_line(path)
            except OSError as error:
                raise ImageError(f"{path}: the report cannot be written: {error.strerror}") from error

    def add(self, record: Record) -> None:
        """Raises ImageError if the file does not take it."""
        self.records.append(record)
        for stream in self._streams:
            print(record.line(getattr(stream, "encoding", None) or "utf-8"), file=stream, flush=True)
        try:
            if self._file:
                print(record.line(), file=self._file, flush=True)
        except OSError as error:
            raise ImageError(f"{self._path}: the report cannot be written: {error.strerror}") from error

    def count(self, status: str) -> int:
        return sum(record.status == status for record in self.records)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            with contextlib.suppress(OSError):  # on a full disk: what did not fit was reported
                self._file.close()


def cut_torn_line(path: str | os.PathLike[str]) -> None:
    """Shorten a file of lines to its last whole one. Raises OSError. What is no regular file is left alone."""
    if not os.path.isfile(path):
        return
    with open(path, "r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def mean_confidence(confidence: "np.ndarray | None") -> float | None:
    """The mean of a map, rounded as it is reported."""
    return None if confidence is None else round(float(confidence.mean()), 4)


def mean_steps(window_steps: "np.ndarray") -> float:
    """The mean over windows, rounded; a whole number where all took as many."""
    mean = round(float(window_steps.mean()), 3)
    return int(mean) if mean.is_integer() else mean


def one_line(text: str) -> str:
    """Without line breaks; bytes of file names that are no text are escaped."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()


def about(source: object, problem: BaseException) -> str:
    """One line naming the file and what went wrong with it, whatever was raised."""
    text = one_line(str(problem))
    if isinstance(problem, MemoryError):
        text = "there is not enough memory for this picture; close other programs or use a smaller one"
    elif isinstance(problem, OSError):
        advice = "; see to its permissions" if isinstance(problem, PermissionError) else ""
        text = one_line(f"{problem.filename or source}: {problem.strerror or problem}{advice}")
    elif not isinstance(problem, RealSRTError):
        text = f"unexpected {type(problem).__name__}: {text} (REALSRT_DEBUG=1 shows where)"
    return text if str(source) in text else f"{source}: {text}"
