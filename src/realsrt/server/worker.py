"""The thread that has jobs computed: takes the one that has waited longest, until it is told to stop."""

import json
import logging
import threading
import time

from realsrt.errors import first_line, renamed
from realsrt.io.files import is_full
from realsrt.server.live import Live, Preview
from realsrt.server.logs import say
from realsrt.server.maker import Dropped, Event, Failed, Made, Maker, Progress, Task
from realsrt.server.metrics import Metrics
from realsrt.server.pace import Pace
from realsrt.server.process import ProcessEnded, ProcessMaker
from realsrt.server.records import JobRecord
from realsrt.server.settings import ServerSettings
from realsrt.server.store import JobStore

TOGETHER = 16  # jobs at most that share batches on a GPU
GRACE = 5.0  # seconds that the current job gets to finish when the service stops; then it waits for the next start
FULL_PAUSE = 10.0  # seconds until jobs are tried again after the disk was full
MOST_DEATHS = 3  # a job that was being computed when its process died so often is taken for the reason
_SWEEP = 30.0  # seconds between looks for results whose time is up


class _TookTooLong(Dropped):
    """The job has had its time."""


class Worker(threading.Thread):
    """One at a time. `wake` it after adding a job."""

    def __init__(
        self, maker: Maker | ProcessMaker, store: JobStore, live: Live, pace: Pace, metrics: Metrics,
        settings: ServerSettings,
    ) -> None:  # fmt: skip
        super().__init__(name="worker", daemon=True)
        self._maker, self._store, self._live, self._pace, self._metrics = maker, store, live, pace, metrics
        self._keep, self._max_seconds = settings.keep, settings.max_seconds
        self._work, self._stopping = threading.Event(), threading.Event()
        self._deadline = float("inf")
        self.trouble = ""  # why no job is computed, in one line
        self._dropped: set[str] = set()
        self._swept = self._full_until = 0.0

    @property
    def full(self) -> bool:
        """Whether jobs wait for room on the disk."""
        return time.monotonic() < self._full_until or self._store.full

    def wake(self) -> None:
        self._work.set()

    def drop(self, id: str) -> None:
        """A running job was cancelled."""
        self._dropped.add(id)

    def stop(self, grace: float = GRACE) -> None:
        """Take no more; the current job gets some seconds, then goes back to the queue."""
        if not self._stopping.is_set():
            self._deadline = time.monotonic() + grace
        self._stopping.set()
        self._work.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._work.clear()
                self._store.put_back()  # what an earlier problem left running
                if time.monotonic() - self._swept > _SWEEP:
                    self._swept = time.monotonic()
                    if gone := self._store.expire(self._keep):
                        say("results.expired", count=gone)
                jobs = [] if self.full else self._store.take(1 if self._maker.device.type == "cpu" else TOGETHER)
                if jobs:
                    self._compute([job for job in jobs if self._readable(job)])
                else:
                    self._work.wait(1.0)
                self.trouble = ""
            except Exception as problem:  # of the store: a full disk, say; try again rather than end
                self.trouble = first_line(problem)
                say("worker.problem", logging.ERROR, problem, error=self.trouble)
                if is_full(problem):
                    self._full_until = time.monotonic() + FULL_PAUSE
                self._stopping.wait(1.0)

    def _compute(self, jobs: list[JobRecord]) -> None:
        """All of them, or until they are not wanted any more."""
        jobs_left = {job.id: job for job in jobs}
        tell_share = {job.id: self._live.follow(job.id) for job in jobs}
        for job in jobs:
            say("job.started", id=job.id, owner=job.owner, pixels=job.width * job.height, attempt=job.attempts)
        until = time.monotonic() + self._max_seconds * len(jobs)

        def check() -> None:
            if self._dropped.issuperset(jobs_left) or (self._stopping.is_set() and time.monotonic() > self._deadline):
                raise Dropped
            if time.monotonic() > until:
                raise _TookTooLong

        def tell(event: Event) -> None:
            if isinstance(event, Progress):
                tell_share[event.id](event.share)
            elif isinstance(event, Preview):
                self._live.add_preview(event)
            else:
                job = jobs_left.pop(event.id)
                self._live.forget(job.id)
                self._done(job, event) if isinstance(event, Made) else self._failed(job, event)

        try:
            self._maker.run(
                [Task(job, self._store.input(job.id), self._store.result(job)) for job in jobs], tell, check
            )
        except (Dropped, ProcessEnded) as problem:
            for job in jobs_left.values():
                self._give_up(job, problem)
        finally:
            for id in jobs_left:
                self._live.forget(id)

    def _readable(self, job: JobRecord) -> bool:
        """Whether it is known what a job asks for; else it has failed."""
        return job.state == "running" or not self._store.end(job.id, "failed", self._keep, error=job.error)

    def _done(self, job: JobRecord, made: Made) -> None:
        record, seconds = made.record, round(made.seconds, 3)
        notices = json.dumps([self._named(job, text) for text in record.notices])
        facts = {"confidence": record.confidence, "notices": notices, "error": None}
        if not self._store.end(job.id, "done", self._keep, seconds=seconds, **facts):
            self._remove(job)  # cancelled at the last moment
            return
        if made.computed and not job.edits:
            self._pace.learn(job, seconds)
        self._metrics.ended("done", seconds, job.width * job.height)
        say("job.done", id=job.id, owner=job.owner, seconds=seconds, confidence=record.confidence)

    def _failed(self, job: JobRecord, failed: Failed) -> None:
        reason = self._named(job, failed.reason)
        if failed.full:
            self._full_until = time.monotonic() + FULL_PAUSE
            self._store.requeue(job.id)
            say("job.waits", logging.WARNING, id=job.id, error=reason)
        elif not self._store.end(job.id, "failed", self._keep, error=reason):
            self._remove(job)  # cancelled: its files may have gone below the computation
        else:
            self._store.drop_files(job.id)
            self._metrics.ended("failed")
            level = logging.ERROR if failed.trace else logging.INFO
            say("job.failed", level, id=job.id, error=reason, traceback=failed.trace or None)

    def _give_up(self, job: JobRecord, why: Dropped | ProcessEnded) -> None:
        """A job that was begun and is not done: cancelled, out of time, put back, or the death of its process."""
        now = self._store.get(job.id)
        if now is None or now.state != "running":
            self._remove(job)
        elif isinstance(why, _TookTooLong):
            reason = f"took longer than {self._max_seconds:g} seconds; a smaller picture or fewer steps may do"
            self._failed(job, Failed(job.id, reason, full=False, trace=""))
        elif isinstance(why, ProcessEnded) and job.attempts >= MOST_DEATHS:
            self._failed(job, Failed(job.id, f"{why}; a smaller picture may do", full=False, trace=""))
        else:
            self._store.requeue(job.id, begun=isinstance(why, ProcessEnded))
            say("job.requeued", id=job.id)

    def _remove(self, job: JobRecord) -> None:
        self._dropped.discard(job.id)
        self._store.drop_files(job.id)
        say("job.dropped", id=job.id)

    def _named(self, job: JobRecord, text: str) -> str:
        """The client knows the picture by its own name, not by where it lies here."""
        text = renamed(text, self._store.input(job.id), job.name)
        return renamed(text, self._store.result(job), f"the result ({job.suffix[1:]})")
