"""The thread that computes: takes the job that has waited longest, until it is told to stop."""

import json
import logging
import threading
import time

from realsrt.batch.report import Record, mean_confidence
from realsrt.errors import RealSRTError
from realsrt.inference.result import Upscaled
from realsrt.io.files import is_full
from realsrt.io.picture import Picture
from realsrt.server import preview
from realsrt.server.live import Live, Preview
from realsrt.server.logs import say
from realsrt.server.maker import Maker
from realsrt.server.metrics import Metrics
from realsrt.server.records import JobRecord
from realsrt.server.store import JobStore

TOGETHER = 16  # jobs at most that share batches on a GPU
GRACE = 5.0  # seconds that the current job gets to finish when the service stops; then it waits for the next start
_SWEEP = 30.0  # seconds between looks for results whose time is up


class _Dropped(Exception):
    """The job is not wanted any more, or the service stops."""


class Worker(threading.Thread):
    """One at a time. `wake` it after adding a job."""

    def __init__(self, maker: Maker, store: JobStore, live: Live, metrics: Metrics, keep: float) -> None:
        super().__init__(name="worker", daemon=True)
        self._maker, self._store, self._live, self._metrics, self._keep = maker, store, live, metrics, keep
        self._work, self._stopping = threading.Event(), threading.Event()
        self._deadline = float("inf")
        self._dropped: set[str] = set()
        self._swept = 0.0

    def wake(self) -> None:
        self._work.set()

    def drop(self, id: str) -> None:
        """A running job was cancelled."""
        self._dropped.add(id)

    def stop(self, grace: float = GRACE) -> None:
        """Take no more; the current job gets some seconds, then goes back to the queue."""
        self._deadline = time.monotonic() + grace
        self._stopping.set()
        self._work.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                if time.monotonic() - self._swept > _SWEEP:
                    self._swept = time.monotonic()
                    if gone := self._store.expire(self._keep):
                        say("results.expired", count=gone)
                self._work.clear()
                jobs = self._store.take(TOGETHER if self._maker.together else 1)
                if not jobs:
                    self._work.wait(1.0)
                elif len(jobs) > 1:
                    self._many(jobs)
                else:
                    self._one(jobs[0])
            except Exception as problem:  # of the store: a full disk, say; try again rather than end
                say("worker.problem", logging.ERROR, problem, error=_line(problem))
                self._stopping.wait(1.0)

    def _one(self, job: JobRecord) -> None:
        tell = self._live.follow(job.id)
        say("job.started", id=job.id, owner=job.owner, pixels=job.width * job.height, attempt=job.attempts)

        def progress(share: float) -> None:
            if share < 1:
                self._check(job.id)
            tell(share)

        def show(step: Upscaled) -> None:
            mean = mean_confidence(step.confidence)
            self._live.add_preview(job.id, Preview(step.step, step.num_steps, preview.jpeg(step.image), mean))

        started = time.monotonic()
        source, target = self._store.input(job.id), self._store.result(job)
        try:
            made = self._maker.make(job, source, target, progress, show if job.options.previews else None)
            self._done(job, made, time.monotonic() - started)
        except _Dropped:
            self._give_up(job)
        except Exception as problem:
            self._failed(job, problem)
        finally:
            self._live.forget(job.id)

    def _many(self, jobs: list[JobRecord]) -> None:
        """Several that ask for the same, together. What goes wrong with one sends the rest through one by one."""
        say("jobs.together", count=len(jobs), ids=[job.id for job in jobs])
        ready: list[tuple[JobRecord, Picture]] = []
        for job in jobs:
            self._live.follow(job.id)
            try:
                ready.append((job, self._maker.read(job, self._store.input(job.id), self._store.result(job))))
            except Exception as problem:
                self._failed(job, problem)
                self._live.forget(job.id)
        started, done = time.monotonic(), 0
        try:
            records, pictures = [job for job, _ in ready], [picture for _, picture in ready]
            targets = [self._store.result(job) for job in records]
            for job, made in zip(records, self._maker.make_many(records, pictures, targets), strict=True):
                self._done(job, made, (time.monotonic() - started) / (done + 1))
                self._live.forget(job.id)
                done += 1
                if done < len(ready):
                    self._check(None)
        except _Dropped:
            for job, _ in ready[done:]:
                self._give_up(job)
        except Exception as problem:
            say("jobs.apart", logging.WARNING, problem, error=_line(problem), left=len(ready) - done)
            for job, _ in ready[done:]:
                self._one(job)

    def _check(self, id: str | None) -> None:
        if id in self._dropped or (self._stopping.is_set() and time.monotonic() > self._deadline):
            raise _Dropped

    def _done(self, job: JobRecord, made: Record, seconds: float) -> None:
        facts = {
            "confidence": made.confidence,
            "notices": json.dumps([self._named(job, text) for text in made.notices]),
        }
        seconds = round(seconds, 3)
        if not self._store.end(job.id, "done", self._keep, seconds=seconds, error=None, **facts):
            self._give_up(job)  # cancelled at the last moment
            return
        self._live.took(job.work, seconds)
        self._metrics.ended("done", seconds, job.width * job.height)
        say("job.done", id=job.id, owner=job.owner, seconds=seconds, confidence=made.confidence)

    def _give_up(self, job: JobRecord) -> None:
        now = self._store.get(job.id)
        if now is not None and now.state == "running":
            self._store.requeue(job.id)
            say("job.requeued", id=job.id)
            return
        self._dropped.discard(job.id)
        self._store.drop_files(job.id)
        say("job.dropped", id=job.id)

    def _failed(self, job: JobRecord, problem: Exception) -> None:
        now = self._store.get(job.id)
        if now is None or now.state != "running":  # cancelled: its files may have gone below the computation
            self._give_up(job)
            return
        reason = self._named(job, _line(problem))
        self._store.end(job.id, "failed", self._keep, error=reason)
        self._store.drop_files(job.id)
        self._metrics.ended("failed")
        expected = isinstance(problem, RealSRTError)
        say(
            "job.failed",
            logging.INFO if expected else logging.ERROR,
            None if expected else problem,
            id=job.id,
            error=reason,
        )

    def _named(self, job: JobRecord, text: str) -> str:
        """The client knows the picture by its own name, not by where it lies here."""
        text = text.replace(str(self._store.input(job.id)), job.name)
        return text.replace(str(self._store.result(job)), f"the result ({job.suffix[1:]})")


def _line(problem: BaseException) -> str:
    """One line on what went wrong, whatever was raised."""
    text = " ".join(str(problem).split())
    if isinstance(problem, MemoryError):
        return "there is not enough memory for this picture; send a smaller one"
    if is_full(problem):
        return "the service's disk is full; try again later"
    return text if isinstance(problem, RealSRTError) else f"unexpected {type(problem).__name__}: {text}"
