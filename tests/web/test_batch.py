"""Many pictures into a zip, without a browser (preset tiny)."""

import threading
import zipfile
from pathlib import Path

import pytest

from realsrt.cli import main
from realsrt.errors import UsageError
from realsrt.web import batch
from realsrt.web.batch import BatchFinished, RowUpdate
from realsrt.web.choices import Choices
from realsrt.web.running import Progress, watched

CHOICES = Choices("tiny.safetensors")


def test_a_bad_picture_is_named_and_the_rest_done(engine, session, weights, make_picture, tmp_path):
    good, bad = make_picture("good.png"), tmp_path / "bad.png"
    bad.write_text("no picture")
    items = list(batch.run(engine, session, [bad, good, good], CHOICES))
    last = {item.number: item.record for item in items if isinstance(item, RowUpdate)}
    assert [last[number].status for number in range(3)] == ["failed", "done", "done"]
    assert last[0].reason.startswith("is not a picture")
    assert str(tmp_path) not in last[0].reason
    end = items[-1]
    assert isinstance(end, BatchFinished)
    with zipfile.ZipFile(end.path) as packed:
        assert packed.namelist() == ["good_x4.png", "good_2_x4.png"]
        made = packed.read("good_x4.png")
    assert main(["upscale", str(good), "-o", str(tmp_path / "cli.png"), "--model-path", str(weights)]) == 0
    assert made == (tmp_path / "cli.png").read_bytes()
    left = [path for path in session.folder.rglob("*") if path.is_file()]
    assert left == [end.path]


def test_a_cancelled_batch_keeps_what_is_done(engine, session, make_picture):
    files = [make_picture(f"{name}.png") for name in "abc"]
    items = []
    for item in batch.run(engine, session, files, CHOICES):
        items.append(item)
        if isinstance(item, RowUpdate) and item.record.status == "done":
            session.stop.set()
    end = items[-1]
    assert end.why == "cancelled"
    with zipfile.ZipFile(end.path) as packed:
        assert packed.namelist() == ["a_x4.png"]
    assert not engine.busy


def test_no_files_is_an_error(engine, session):
    with pytest.raises(UsageError, match="drop pictures first"):
        list(batch.run(engine, session, [], CHOICES))


def test_names_in_the_zip_are_all_different():
    uploads = [Path("a/x.png"), Path("b/X.PNG"), Path("c/x.gif"), Path("x_2.png")]
    names = batch.target_names(uploads, Choices())
    assert names[0] == "x_x4.png"
    assert len({name.lower() for name in names}) == 4


def test_of_progress_that_piled_up_the_last_is_told():
    gate = threading.Event()

    def work(put):
        for done in range(100):
            put(Progress(done, 100))
        put("picture")
        gate.set()

    seen = []
    for item in watched(work, threading.Event()):
        gate.wait(5)
        seen.append(item)
    assert seen[-1] == "picture"
    assert len(seen) <= 4


def test_what_work_raises_comes_out():
    def work(put):
        put(1)
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        list(watched(work, threading.Event()))
