"""What a person sees: errors and notes in one line on stderr, and the progress of a batch on a terminal."""

import contextlib
import os
import sys
import time
import traceback
from types import TracebackType
from typing import Any, Self

from realsrt.batch.report import Record
from realsrt.errors import one_line


def error(message: str, problem: BaseException | None = None) -> None:
    """One line on stderr; with REALSRT_DEBUG set, the traceback of `problem` or the error being handled as well."""
    if os.environ.get("REALSRT_DEBUG"):
        traceback.print_exception(problem or sys.exception())
    _say("error", message)


def note(message: str) -> None:
    _say("note", message)


def _say(kind: str, message: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody listens
        print(f"realsrt: {kind}: {one_line(message)}", file=sys.stderr, flush=True)


_PATIENCE = 8.0  # seconds before a picture that takes longer is spoken of
_BETWEEN = 30.0  # seconds between two lines


class Screen:
    """Two bars on a terminal, pictures and the windows of the current one; without one, a line on stderr now and then
    where a picture takes long: how far it is, and how long it will still take."""

    def __init__(self, total: int) -> None:
        self.live = sys.stdout.isatty()
        self._total, self._bars = total, None
        self._name, self._next = "", 0.0
        self._first: tuple[int, float] | None = None  # windows done, and when: before them the whole was restored

    def __enter__(self) -> Self:
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            name = TextColumn("{task.description}", markup=False)
            columns = [name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._all = self._bars.add_task("pictures", total=self._total)
            self._one = self._bars.add_task("", total=None, visible=False)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def begin(self, name: str) -> None:
        if self._bars:
            self._bars.reset(self._one, description=one_line(name), total=None, visible=True)
        self._name, self._first = name, None
        self._next = time.monotonic() + _PATIENCE

    def windows(self, done: int, total: int) -> None:
        """Progress within the current picture, as the pipeline reports it."""
        if self._bars:
            self._bars.update(self._one, completed=done, total=total)
            return
        now = time.monotonic()
        self._first = self._first or ((done, now) if done else None)
        if self._name and self._first and self._first[0] < done < total and now > self._next:
            self._next = now + _BETWEEN
            left = (now - self._first[1]) * (total - done) / (done - self._first[0])
            note(f"{self._name}: {100 * done // total} % done, about {duration(left)} left")

    def end(self, record: Record) -> None:
        self.advance()
        if self._bars and record.status != "failed":
            print(summary(record))

    def advance(self) -> None:
        """One picture more is through."""
        if self._bars:
            self._bars.advance(self._all)


def duration(seconds: float) -> str:
    """As a person says it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def summary(record: Record) -> str:
    """One line for people on a finished picture."""
    if record.status == "skipped":
        return one_line(f"{record.target} is there already")
    parts = [f"{record.source} ({record.width}x{record.height})", "to", f"{record.target}"]
    parts += [f"({record.out_width}x{record.out_height})"] if record.out_width else []
    parts += [f"in {record.seconds:.1f} s"] if record.seconds is not None else []
    parts += [f"confidence {record.confidence:.2f}"] if record.confidence is not None else []
    parts += [f"restored {record.way}, denoised {record.denoise:g}"] if record.way else []
    return one_line(" ".join(parts))


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A table on stdout: drawn on a terminal, tab-separated otherwise."""
    if not sys.stdout.isatty():
        print("\n".join("\t".join(one_line(str(cell)) for cell in row) for row in [columns, *rows]))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*columns, title=Text(one_line(title)), title_justify="left")
    for row in rows:
        drawn.add_row(*(Text(one_line(str(cell))) for cell in row))
    Console().print(drawn)
