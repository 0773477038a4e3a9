"""Jobs, from their input files to the files of their results: the same bytes that `realsrt upscale` writes."""

import contextlib
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from realsrt.batch.outputs import CONFIDENCE
from realsrt.batch.plan import FileJob
from realsrt.batch.process import provenance_of, read_image, save_image, upscale_rows
from realsrt.batch.report import Record, mean_confidence
from realsrt.batch.resume import remove_leftovers
from realsrt.config import ModelConfig
from realsrt.errors import RealSRTError, UsageError
from realsrt.inference.result import Upscaled
from realsrt.inference.upscaler import Upscaler
from realsrt.io import preview
from realsrt.io.files import NoRoomError, is_full
from realsrt.io.picture import Picture
from realsrt.model import CheckpointInfo
from realsrt.server.live import Preview
from realsrt.server.logs import say
from realsrt.server.records import JobRecord
from realsrt.server.results import Kept, Results, write_candidates, write_step
from realsrt.server.trust import first_confidence

PREVIEW_PIXELS = 1_000_000  # larger inputs are computed alone, row by row, without previews: memory stays bounded


@dataclass(frozen=True)
class Task:
    """A job and its files."""

    job: JobRecord
    source: Path
    target: Path

    @property
    def large(self) -> bool:
        """Whether the image is not held whole."""
        return self.job.width * self.job.height > PREVIEW_PIXELS


@dataclass(frozen=True)
class Progress:
    """The share of a job that is done, 0 to 1."""

    id: str
    share: float


@dataclass(frozen=True)
class Made:
    """A job is done, in so many seconds. `computed`: nothing of it was taken from memory."""

    id: str
    record: Record
    seconds: float
    computed: bool = True


@dataclass(frozen=True)
class Failed:
    """A job is not, for a `reason` of one line. `full`: for want of room on the disk. `trace`: of what was not
    expected."""

    id: str
    reason: str
    full: bool
    trace: str


Event = Progress | Preview | Made | Failed
Tell = Callable[[Event], None]
Check = Callable[[], None]


class Dropped(Exception):
    """What is computed is not wanted any more."""


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model without having it."""

    info: CheckpointInfo
    config: ModelConfig


class Maker:
    """Computes in this process; nothing can end it between two calls of `check`."""

    def __init__(self, up: Upscaler, max_pixels: int) -> None:
        self.up, self.device, self._max_pixels = up, up.device, max_pixels
        self._results = Results(up)

    def run(self, tasks: Sequence[Task], tell: Tell, check: Check) -> None:
        """Compute tasks that ask for the same. `tell` hears what happens, `check` is called now and then; what they
        raise ends it."""
        for task in tasks:  # of an attempt that was ended
            remove_leftovers([FileJob(task.target, task.target)], [CONFIDENCE])
        small = [task for task in tasks if not task.large]
        if together := small if len(small) > 1 else []:
            self._together(together, tell, check)
        for task in tasks:
            if task not in together:
                self._alone(task, tell, check)

    def close(self) -> None:
        pass

    def _alone(self, task: Task, tell: Tell, check: Check) -> None:
        started, id = time.monotonic(), task.job.id

        def progress(share: float) -> None:
            if share < 1:
                check()
            tell(Progress(id, share))

        def show(out: Upscaled) -> None:
            mean = mean_confidence(out.confidence)
            tell(Preview(id, out.step, out.num_steps, preview.jpeg(out.image), mean))

        try:
            picture = self._read(task)
            with contextlib.ExitStack() as stack:
                shown = show if task.job.options.previews else None
                made, computed = self._compute(task, picture, progress, shown, stack)
                record = self._write(task, picture, made)
        except Dropped:
            raise
        except Exception as problem:
            tell(_failed(task, problem))
        else:
            tell(Made(id, record, time.monotonic() - started, computed))

    def _together(self, tasks: Sequence[Task], tell: Tell, check: Check) -> None:
        """In shared batches; what goes wrong with one is that one's."""
        say("jobs.together", count=len(tasks), ids=[task.job.id for task in tasks])
        ready: list[tuple[Task, Picture]] = []
        for task in tasks:
            try:
                ready.append((task, self._read(task)))
            except Exception as problem:
                tell(_failed(task, problem))
        started, options = time.monotonic(), tasks[0].job.options.upscaling
        results = self.up.upscale_many([picture for _, picture in ready], options, return_errors=True)
        for done, (task, picture) in enumerate(ready, 1):
            if done > 1:
                check()
            try:
                if isinstance(out := next(results), Exception):
                    raise out
                record = self._write(task, picture, Kept(out, first=first_confidence(out.confidence)))
            except UsageError as problem:  # of the options, which are those of all
                for left, _ in ready[done - 1 :]:
                    tell(_failed(left, problem))
                return
            except Exception as problem:
                tell(_failed(task, problem))
            else:
                tell(Made(task.job.id, record, (time.monotonic() - started) / done))

    def _read(self, task: Task) -> Picture:
        """The input, if its result can be written. Raises ImageError."""
        options = task.job.options
        return read_image(task.source, task.target, options.upscaling, options.files(self._max_pixels))

    def _compute(
        self, task: Task, picture: Picture, progress: Callable[[float], None],
        show: Callable[[Upscaled], None] | None, stack: contextlib.ExitStack,
    ) -> tuple[Kept, bool]:  # fmt: skip
        """The result, and whether nothing of it was taken from memory."""
        folder = task.target.parent

        def shown(out: Upscaled) -> None:
            write_step(folder, out)
            if show:
                show(out)

        if task.job.edits or (show and not task.large):
            made, computed = self._results.make(task.job, picture, task.source, progress, shown if show else None)
            write_candidates(folder, made.result)
            return made, computed
        count = lambda done, total: progress(done / total)  # noqa: E731
        out, store = upscale_rows(self.up, picture, task.job.options.upscaling, task.target, count)
        stack.callback(store.close)
        return Kept(out, first=first_confidence(out.confidence)), True

    def _write(self, task: Task, picture: Picture, made: Kept) -> Record:
        options, files = task.job.options.upscaling, task.job.options.files(self._max_pixels)
        edits = [edit.noted for edit in task.job.edits]
        noted = provenance_of(self.up, options, files, {"regenerated": edits} if edits else None)
        size = picture.width, picture.height
        if made.first:
            made.first.write(task.target.parent)
        job = FileJob(task.target, task.target)
        record, _ = save_image(job, made.result, files, noted, size=size, seconds=0.0)
        idle = [f"{name} has no effect at 0 steps" for name in options.without_effect()]
        return replace(record, notices=(*picture.notices, *record.notices, *idle))


def _failed(task: Task, problem: Exception) -> Failed:
    trace = "" if isinstance(problem, RealSRTError) else "".join(traceback.format_exception(problem))
    return Failed(task.job.id, _line(problem), is_full(problem) or isinstance(problem, NoRoomError), trace)


def _line(problem: BaseException) -> str:
    """One line on what went wrong, whatever was raised."""
    text = " ".join(str(problem).split())
    if isinstance(problem, MemoryError):
        return "there is not enough memory for this picture; send a smaller one"
    return text if isinstance(problem, RealSRTError) else f"unexpected {type(problem).__name__}: {text}"
