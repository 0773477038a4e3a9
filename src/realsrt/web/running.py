"""Running work in a thread while the page is told how it goes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Put = Callable[[Any], None]
_END = object()


@dataclass(frozen=True)
class Progress:
    """Of a job: windows times steps done of all (0: not known), seconds left if known, and what it is about."""

    done: int
    total: int
    left: float | None = None
    what: str = ""


@dataclass(frozen=True)
class _Failed:
    problem: BaseException


def waiting(put: Put) -> Callable[[int], None]:
    """For `Engine.job`: tells how many jobs come before."""
    return lambda ahead: put(Progress(0, 0, what=f"waiting for the model, {ahead} before this one"))


def watched(work: Callable[[Put], None], stop: threading.Event) -> Iterator[Any]:
    """What `work(put)` puts, as it comes; of progress that piled up, the last. Raises what work raises.

    Closing the iterator sets `stop` and waits until the work has ended.
    """
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run() -> None:
        try:
            work(inbox.put)
        except BaseException as problem:
            inbox.put(_Failed(problem))
        inbox.put(_END)

    thread = threading.Thread(target=run, name="job", daemon=True)
    thread.start()
    item = None
    try:
        item = inbox.get()
        while item is not _END:
            following = inbox.get() if isinstance(item, Progress) and not inbox.empty() else None
            if isinstance(item, _Failed):
                raise item.problem
            if not (isinstance(item, Progress) and isinstance(following, Progress)):
                yield item
            item = inbox.get() if following is None else following
    finally:
        if thread.is_alive() and item is not _END:
            stop.set()
        thread.join()
