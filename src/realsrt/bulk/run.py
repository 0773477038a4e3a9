"""A run: planned here, carried out by Ray Data's streaming executor, its outcomes gathered here."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from realsrt.bulk import stages
from realsrt.bulk.cluster import Share
from realsrt.bulk.results import BulkRecord
from realsrt.bulk.sources import Item
from realsrt.bulk.work import BulkRun
from realsrt.errors import RealSRTError

_BLOCKS = 10_000
_WAIT = 0.2  # s between looks at signals


@dataclass
class Tally:
    """How far a run is, in images."""

    total: int
    started: float = field(default_factory=time.monotonic)
    counts: dict[str, int] = field(default_factory=lambda: {"done": 0, "skipped": 0, "failed": 0})
    first: float | None = None

    @property
    def settled(self) -> int:
        return sum(self.counts.values())

    def add(self, outcome: BulkRecord) -> None:
        self.counts[outcome.status] += 1
        if self.first is None and outcome.status == "done":
            self.first = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Images made a second, since the start."""
        return self.counts["done"] / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """By the rate since the first image was made; None if unknown."""
        if self.first is None or self.counts["done"] < 2:
            return None
        rate = (self.counts["done"] - 1) / max(time.monotonic() - self.first, 1e-9)
        return (self.total - self.settled) / rate


def run(
    ray: Any, items: list[Item], work: BulkRun, share: Share, stop: Callable[[], bool]
) -> Iterator[BulkRecord | None]:
    """The outcome of each item as it comes, None now and then in between; ends early if `stop()`. Raises RealSRTError
    if the workers cannot work."""
    rows: queue.Queue[BulkRecord | BaseException | None] = queue.Queue(1000)
    dataset = _dataset(ray, items, work, share)

    def gather() -> None:
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in stages.from_table(batch):
                    rows.put(row.outcome)
            rows.put(None)
        except BaseException as problem:
            rows.put(problem)

    threading.Thread(target=gather, daemon=True, name="outcomes").start()
    while not stop():
        try:
            found = rows.get(timeout=_WAIT)
        except queue.Empty:
            yield None
            continue
        if found is None:
            return
        if isinstance(found, BaseException):
            raise RealSRTError(f"the workers cannot go on: {_reason(found)}") from found
        yield found


def _dataset(ray: Any, items: list[Item], work: BulkRun, share: Share) -> Any:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # each row is a block of its own: so many come again when a task is run again
    context.execution_options.preserve_order = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    size = max(min(8, -(-len(items) // (4 * share.actors))), -(-len(items) // _BLOCKS), 1)
    blocks = stages.items_to_blocks(items, size)
    dataset = ray.data.from_blocks(blocks) if hasattr(ray.data, "from_blocks") else ray.data.from_arrow(blocks)
    keep = {"batch_format": "pyarrow", "zero_copy_batch": True}
    read = dataset.map_batches(stages.read, batch_size=None, fn_kwargs={"work": work}, num_cpus=share.task_cpus, **keep)
    computed = read.map_batches(
        stages.Compute, batch_size=share.batch, fn_constructor_kwargs={"work": work},
        compute=ray.data.ActorPoolStrategy(size=share.actors, max_tasks_in_flight_per_actor=2),
        num_cpus=share.actor_cpus, num_gpus=share.actor_gpus or None, **keep,
    )  # fmt: skip
    return computed.map_batches(
        stages.write, batch_size=None, fn_kwargs={"work": work}, num_cpus=share.task_cpus, **keep
    )


def _reason(problem: BaseException) -> str:
    """The innermost cause, in one line."""
    inner: BaseException | None = problem
    while inner is not None:
        problem, inner = inner, getattr(inner, "cause", None) or inner.__cause__
        if inner is problem:
            break
    lines = [line for line in str(problem).strip().splitlines() if line.strip()]
    return (lines or [type(problem).__name__])[-1].strip()
