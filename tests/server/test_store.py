import time
from dataclasses import replace

import pytest

from realsrt.errors import RealSRTError
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
    (store.incoming / "half").write_bytes(b"x")
    (store.root / "jobs" / "unknown").mkdir()
    store.recover(1)
    assert [path.name for path in (store.root / "jobs").iterdir()] == ["a"]
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


def test_work_grows_with_pixels_steps_and_edits():
    one = record("a")
    assert replace(one, width=640).work > one.work
    assert replace(one, edits=(Regeneration(below=0.5),)).work == 2 * one.work
