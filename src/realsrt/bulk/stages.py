"""The three stages as Ray Data runs them: rows of (key, info, payload), one row a block.

Each stage gives as many rows as it takes, also when it is run again after a worker's death; a row that is settled
(`outcome`) passes through the rest.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from realsrt.batch.outputs import Finished
from realsrt.batch.process import upscale_rows
from realsrt.bulk import work as ends
from realsrt.bulk.packing import pack, unpack
from realsrt.bulk.results import BulkRecord, bulk_record
from realsrt.bulk.sources import Item
from realsrt.bulk.state import read_state
from realsrt.bulk.work import BulkRun


@dataclass(frozen=True)
class BulkRow:
    """An image on its way. `payload`: see `packing`; empty if settled, or if its actor has to read it itself."""

    item: Item
    digest: str = ""
    seconds: float = 0.0
    tries: int = 0
    why: str | None = None
    outcome: BulkRecord | None = None
    payload: bytes = b""

    def settled(self, outcome: BulkRecord) -> "BulkRow":
        again = self.why if outcome.status == "done" and self.why else outcome.reason
        return replace(self, outcome=replace(outcome, reason=again), payload=b"")


def to_table(row: BulkRow) -> Any:
    """A block of one row."""
    import pyarrow as pa

    info = json.dumps(asdict(replace(row, payload=b"")), default=lambda _: None)
    return pa.table({"info": pa.array([info]), "payload": pa.array([row.payload], pa.large_binary())})


def from_table(table: Any) -> Iterator[BulkRow]:
    for info, payload in zip(table["info"].to_pylist(), table["payload"].to_pylist(), strict=True):
        told = json.loads(info)
        outcome = None if told["outcome"] is None else bulk_record(told["outcome"])
        yield BulkRow(**{**told, "item": Item(**told["item"]), "outcome": outcome, "payload": payload})


def read(table: Any, work: BulkRun) -> Iterator[Any]:
    """Stage 1, a task: hash and decode what is not there yet."""
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    for row in from_table(table):
        yield to_table(_read(row, work))


def _read(row: BulkRow, work: BulkRun) -> BulkRow:
    item, digest, path = row.item, "", None
    started = time.perf_counter()
    try:
        with ends.fetched(item) as (path, digest):
            state = read_state(work.store, item.key)
            past = work.past(item, state, digest)
            if isinstance(past, BulkRecord):
                return row.settled(past)
            remade = state.status == "done" and state.run != work.run
            row = replace(row, digest=digest, why=f"made again: {past}" if remade else None)
            with ends.reading(work, item, digest, state):
                if ends.is_large(work, path):
                    return row
                payload = pack(ends.read_item(work, item, path))
            return replace(row, payload=payload, seconds=time.perf_counter() - started)
    except Exception as problem:
        return row.settled(work.failure(item, problem, digest, path))


class Compute:
    """Stage 2, an actor: holds the model."""

    def __init__(self, work: BulkRun) -> None:
        import torch

        torch.set_num_threads(work.threads)
        from realsrt.inference.upscaler import Upscaler
        from realsrt.nn.device import keep_freed_memory

        keep_freed_memory()

        self._work = work
        self._up = Upscaler.from_pretrained(work.weights, device=work.device, precision=work.precision)
        self._pool = ThreadPoolExecutor(16)

    def __call__(self, table: Any) -> Iterator[Any]:
        """First all that were never begun, together; then each of those that may have killed a worker, alone."""
        together: list[BulkRow] = []
        alone: list[BulkRow] = []
        rows = list(from_table(table))
        waiting = [row for row in rows if row.outcome is None]
        yield from (to_table(row) for row in rows if row.outcome is not None)
        for row in self._pool.map(self._check, waiting):
            if row.outcome is not None:
                yield to_table(row)
            else:
                (alone if row.tries or not row.payload else together).append(row)
        for group in ([together] if together else []) + [[row] for row in alone]:
            yield from (to_table(row) for row in self._compute(group))

    def _check(self, row: BulkRow) -> BulkRow:
        """How often it was begun; settled if too often, or if a worker has died only after it was done."""
        work = self._work
        try:
            state = read_state(work.store, row.item.key)
            if state.status == "done" and state.run == work.run:
                past = work.past(row.item, state, row.digest)
                if isinstance(past, BulkRecord):
                    return row.settled(past)
            tries = ends.tries_before(work, state, row.digest)
        except Exception as problem:
            return row.settled(work.failure(row.item, problem, row.digest))
        if tries >= work.max_tries:
            reason = (
                f"{row.item.shown}: whatever computed it died, {tries} times (out of memory?); "
                "a higher --max-tries tries it again"
            )
            return row.settled(work.outcome(row.item, "failed", reason, input_sha256=row.digest, tries=tries))
        return replace(row, tries=tries)

    def _compute(self, rows: list[BulkRow]) -> Iterator[BulkRow]:
        work = self._work
        rows = [replace(row, tries=row.tries + 1) for row in rows]
        try:
            list(self._pool.map(lambda row: ends.begin_computing(work, row.item, row.digest, row.tries), rows))
        except Exception as problem:
            yield from (row.settled(work.failure(row.item, problem, row.digest)) for row in rows)
            return
        if not rows[0].payload:
            yield self._whole(rows[0])
            return
        images = [unpack(row.payload)[0] for row in rows]
        started = time.perf_counter()
        results = self._up.upscale_many(images, work.options, return_errors=True)
        for row, image, out in zip(rows, images, results, strict=True):
            seconds, started = time.perf_counter() - started, time.perf_counter()
            if isinstance(out, Exception):
                yield row.settled(work.failure(row.item, out, row.digest))
                continue
            made = Finished(None, out.confidence, out.window_steps, out.restored)
            payload = pack(out.image, made, (image.width, image.height))
            yield replace(row, payload=payload, seconds=row.seconds + seconds)

    def _whole(self, row: BulkRow) -> BulkRow:
        """A large image: read, computed row by row and written here, as `realsrt upscale` does."""
        work, item, path = self._work, row.item, None
        started = time.perf_counter()
        try:
            with ends.fetched(item) as (path, digest), work.store.scratch() as folder:
                image = ends.read_item(work, item, path)
                out, store = upscale_rows(self._up, image, work.options, folder / "rows")
                try:
                    size, took = (image.width, image.height), time.perf_counter() - started
                    return row.settled(ends.put_in_place(work, item, digest, size, out, row.tries, took))
                finally:
                    store.close()
        except Exception as problem:
            return row.settled(work.failure(item, problem, row.digest, path))


def write(table: Any, work: BulkRun) -> Iterator[Any]:
    """Stage 3, a task: encode, and put in place."""
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    for row in from_table(table):
        yield to_table(row if row.outcome is not None else _write(row, work))


def _write(row: BulkRow, work: BulkRun) -> BulkRow:
    try:
        state = read_state(work.store, row.item.key)
        if state.status == "done" and state.run == work.run:  # this task is run again
            past = work.past(row.item, state, row.digest)
            if isinstance(past, BulkRecord):
                return row.settled(past)
        image, made, size = unpack(row.payload)
        made = replace(made, image=image)
        return row.settled(ends.put_in_place(work, row.item, row.digest, size, made, row.tries, row.seconds))
    except Exception as problem:
        return row.settled(work.failure(row.item, problem, row.digest))


def items_to_blocks(items: Iterable[Item], size: int) -> list[Any]:
    """Tables of up to `size` rows."""
    import pyarrow as pa

    tables = [to_table(BulkRow(item)) for item in items]
    return [pa.concat_tables(tables[start : start + size]).combine_chunks() for start in range(0, len(tables), size)]
