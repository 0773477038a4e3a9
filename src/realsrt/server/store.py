"""Jobs on disk: a table in SQLite, and a folder of files for each. Whatever is acknowledged survives a crash."""

import contextlib
import json
import logging
import os
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from realsrt.errors import RealSRTError, why
from realsrt.io.atomic import lock, rename, write_whole
from realsrt.server.logs import say
from realsrt.server.options import JobOptions, Regeneration
from realsrt.server.records import FINAL, JobRecord

MOST_ATTEMPTS = 5  # a job that was being computed when the service died so often is taken for the reason
_JUMP = 60.0  # seconds that the clock may go wrong by, or be corrected by, and nothing is said
RESERVE = 32_000_000  # bytes: with less free, the disk counts as full
_COLUMNS = [field.name for field in fields(JobRecord)]
# What turns a database of version n (PRAGMA user_version) into one of version n+1: columns of a new field of JobRecord
# are a further entry, as "ALTER TABLE jobs ADD COLUMN ... DEFAULT ...".
_MIGRATIONS = (
    """
    CREATE TABLE IF NOT EXISTS jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id, owner, name, state, options, suffix, width, height, created,
        edits, parent, started, finished, expires, seconds, confidence, error, notices, attempts, alike TEXT
    );
    CREATE UNIQUE INDEX IF NOT EXISTS by_id ON jobs (id);
    CREATE INDEX IF NOT EXISTS by_state ON jobs (state, number);
    """,
    "CREATE INDEX by_owner ON jobs (owner, number);",
)
_ID = re.compile(r"[0-9a-f]{24}")  # names of what may be removed
_OURS = {"jobs", "incoming", "lock", "lost+found", "visitors.key"} | {
    f"jobs.sqlite3{ending}" for ending in ("", "-wal", "-shm")
}


class QueueFull(RealSRTError):
    """No further job can wait."""


class JobStore:
    """The jobs below a folder. For several threads; one process at a time has the folder."""

    def __init__(self, root: Path) -> None:
        """Raises RealSRTError if the folder cannot be used."""
        self.root, self._lock = root, threading.RLock()
        self._clock = time.time() - time.monotonic()
        try:
            _refuse_foreign(root)
            for folder in (root, self.incoming, root / "jobs"):
                folder.mkdir(0o700, parents=True, exist_ok=True)
            self.incoming.chmod(0o700)  # of an earlier version: open to all
            (root / "jobs").chmod(0o700)
            self._alone = _only_one(root / "lock")
            self._db = self._connect()
        except (OSError, sqlite3.Error) as error:
            reason = why(error)
            raise RealSRTError(f"{root}: jobs cannot be kept here: {reason}; choose another --data") from error

    def _connect(self) -> sqlite3.Connection:
        path = self.root / "jobs.sqlite3"
        path.touch(0o600)
        path.chmod(0o600)
        self._known_as = _identity(path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA secure_delete=ON")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(_MIGRATIONS):
            raise RealSRTError(f"{path}: is of a newer version of realsrt (format {version}); update realsrt")
        for number, script in enumerate(_MIGRATIONS[version:], version + 1):
            db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
        return db

    def _restore(self) -> None:
        """If somebody removed or replaced the database's file: write it again, as it is known here."""
        path = self.root / "jobs.sqlite3"
        if _identity(path) == self._known_as:
            return
        say("database.lost", logging.ERROR, detail=f"{path} was removed or replaced; it is written again")
        new = path.with_name("jobs.sqlite3-new")
        new.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(new)) as copy:
            self._db.backup(copy)
        self._db.close()
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        os.replace(new, path)
        self._db = self._connect()

    @property
    def full(self) -> bool:
        """Whether there is too little room on the disk to begin anything."""
        return shutil.disk_usage(self.root).free < RESERVE

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
        folder.mkdir(0o700, parents=True)
        try:
            row = _row(record)
            if link:
                _link(upload, folder / "input")
            else:
                rename(upload, folder / "input")
            write_whole(folder / "job.json", json.dumps(row).encode())  # should the database be lost
            with self._transaction():
                if self.count("queued") >= limit:
                    raise QueueFull(f"{limit} jobs are waiting already; try again later")
                self._insert(row)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _insert(self, row: Mapping[str, Any]) -> None:
        marks = ", ".join("?" * len(row))
        self._db.execute(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({marks})", list(row.values()))

    def get(self, id: str) -> JobRecord | None:
        with self._lock:
            row = self._db.execute("SELECT * FROM jobs WHERE id = ?", [id]).fetchone()
        return None if row is None else _record(row)

    def of_owner(self, owner: str, limit: int, before: str | None = None) -> list[JobRecord]:
        """Jobs of an owner, newest first; those older than job `before`."""
        older = "" if before is None else " AND number < (SELECT number FROM jobs WHERE id = ?)"
        query = f"SELECT * FROM jobs WHERE owner = ?{older} ORDER BY number DESC LIMIT ?"
        with self._lock:
            rows = self._db.execute(query, [value for value in (owner, before, limit) if value is not None])
            return [_record(row) for row in rows]

    def count(self, state: str, owner: str | None = None) -> int:
        """Jobs in a state, of all or of one owner."""
        query = "SELECT count(*) FROM jobs WHERE state = ?" + ("" if owner is None else " AND owner = ?")
        with self._lock:
            return self._db.execute(query, [state] if owner is None else [state, owner]).fetchone()[0]

    def ahead(self, id: str | None = None, most: int = -1) -> list[JobRecord]:
        """Jobs that come before this one (before a new one, if None): running and waiting; the first `most`."""
        before = "" if id is None else " AND number < (SELECT number FROM jobs WHERE id = ?)"
        query = f"SELECT * FROM jobs WHERE state IN ('queued', 'running'){before} ORDER BY number LIMIT ?"
        with self._lock:
            return [_record(row) for row in self._db.execute(query, [most] if id is None else [id, most])]

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
        self._follow_clock()
        now = time.time()
        values = {"state": state, "finished": now, "expires": now + keep * 3600, **facts}
        sets = ", ".join(f"{name} = ?" for name in values)
        query = f"UPDATE jobs SET {sets} WHERE id = ? AND state IN ({', '.join('?' * len(of))})"
        with self._transaction() as db:
            return db.execute(query, [*values.values(), id, *of]).rowcount == 1

    def requeue(self, id: str, *, begun: bool = False) -> None:
        """A job that was begun goes back to its place in the queue, unless `begun` as if it had not been."""
        with self._transaction() as db:
            query = "UPDATE jobs SET state = 'queued', started = NULL, attempts = attempts - ?"
            db.execute(f"{query} WHERE id = ? AND state = 'running'", [int(not begun), id])

    def put_back(self) -> None:
        """While none is computed: what is called running waits again, as if it had not been begun."""
        with self._transaction() as db:
            query = "UPDATE jobs SET state = 'queued', started = NULL, attempts = attempts - 1 WHERE state = 'running'"
            db.execute(query)

    def recover(self, keep: float) -> tuple[int, int]:
        """After a start: what was running waits again, as do jobs that the database does not know, and files of no job
        go. How many wait, and how many of them had been begun."""
        with self._lock:
            rows = self._db.execute("SELECT id, attempts FROM jobs WHERE state = 'running'").fetchall()
            for row in rows:
                if row["attempts"] >= MOST_ATTEMPTS:
                    reason = f"the service ended {MOST_ATTEMPTS} times while computing this; a smaller picture may do"
                    self.end(row["id"], "failed", keep, error=reason)
            self._db.execute("UPDATE jobs SET state = 'queued', started = NULL WHERE state = 'running'")
            states = dict(map(tuple, self._db.execute("SELECT id, state FROM jobs")))
        for folder in _named_by_us(self.root / "jobs"):
            if states.get(folder.name) not in ("queued", "done") and not (
                folder.name not in states and self._take_in(folder)
            ):
                shutil.rmtree(folder, ignore_errors=True)
        for left in _named_by_us(self.incoming):
            left.unlink(missing_ok=True)
        return self.count("queued"), len(rows)

    def _take_in(self, folder: Path) -> bool:
        """Whether a folder holds a job that can be computed; it then waits."""
        try:
            row = json.loads((folder / "job.json").read_bytes())
            if not (folder / "input").is_file() or _record(row).state != "queued":
                return False
            with self._transaction():
                self._insert({name: row[name] for name in (*_COLUMNS, "alike")})
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def expire(self, keep: float) -> int:
        """Remove files whose time is up, and forget a job after the same time again; how many results went."""
        self._follow_clock()
        now = time.time()
        ended = ", ".join(f"'{state}'" for state in FINAL)
        with self._lock:
            old = [row[0] for row in self._db.execute("SELECT id FROM jobs WHERE state='done' AND expires < ?", [now])]
            for id in old:
                self.expire_one(id)
            self._db.execute(f"DELETE FROM jobs WHERE state IN ({ended}) AND expires < ?", [now - keep * 3600])
        return len(old)

    def _follow_clock(self) -> None:
        """If somebody has set the clock, what was to stay for hours still does."""
        with self._lock:
            jumped = time.time() - time.monotonic() - self._clock
            if abs(jumped) > _JUMP:
                self._clock += jumped
                say("clock.jumped", logging.WARNING, hours=round(jumped / 3600, 2))
                self._db.execute("UPDATE jobs SET expires = expires + ?", [jumped])

    def expire_one(self, id: str) -> None:
        """The files of a finished job go."""
        with self._lock:
            self._db.execute("UPDATE jobs SET state = 'expired' WHERE id = ? AND state = 'done'", [id])
        self.drop_files(id)

    def forget(self, owners: str) -> int:
        """Jobs of owners whose names begin so, in whatever state, with their files; how many."""
        mine = "substr(owner, 1, ?) = ?", [len(owners), owners]
        with self._lock:
            ids = [row[0] for row in self._db.execute(f"SELECT id FROM jobs WHERE {mine[0]}", mine[1])]
            for id in ids:  # before the table: files of no job would be taken for one of a lost table
                self.drop_files(id)
            with self._transaction():
                self._db.execute(f"DELETE FROM jobs WHERE {mine[0]}", mine[1])
        return len(ids)

    def drop_files(self, id: str) -> None:
        shutil.rmtree(self.folder(id), ignore_errors=True)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._restore()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # on a full disk SQLite may have rolled back itself
                    self._db.execute("ROLLBACK")
                raise


def _row(record: JobRecord) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(record, name) for name in _COLUMNS}
    row["options"] = record.options.model_dump_json(exclude_defaults=True)
    row["edits"] = json.dumps([edit.model_dump() for edit in record.edits])
    row["notices"] = json.dumps(record.notices)
    row["alike"] = None if record.edits else json.dumps(record.options.upscaling.pixel_options(), sort_keys=True)
    return row


def _record(row: Mapping[str, Any] | sqlite3.Row) -> JobRecord:
    """Of a row that cannot be read, what there is to say of it: that it failed."""
    values = {name: row[name] for name in _COLUMNS}
    try:
        values["options"] = JobOptions.model_validate_json(row["options"])
        values["edits"] = tuple(Regeneration.model_validate(edit) for edit in json.loads(row["edits"]))
        values["notices"] = tuple(json.loads(row["notices"]))
        record = JobRecord(**values)
        if not (record.width > 0 and record.height > 0 and record.created >= 0 and record.suffix.startswith(".")):
            raise ValueError("its sizes, times or suffix are none")
    except (ValueError, TypeError, AttributeError) as problem:
        say("job.unreadable", logging.ERROR, id=row["id"], error=" ".join(str(problem).split()))
        error = "the service cannot read what it has kept of this job; send the picture again"
        id, owner, name = (str(row[key]) for key in ("id", "owner", "name"))
        return JobRecord(id, owner, name, "failed", JobOptions(), ".png", 1, 1, 0.0, error=error)
    return record


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


def _refuse_foreign(root: Path) -> None:
    """Raise RealSRTError if a folder is not ours and holds what is not."""
    if (root / "jobs.sqlite3").exists() or not root.exists():
        return
    others = sorted(path.name for path in root.iterdir() if path.name not in _OURS)
    if others:
        raise RealSRTError(f"{root}: holds other files, such as {others[0]}; give --data a folder of its own")


def _named_by_us(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _ID.fullmatch(path.name)]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
