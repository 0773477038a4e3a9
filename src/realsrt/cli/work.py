"""The pictures of a batch, one after another. While one is computed, a second thread writes the last, reads the next.

All files are touched in that one thread, in order, so an error belongs to the picture that was being read or written.
At most one picture waits decoded and one to be written. Bytes do not depend on it.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from realsrt.batch.outputs import Files
from realsrt.batch.plan import FileJob
from realsrt.batch.process import provenance_of, read_image, save_image, upscale_rows
from realsrt.batch.report import Record, Report, about
from realsrt.batch.resume import Manifest
from realsrt.cli.show import Screen, error, note
from realsrt.errors import ImageError, UsageError
from realsrt.inference.options import UpscaleOptions
from realsrt.io.files import file_sha256, is_full

if TYPE_CHECKING:
    from realsrt.inference.assemble import RowStore
    from realsrt.inference.result import Upscaled
    from realsrt.inference.upscaler import Upscaler
    from realsrt.io.picture import Picture


@dataclass(frozen=True)
class Past:
    """What is known of earlier runs: `manifest` None where none is kept; `settings` of this run; skip if `resume`."""

    manifest: Manifest | None
    settings: Mapping[str, Any]
    resume: bool


@dataclass(frozen=True)
class _Input:
    """A picture read, or None if it is `done` already; `why` it is made again; `seconds` that reading took."""

    picture: "Picture | None"
    digest: str = ""
    why: str | None = None
    seconds: float = 0.0


class Stop(Exception):
    """The batch ends here; says why in one line."""


class BatchLoop:
    """Takes jobs through: each is read, computed, written and reported, whatever happens to the others."""

    def __init__(
        self, up: "Upscaler", options: UpscaleOptions, files: Files, past: Past, report: Report, screen: Screen,
        signals: list[int], spoken: Callable[[str], str] = str,
    ) -> None:  # fmt: skip
        """`signals` fills as they come: the picture being computed is then dropped, the one being written finished.
        `spoken` turns what is told of files into what a person knows them by."""
        self._up, self._options, self._files, self._past = up, options, files, past
        self._report, self._screen, self._signals, self._spoken = report, screen, signals, spoken
        self._behind: tuple[FileJob, Future[Record]] | None = None
        info = up.model.info
        self._model = {"model": info.source, "model_sha256": info.sha256}
        self._made = provenance_of(up, options, files)

    def run(self, jobs: list[FileJob]) -> str:
        """All of them, or until a signal comes or the disk is full: returns why it stopped early, or "".

        Only contradicting options (UsageError) and an unwritable report (ImageError) get through.
        """
        with ThreadPoolExecutor(1, "files") as io:
            ahead: Future[_Input] | None = None
            try:
                for number, job in enumerate(jobs):
                    self._heed_signals()
                    self._screen.begin(job.source.name)
                    reading = ahead or io.submit(self._read, job)
                    reading.exception()  # wait; what it is, `_take` finds out
                    ahead = io.submit(self._read, jobs[number + 1]) if number + 1 < len(jobs) else None
                    self._take(job, reading, io)
                self._settle()
            except Stop as stop:
                with contextlib.suppress(Stop):
                    self._settle()
                return str(stop)
            except BaseException:
                with contextlib.suppress(Stop):
                    self._settle()
                raise
            finally:
                if ahead:
                    ahead.cancel()
        return ""

    def _heed_signals(self) -> None:
        if self._signals:
            raise Stop(f"stopped by {signal.Signals(self._signals[0]).name}")

    def _take(self, job: FileJob, reading: "Future[_Input]", io: ThreadPoolExecutor) -> None:
        """Compute one picture that has been read, settle the one before, and hand this one over for writing."""
        with self._failures_of(job):
            loaded = reading.result()
            if loaded.picture is None:
                self._settle()
                self._add(Record(str(job.source), str(job.target), "skipped", loaded.why))
                return
            started = time.perf_counter()
            out, store = self._compute(job, loaded.picture)
            seconds = time.perf_counter() - started + loaded.seconds
            try:
                self._settle()
            except BaseException:  # the one before has ended the batch: this one is not written
                if store:
                    store.close()
                raise
            self._behind = job, io.submit(self._write, job, loaded, out, store, seconds)

    def _compute(self, job: FileJob, picture: "Picture") -> "tuple[Upscaled, RowStore | None]":
        """The rows in a store, unless the steps are to be saved too."""
        if self._files.save_steps:
            return self._up.upscale(picture, self._options, on_progress=self._progress, keep_steps=True), None
        return upscale_rows(self._up, picture, self._options, job.target, self._progress)

    def _progress(self, done: int, total: int) -> None:
        if done < total:  # with all windows done, the picture is finished
            self._heed_signals()
        self._screen.windows(done, total)

    def _settle(self) -> None:
        """Wait for the picture that is being written, and report it."""
        if self._behind:
            job, writing = self._behind
            self._behind = None
            with self._failures_of(job, settled=True):
                self._add(writing.result())

    @contextlib.contextmanager
    def _failures_of(self, job: FileJob, *, settled: bool = False) -> Iterator[None]:
        """Report what goes wrong with one picture; go on, unless there is no point in it. Reports stay in order."""
        try:
            yield
        except (UsageError, Stop, ReportError):
            raise
        except Exception as problem:
            if not settled:
                self._settle()
            reason = self._spoken(about(job.source, problem))
            error(reason, problem)
            self._add(Record(str(job.source), str(job.target), "failed", reason))
            if is_full(problem):
                raise Stop("stopped, as the disk is full: make room") from problem

    def _add(self, record: Record) -> None:
        spoken = self._spoken
        record = replace(
            record, source=spoken(record.source), target=spoken(record.target),
            notices=tuple(map(spoken, record.notices)),
        )  # fmt: skip
        for notice in record.notices:
            note(notice)
        try:
            self._report.add(record)
        except ImageError as problem:
            raise ReportError(str(problem)) from problem
        self._screen.end(record)

    # in the other thread

    def _read(self, job: FileJob) -> _Input:
        started = time.perf_counter()
        if job.problem:
            raise ImageError(job.problem)
        past = self._past
        if job.source.exists() and not (job.source.is_file() or job.source.is_dir()):
            raise ImageError(f"{job.source}: is a pipe or a device, not a picture's file")
        digest, why = "", None
        if past.manifest and job.source.is_file():
            digest = file_sha256(job.source)
            missing = past.manifest.missing(job, digest, past.settings) if past.resume else "-"
            if not missing:
                return _Input(None, why="the output is there, of this input and these settings")
            why = f"made again: {missing}" if past.resume and job.target.exists() else None
        picture = read_image(job.source, job.target, self._options, self._files)
        return _Input(picture, digest, why, time.perf_counter() - started)

    def _write(self, job: FileJob, loaded: _Input, out: "Upscaled", store: "RowStore | None", seconds: float) -> Record:
        started = time.perf_counter()
        picture = loaded.picture
        assert picture is not None
        with contextlib.ExitStack() as stack:
            if store:
                stack.callback(store.close)
            record, paths = save_image(
                job, out, self._files, self._made, size=(picture.width, picture.height), reason=loaded.why,
                seconds=seconds, **self._model,
            )  # fmt: skip
        if self._past.manifest:
            self._past.manifest.add(job, loaded.digest, self._past.settings, paths)
        seconds = round(seconds + time.perf_counter() - started, 3)
        return replace(record, seconds=seconds, notices=(*picture.notices, *record.notices))


class ReportError(ImageError):
    """The report cannot be written: no picture's failure, but the batch's."""
