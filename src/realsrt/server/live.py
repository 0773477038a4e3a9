"""What changes while a job is computed, from the worker's thread to whoever listens. Nothing of it is kept on disk."""

import base64
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Preview:
    """Of the job `id`, the picture after a step of `steps`, as a small JPEG; `confidence`: its mean."""

    id: str
    step: int
    steps: int
    jpeg: bytes
    confidence: float | None

    def said(self) -> dict[str, object]:
        image = "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()
        return {"step": self.step, "of": self.steps, "confidence": self.confidence, "image": image}


class Live:
    """Progress and previews of running jobs, and who wants to know. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: dict[str, tuple[float, float]] = {}  # share done, seconds it took
        self._previews: dict[str, list[Preview]] = defaultdict(list)
        self._listeners: dict[str, list[Callable[[], None]]] = defaultdict(list)

    def progress(self, id: str) -> tuple[float, float]:
        """Share done, 0 to 1, and the seconds that it took."""
        with self._lock:
            return self._progress.get(id, (0.0, 0.0))

    def previews(self, id: str) -> list[Preview]:
        with self._lock:
            return list(self._previews.get(id, ()))

    def listened(self, id: str) -> bool:
        with self._lock:
            return bool(self._listeners.get(id))

    @contextmanager
    def listening(self, id: str, call: Callable[[], None]) -> Iterator[None]:
        """Inside, `call` is called, in the worker's thread, whenever something about the job may have changed."""
        with self._lock:
            self._listeners[id].append(call)
        try:
            yield
        finally:
            with self._lock:
                self._listeners[id].remove(call)
                if not self._listeners[id]:
                    del self._listeners[id]

    def changed(self, id: str) -> None:
        with self._lock:
            calls = list(self._listeners.get(id, ()))
        for call in calls:
            call()

    def wake_all(self) -> None:
        with self._lock:
            ids = list(self._listeners)
        for id in ids:
            self.changed(id)

    def follow(self, id: str) -> Callable[[float], None]:
        """A job begins; returns a function to be told the share done."""
        started = time.monotonic()

        def tell(share: float) -> None:
            with self._lock:
                self._progress[id] = (share, time.monotonic() - started)
            self.changed(id)

        tell(0.0)
        return tell

    def add_preview(self, preview: Preview) -> None:
        with self._lock:
            self._previews[preview.id].append(preview)
        self.changed(preview.id)

    def forget(self, id: str) -> None:
        """A job has ended. Who listens may still fetch its previews; who comes later finds none."""
        with self._lock:
            self._progress.pop(id, None)
            if not self._listeners.get(id):
                self._previews.pop(id, None)
            for other in list(self._previews):
                if other != id and other not in self._listeners and other not in self._progress:
                    del self._previews[other]
        self.changed(id)
