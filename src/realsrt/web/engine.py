"""The models behind the page: one job at a time, in the order they were asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from realsrt.batch.report import about
from realsrt.errors import RealSRTError, UsageError
from realsrt.web.session import PLACES

if TYPE_CHECKING:
    from realsrt.config import ModelConfig
    from realsrt.inference.upscaler import Upscaler
    from realsrt.web.choices import Choices

Tell = Callable[[int, int, float | None], None]


class Cancelled(RealSRTError):
    """The person asked to stop, or the server is to end."""

    def __init__(self, why: str = "cancelled") -> None:
        super().__init__(why)


class Engine:
    """Models by name (of a file's path the last part), and the time they take.

    Jobs are kept apart, as an Upscaler is not for several threads. Once `closing` is set, all of them end.
    """

    def __init__(self, model: str = "small", *, device: str = "auto", precision: str = "auto", max_pixels: int) -> None:
        """Loads the model. Raises CheckpointError, UsageError."""
        from realsrt.checkpoint import embedded

        self.device, self.precision, self.max_pixels = device, precision, max_pixels
        self._sources = {Path(name).name if Path(name).suffix else name: name for name in (model, *embedded())}
        self.names = tuple(self._sources)
        self.closing = threading.Event()
        self._turn = threading.Condition()
        self._jobs: list[object] = []  # the first one has the model, the others wait
        self._loaded: dict[str, Upscaler] = {}
        self._seconds: float | None = None  # a window and step took, the last time
        self.upscaler(self.names[0])

    def upscaler(self, name: str) -> Upscaler:
        """The model of this name, one of `names`, loaded when first asked for. Raises UsageError."""
        from realsrt.inference.upscaler import Upscaler

        if name not in self._sources:
            raise UsageError(f"no model '{name}'; there are {', '.join(self.names)}")
        if name not in self._loaded:
            source = self._sources[name]
            self._loaded[name] = Upscaler.from_pretrained(source, device=self.device, precision=self.precision)
        return self._loaded[name]

    def config(self, name: str) -> ModelConfig:
        """A model's configuration."""
        return self.upscaler(name).model.config

    @property
    def busy(self) -> bool:
        """Whether a job has the model, or waits for it."""
        return bool(self._jobs)

    @contextmanager
    def job(self, stop: threading.Event, waiting: Callable[[int], None] = lambda ahead: None) -> Iterator[None]:
        """The model for oneself, when those before are done; `waiting` is told how many they are, once a second at
        least, so that one who left is noticed. Raises Cancelled."""
        ticket, told, when = object(), -1, 0.0
        with self._turn:
            self._jobs.append(ticket)
        try:
            with self._turn:
                while ahead := self._jobs.index(ticket):
                    self._check(stop)
                    if ahead != told or time.monotonic() - when > 1:
                        told, when = ahead, time.monotonic()
                        waiting(ahead)
                    self._turn.wait(0.1)
            self._check(stop)
            yield
        finally:
            with self._turn:
                self._jobs.remove(ticket)
                self._turn.notify_all()

    def _check(self, stop: threading.Event) -> None:
        if self.closing.is_set():
            raise Cancelled("the server has ended")
        if stop.is_set():
            raise Cancelled

    def windows(self, width: int, height: int, choices: Choices) -> int:
        """Windows times steps of a picture; what is wrong with the options, the pipeline says."""
        from realsrt.imaging import tiling

        config = self.config(choices.model)
        stride = choices.stride or config.stride
        steps = config.num_steps if choices.steps is None else choices.steps
        return len(tiling.plan(height, width, config.window, min(stride, config.window))) * steps

    def estimate(self, windows: int) -> float | None:
        """Seconds that so many windows will take, once something was measured."""
        return None if self._seconds is None else self._seconds * windows

    def watch(self, stop: threading.Event, tell: Tell) -> Callable[[int, int], None]:
        """For `on_progress`: tells (done, total, seconds left) a few times a second, and raises Cancelled at a stop."""
        started = last = time.monotonic()

        def on_progress(done: int, total: int) -> None:
            nonlocal last
            if done < total:
                self._check(stop)
            now = time.monotonic()
            if done:
                self._seconds = (now - started) / done
            if done in (0, total) or now - last > 0.25:
                last = now
                tell(done, total, self.estimate(total - done))

        return on_progress


def plainly(problem: BaseException, source: Path | None) -> str:
    """One line for the page: the file by its name only, never by its place on this machine."""
    text = about("" if source is None or not isinstance(problem, OSError) else source.name, problem)
    if source is None or isinstance(problem, (UsageError, Cancelled)):
        return text
    text = named(text, source).partition("; if you trust the file, raise")[0]
    return text if source.stem in text else f"{source.name}: {text}"


def named(text: str, *paths: Path) -> str:
    """With these files, and all of sessions, by their names only."""
    for path in paths:
        text = text.replace(str(path), path.name)
    return PLACES.sub("", text)
