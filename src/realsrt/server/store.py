"""Jobs on disk: a table in SQLite, and a folder of files for each. Whatever is acknowledged survives a crash."""

import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from realsrt.errors import RealSRTError
from realsrt.io.atomic import lock
from realsrt.server.options import JobOptions, Regeneration
from realsrt.server.records import FINAL, JobRecord

MOST_ATTEMPTS = 5  # a job that was being computed when the service died so often is taken for the reason
_COLUMNS = [field.name for field in fields(JobRecord)]
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, {", ".join(_COLUMNS)}, alike TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS by_id ON jobs (id);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, number);
"""


class QueueFull(RealSRTError):
    """No further job can wait."""


class JobStore:
    """The jobs below a folder. For several threads; one process at a time has the folder."""

    def __init__(self, root: Path) -> None:
        """Raises RealSRTError if the folder cannot be used."""
        self.root, self._lock = root, threading.RLock()
        try:
            self.incoming.mkdir(parents=True, exist_ok=True)
            (root / "jobs").mkdir(exist_ok=True)
            self._alone = _only_one(root / "lock")
            self._db = sqlite3.connect(root / "jobs.sqlite3", isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise RealSRTError(f"{root}: jobs cannot be kept here: {reason}; choose another --data") from error

    @property
    def incoming(self) -> Path:
        """Where uploads are written before they are jobs."""
        return self.root / "incoming"

    def folder(self, id: str) -> Path:
        return self.root / "jobs" / id

    def input(self, id: str) -> Path:
        return self.folder(id) / "input"

    def result(self, record: JobRecord) -> Path:
        return self.folder(record.id) / f"result{record.suffix}"

    def confidence(self, id: str) -> Path:
        return self.folder(id) / "result_confidence.png"

    def close(self) -> None:
        with self._lock:
            self._db.close()
            self._alone.close()

    def add(self, record: JobRecord, upload: Path, *, limit: int, link: bool = False) -> None:
        """Keep a new job; `upload` becomes its input (is left in place if `link`). Raises QueueFull at `limit` jobs."""
        folder = self.folder(record.id)
        folder.mkdir()
        try:
            if link:
                _link(upload, folder / "input")
            else:
                os.replace(upload, folder / "input")
            with self._transaction() as db:
                if self.count("queued") >= limit:
                    raise QueueFull(f"{limit} jobs are waiting already; try again later")
                row = _row(record)
                marks = ", ".join("?" * len(row))
                db.execute(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def get(self, id: str) -> JobRecord | None:
        with self._lock:
            row = self._db.execute("SELECT * FROM jobs WHERE id = ?", [id]).fetchone()
        return None if row is None else _record(row)

    def count(self, state: str, owner: str | None = None) -> int:
        """Jobs in a state, of all or of one owner."""
        query = "SELECT count(*) FROM jobs WHERE state = ?" + ("" if owner is None else " AND owner = ?")
        with self._lock:
            return self._db.execute(query, [state] if owner is None else [state, owner]).fetchone()[0]

    def ahead(self, id: str | None = None) -> list[JobRecord]:
        """Jobs that come before this one (before a new one, if None): running and waiting."""
        before = "" if id is None else " AND number < (SELECT number FROM jobs WHERE id = ?)"
        query = f"SELECT * FROM jobs WHERE state IN ('queued', 'running'){before} ORDER BY number"
        with self._lock:
            return [_record(row) for row in self._db.execute(query, [] if id is None else [id])]

    def take(self, most: int = 1) -> list[JobRecord]:
        """The job that has waited longest, and up to `most` in all that ask for just the same; they are running now."""
        with self._transaction() as db:
            first = db.execute("SELECT * FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1").fetchone()
            if first is None:
                return []
            query = "SELECT * FROM jobs WHERE state = 'queued' AND alike = ? ORDER BY number LIMIT ?"
            rows = db.execute(query, [first["alike"], most]).fetchall() if first["alike"] and most > 1 else [first]
            for row in rows:
                query = "UPDATE jobs SET state = 'running', started = ?, attempts = attempts + 1 WHERE id = ?"
                db.execute(query, [time.time(), row["id"]])
        return [record for row in rows if (record := self.get(row["id"]))]

    def end(self, id: str, state: str, keep: float, *, of: tuple[str, ...] = ("running",), **facts: Any) -> bool:
        """A job has come to its end; whether it was still in one of the states `of`. `keep`: hours that files stay."""
        now = time.time()
        values = {"state": state, "finished": now, "expires": now + keep * 3600, **facts}
        sets = ", ".join(f"{name} = ?" for name in values)
        query = f"UPDATE jobs SET {sets} WHERE id = ? AND state IN ({', '.join('?' * len(of))})"
        with self._transaction() as db:
            return db.execute(query, [*values.values(), id, *of]).rowcount == 1

    def requeue(self, id: str) -> None:
        """A job that was begun goes back to its place in the queue, as if it had not been."""
        with self._transaction() as db:
            query = "UPDATE jobs SET state = 'queued', started = NULL, attempts = attempts - 1"
            db.execute(f"{query} WHERE id = ? AND state = 'running'", [id])

    def recover(self, keep: float) -> tuple[int, int]:
        """After a start: what was running waits again, and files of no job go. How many wait, and how many of them had
        been begun."""
        with self._lock:
            rows = self._db.execute("SELECT id, attempts FROM jobs WHERE state = 'running'").fetchall()
            for row in rows:
                if row["attempts"] >= MOST_ATTEMPTS:
                    reason = f"the service ended {MOST_ATTEMPTS} times while computing this; a smaller picture may do"
                    self.end(row["id"], "failed", keep, error=reason)
                else:
                    self._db.execute("UPDATE jobs SET state = 'queued', started = NULL WHERE id = ?", [row["id"]])
            known = {row[0] for row in self._db.execute("SELECT id FROM jobs WHERE state IN ('queued', 'done')")}
        for folder in (self.root / "jobs").iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
        for left in self.incoming.iterdir():
            left.unlink(missing_ok=True)
        return self.count("queued"), len(rows)

    def expire(self, keep: float) -> int:
        """Remove files whose time is up, and forget a job after the same time again; how many results went."""
        now = time.time()
        ended = ", ".join(f"'{state}'" for state in FINAL)
        with self._lock:
            old = [row[0] for row in self._db.execute("SELECT id FROM jobs WHERE state='done' AND expires < ?", [now])]
            for id in old:
                self.expire_one(id)
            self._db.execute(f"DELETE FROM jobs WHERE state IN ({ended}) AND expires < ?", [now - keep * 3600])
        return len(old)

    def expire_one(self, id: str) -> None:
        """The files of a finished job go."""
        with self._lock:
            self._db.execute("UPDATE jobs SET state = 'expired' WHERE id = ? AND state = 'done'", [id])
        self.drop_files(id)

    def drop_files(self, id: str) -> None:
        shutil.rmtree(self.folder(id), ignore_errors=True)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def _row(record: JobRecord) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(record, name) for name in _COLUMNS}
    row["options"] = record.options.model_dump_json(exclude_defaults=True)
    row["edits"] = json.dumps([edit.model_dump() for edit in record.edits])
    row["notices"] = json.dumps(record.notices)
    row["alike"] = None if record.edits else json.dumps(record.options.upscaling.pixel_options(), sort_keys=True)
    return row


def _record(row: sqlite3.Row) -> JobRecord:
    values = {name: row[name] for name in _COLUMNS}
    values["options"] = JobOptions.model_validate_json(row["options"])
    values["edits"] = tuple(Regeneration.model_validate(edit) for edit in json.loads(row["edits"]))
    values["notices"] = tuple(json.loads(row["notices"]))
    return JobRecord(**values)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _only_one(path: Path) -> Any:
    """An open, locked file. Raises RealSRTError if another process holds it."""
    file = path.open("ab")
    if lock(file.fileno()) is False:
        file.close()
        raise RealSRTError(f"{path.parent}: another service is at work here; give each its own --data")
    return file
