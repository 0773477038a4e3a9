"""How long jobs will take, learned from those that were computed."""

import threading
from collections.abc import Iterable

from realsrt.config import ModelConfig
from realsrt.server.records import JobRecord

MOST_STEPS = 8  # that the page offers
_FORGET = 0.7  # the weight of what was learned before, with each job


class Pace:
    """Seconds for a unit of work: an input pixel, once around. Safe for threads."""

    def __init__(self, config: ModelConfig) -> None:
        self._config, self._lock = config, threading.Lock()
        self._work = self._seconds = 0.0

    def learn(self, job: JobRecord, seconds: float) -> None:
        """Of a job without edits that was computed as a whole: what comes from memory says nothing of the next."""
        with self._lock:
            self._work = _FORGET * self._work + self._pixels(job) * self._rounds(job.options.upscaling.steps)
            self._seconds = _FORGET * self._seconds + seconds

    def seconds(self, jobs: Iterable[JobRecord]) -> float | None:
        """That these jobs take, once any has been learned from."""
        work = sum(map(self._of, jobs))
        return self._seconds / self._work * work if self._work else None

    @property
    def per_pixel(self) -> list[float] | None:
        """Seconds for an input pixel at 0, 1, 2 … `MOST_STEPS` steps, once any job has been learned from."""
        with self._lock:
            each = self._seconds / self._work if self._work else None
        return None if each is None else [each * self._rounds(steps) for steps in range(MOST_STEPS + 1)]

    def _of(self, job: JobRecord) -> float:
        """With edits, the last one: what it is an edit of is taken from memory."""
        steps = job.options.upscaling.steps
        if not job.edits:
            return self._pixels(job) * self._rounds(steps)
        edit, pixels = job.edits[-1], self._pixels(job)
        if edit.bounds:
            scale = job.out_size[0] / job.width
            x0, y0, x1, y1 = edit.bounds
            reach = self._config.window  # as far again go the windows that see a place
            pixels = min(pixels, ((x1 - x0) / scale + reach) * ((y1 - y0) / scale + reach))
        return pixels * edit.sampling.candidates * (self._rounds(steps) - self._rounds(0))

    def _pixels(self, job: JobRecord) -> int:
        return max(job.width, self._config.window) * max(job.height, self._config.window)

    def _rounds(self, steps: int | None) -> float:
        """As measured with `small`: the base image, then the tokens, then steps that look again at some of them."""
        steps = self._config.num_steps if steps is None else steps
        return 0.4 + (0.9 + 0.6 * steps if steps else 0.0)
