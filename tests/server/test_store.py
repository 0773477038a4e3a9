import contextlib
import os
import sqlite3
import time

import pytest

from realsrt.errors import RealSRTError
from realsrt.io.files import is_full
from realsrt.server.options import JobOptions, Regeneration
from realsrt.server.records import JobRecord
from realsrt.server.store import MOST_ATTEMPTS, JobStore, QueueFull


def record(id, **more):
    options = more.pop("options", JobOptions(fidelity=0.5))
    return JobRecord(id, "me", "a.png", "queued", options, ".png", 30, 20, time.time(), **more)


def add(store, id, limit=100, **more):
    upload = store.incoming / id
    upload.write_bytes(id.encode())
    store.add(record(id, **more), upload, limit=limit)


@pytest.fixture
def store(tmp_path):
    made = JobStore(tmp_path)
    yield made
    made.close()


def again(store):
    store.close()
    return JobStore(store.root)


def test_what_was_kept_comes_back(store):
    edits = (Regeneration(box=[1, 2, 3, 4], seed=9), Regeneration(below=0.5))
    add(store, "a", edits=edits, parent="p")
    store = again(store)
    found = store.get("a")
    assert (found.options, found.edits, found.parent) == (JobOptions(fidelity=0.5), edits, "p")
    assert store.input("a").read_bytes() == b"a"
    store.close()


def test_first_come_first_served_and_alike_together(store):
    for id, fidelity in [("a", 1.0), ("b", 0.5), ("c", 1.0), ("d", 1.0)]:
        add(store, id, options=JobOptions(fidelity=fidelity, ext="png" if id == "c" else "auto"))
    assert [job.id for job in store.ahead("d")] == ["a", "b", "c"]
    assert [job.id for job in store.ahead(most=1)] == ["a"]
    assert [job.id for job in store.take(2)] == ["a", "c"]  # the format of the file does not matter
    assert [job.id for job in store.take()] == ["b"]
    assert [job.id for job in store.take(9)] == ["d"]
    assert store.take(9) == []


def test_a_full_queue_leaves_nothing_behind(store):
    add(store, "a", limit=1)
    with pytest.raises(QueueFull):
        add(store, "b", limit=1)
    assert store.get("b") is None
    assert not store.folder("b").exists()


def test_after_a_crash_running_jobs_wait_again_but_not_for_ever(store):
    add(store, "a")
    for attempt in range(1, MOST_ATTEMPTS + 1):
        assert store.take()[0].attempts == attempt
        store = again(store)
        assert store.recover(1) == (int(attempt < MOST_ATTEMPTS), 1)
    assert store.get("a").state == "failed"
    assert "while computing this" in store.get("a").error
    store.close()


def test_leftovers_go_at_the_start(store):
    add(store, "a")
    (store.incoming / ("0" * 24)).write_bytes(b"x")
    (store.root / "jobs" / ("1" * 24)).mkdir()
    (store.root / "jobs" / "of-somebody").mkdir()
    store.recover(1)
    assert {path.name for path in (store.root / "jobs").iterdir()} == {"a", "of-somebody"}
    assert not list(store.incoming.iterdir())


def test_an_end_comes_once(store):
    add(store, "a")
    store.take()
    assert store.end("a", "cancelled", 1)
    assert not store.end("a", "done", 1)
    assert store.get("a").state == "cancelled"
    store.requeue("a")
    assert store.get("a").state == "cancelled"


def test_one_service_a_folder(store):
    with pytest.raises(RealSRTError, match="another service"):
        JobStore(store.root)
    (store.root / "file").touch()
    with pytest.raises(RealSRTError, match="jobs cannot be kept here"):
        JobStore(store.root / "file")


_FIRST = """
CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, id, owner, name, state, options, suffix, width, height,
  created, edits, parent, started, finished, expires, seconds, confidence, error, notices, attempts, alike TEXT);
CREATE UNIQUE INDEX by_id ON jobs (id);
CREATE INDEX by_state ON jobs (state, number);
INSERT INTO jobs (id, owner, name, state, options, suffix, width, height, created, edits, notices, attempts)
  VALUES ('0123456789abcdef01234567', 'me', 'a.png', 'queued', '{"fidelity":0.5}', '.png', 30, 20, 1.0, '[]', '[]', 0);
"""


def test_a_database_of_the_first_version_opens(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as db:
        db.executescript(_FIRST)
    (tmp_path / "jobs" / "0123456789abcdef01234567").mkdir(parents=True)
    for _ in range(2):
        store = JobStore(tmp_path)
        assert store.recover(1) == (1, 0)
        assert store.get("0123456789abcdef01234567").options == JobOptions(fidelity=0.5)
        store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] > 0
        db.execute("PRAGMA user_version = 999")
    with pytest.raises(RealSRTError, match="newer version of realsrt"):
        JobStore(tmp_path)


def lose_database(root):
    for path in root.glob("jobs.sqlite3*"):
        path.unlink()


A, B = "a" * 24, "b" * 24


@pytest.mark.parametrize("running", [True, False])
def test_a_lost_database_loses_no_job(store, running):
    """Removed under a running service, or while none runs: from what is known, or from the jobs' folders."""
    add(store, A, options=JobOptions(fidelity=0.25), edits=(Regeneration(below=0.5),))
    if running:
        assert store.take()
        lose_database(store.root)
        add(store, B)
        assert store.end(A, "done", 1)
    else:
        store._db.close()
        store._alone.close()
        lose_database(store.root)
    store = JobStore(store.root) if not running else again(store)
    assert store.recover(1) == (1, 0)
    found = store.get(A)
    assert found.state == ("done" if running else "queued")
    assert (found.options, found.edits) == (JobOptions(fidelity=0.25), (Regeneration(below=0.5),))
    assert store.input(A).read_bytes() == A.encode()
    store.close()


def test_only_its_own_user_may_read_what_it_keeps(tmp_path):
    root = tmp_path / "data"
    (root / "jobs").mkdir(parents=True)
    (root / "incoming").mkdir()
    store = JobStore(root)
    add(store, A)
    for path in (root / "jobs", root / "incoming", root / "jobs.sqlite3", root / "jobs.sqlite3-wal"):
        assert path.stat().st_mode & 0o077 == 0, path
    store.close()


def test_a_folder_of_something_else_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / A).mkdir()
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / B).write_text("x")
    (tmp_path / "thesis.txt").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RealSRTError, match="holds other files, such as thesis"):
        JobStore(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "damage", ["options = '{'", "options = '{\"older\": 1}'", "width = 'x'", "edits = NULL", "created = NULL"]
)
def test_a_row_that_cannot_be_read_harms_its_own_job_only(store, damage):
    add(store, A)
    add(store, B)
    store._db.execute(f"UPDATE jobs SET {damage} WHERE id = ?", [A])
    assert [job.id for job in store.ahead(B)] == [A]
    assert [job.id for job in store.of_owner("me", 9)] == [B, A]
    found = store.get(A)
    assert found.state == "failed"
    assert "cannot read" in found.error
    assert store.get(B).state == "queued"


def test_a_full_disk_in_the_middle_leaves_a_database_that_works(store):
    add(store, A)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError) as caught:  # noqa: PT012 - which one fails is SQLite's to say
        for number in range(1000):
            add(store, f"{number:024}", limit=9999)
    assert is_full(caught.value)
    store._db.execute("PRAGMA max_page_count = 100000")
    add(store, B, limit=9999)
    assert store.get(B).state == "queued"
    assert len(list((store.root / "jobs").iterdir())) == store.count("queued")


def test_what_is_acknowledged_is_on_the_disk(store, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.path.realpath(f"/proc/self/fd/{descriptor}")))
    add(store, A)
    assert str(store.folder(A)) in synced  # the names of the input and of job.json


def test_pages_of_ones_own_jobs(store):
    for number in range(5):
        add(store, str(number) * 24)
    store._db.execute("UPDATE jobs SET owner = 'you' WHERE id = ?", ["2" * 24])
    first = [job.id[0] for job in store.of_owner("me", 2)]
    assert first == ["4", "3"]
    assert [job.id[0] for job in store.of_owner("me", 2, before="3" * 24)] == ["1", "0"]


@pytest.mark.parametrize("hours", [25, -240])
def test_a_clock_that_jumps_loses_and_stops_no_job(store, monkeypatch, hours):
    for id in (A, B):
        add(store, id)
    store.take()
    now = time.time() + hours * 3600
    monkeypatch.setattr(time, "time", lambda: now)
    store = again(store)
    assert store.recover(24) == (2, 1)
    assert store.expire(24) == 0
    assert [job.id for job in (*store.take(), *store.take())] == [A, B]
    assert store.end(A, "done", 24)
    store.expire(24)
    assert store.get(A).state == "done"
    store.close()


@pytest.mark.parametrize("hours", [25, -240])
def test_results_outlive_a_clock_that_is_set_while_the_service_runs(store, monkeypatch, hours):
    for id in (A, B):
        add(store, id)
        store.take()
    assert store.end(A, "done", 24)
    began = time.time()
    monkeypatch.setattr(time, "time", lambda: began + hours * 3600)
    assert store.end(B, "done", 24)  # in the new time
    assert store.expire(24) == 0
    for id in (A, B):
        assert 0 < store.get(id).expires - time.time() <= 24 * 3600 + 1
    later = time.monotonic() + 25 * 3600
    monkeypatch.setattr(time, "monotonic", lambda: later)
    monkeypatch.setattr(time, "time", lambda: began + (hours + 25) * 3600)
    assert store.expire(24) == 2  # time that has passed
