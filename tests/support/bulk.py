"""A run's stages one after another in this process, and what the tests compare."""

import time
from pathlib import Path

from realsrt.batch.outputs import Files
from realsrt.bulk import stages
from realsrt.bulk.plan import checked_model, settings_on
from realsrt.bulk.results import BulkRecord
from realsrt.bulk.sources import plan_items
from realsrt.bulk.store import HOUSEKEEPING, OutputStore
from realsrt.bulk.work import BulkRun
from realsrt.inference.options import UpscaleOptions

QUICK = {"steps": 1, "stride": 32}
QUICK_FLAGS = ["--steps", "1", "--stride", "32"]


def work_for(output, tiny, *, options=None, max_tries=3, precision="auto", **files):
    options = UpscaleOptions(**QUICK | (options or {}))
    info, files = checked_model(str(tiny), options, precision), Files(**{"max_pixels": 10**8, **files})
    return BulkRun(
        output=str(output), options=options, files=files, weights=str(tiny), model=info.source,
        settings=settings_on("cpu", precision, info.sha256, options, files), model_sha256=info.sha256, device="cpu",
        precision=precision, threads=2, max_tries=max_tries,
    )  # fmt: skip


def plan(source, output, **more):
    return plan_items(str(source), OutputStore(str(output)), **more)


def read_all(items, work):
    return [table for block in stages.items_to_blocks(items, 3) for table in stages.read(block, work)]


def rows(tables):
    return [row for table in tables for row in stages.from_table(table)]


def joined(tables):
    import pyarrow as pa

    return pa.concat_tables(tables)


def run_here(items, work) -> dict[str, BulkRecord]:
    """All three stages, without Ray; the outcomes by key."""
    computed = stages.Compute(work)(joined(read_all(items, work)))
    written = [table for block in computed for table in stages.write(block, work)]
    return {row.item.key: row.outcome for row in rows(written)}


def content(folder):
    """The pictures in a folder, without what runs keep for themselves."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
        and HOUSEKEEPING not in path.parts
        and not path.name.startswith(".")
        and path.suffix != ".parquet"
    }


def wait_for(what, seconds=60.0):
    """Until `what()` gives something true, which is returned."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.01)
    raise AssertionError("it never came")
