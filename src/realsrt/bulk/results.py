"""What became of each image, as a row of the results' Parquet file."""

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from realsrt.batch.report import Record
from realsrt.bulk.store import OutputStore

RESULTS = "results.parquet"


@dataclass(frozen=True)
class BulkRecord(Record):
    """An image's record by its `key`; `tries`: how often it was begun; hashes are SHA-256."""

    key: str = ""
    input_sha256: str | None = None
    output_sha256: str | None = None
    tries: int | None = None


def bulk_record(told: dict[str, Any]) -> BulkRecord:
    """From what `asdict` and JSON made of one."""
    known = {field.name for field in fields(BulkRecord)}
    given: dict[str, Any] = {key: value for key, value in told.items() if key in known}
    return BulkRecord(**{**given, "notices": tuple(given.get("notices", ()))})


def write_results(store: OutputStore, outcomes: Iterable[BulkRecord]) -> str:
    """One row an image in order of keys, whole or not at all; returns where. Raises OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, count, real = pa.string(), pa.int64(), pa.float64()
    schema = pa.schema(
        [
            ("key", text), ("source", text), ("target", text), ("status", text), ("reason", text), ("width", count),
            ("height", count), ("out_width", count), ("out_height", count), ("seconds", real), ("confidence", real),
            ("steps", real), ("way", text), ("denoise", real), ("share", real), ("tries", count),
            ("input_sha256", text), ("output_sha256", text), ("model", text), ("model_sha256", text),
            ("notices", pa.list_(text)),
        ]
    )  # fmt: skip
    rows = [asdict(outcome) for outcome in sorted(outcomes, key=lambda outcome: outcome.key)]
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([_text(row) for row in rows], schema), content)
    store.put(RESULTS, content.getvalue())
    return f"{store.shown}/{RESULTS}"


def _text(row: dict[str, Any]) -> dict[str, Any]:
    """Bytes of file names that are no text are escaped, as Parquet's strings are UTF-8."""
    clean = {key: _clean(value) if isinstance(value, str) else value for key, value in row.items()}
    return {**clean, "notices": [_clean(notice) for notice in row["notices"]]}


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
