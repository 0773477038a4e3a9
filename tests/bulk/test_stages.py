"""What workers do with a picture, and what is left when one dies at any point. No Ray: the stages as functions."""

import io
import os
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import pyvips

from realsrt.bulk import stages
from realsrt.bulk.packing import pack, unpack
from realsrt.bulk.state import State, read_state, state_name, write_state
from realsrt.bulk.store import OutputStore
from realsrt.cli import main
from realsrt.inference import upscaler
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from support.bulk import QUICK_FLAGS, content, joined, plan, read_all, rows, run_here, work_for

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")


@pytest.fixture
def batch(make, tmp_path):
    for seed, name in enumerate(("a.png", "x/b.jpg", "x/c.tif")):
        make(tmp_path / "in" / name, 16 + seed, 20, seed)
    return tmp_path / "in"


def statuses(outcomes):
    return {key: outcome.status for key, outcome in outcomes.items()}


def test_auto_is_not_taken_for_another_precision(tiny, tmp_path):
    made = [work_for(tmp_path, tiny, precision=name).settings["precision"] for name in ("auto", "fp32", "bf16")]
    assert made == ["auto on cpu", "torch.float32", "torch.bfloat16"]


def test_bytes_are_those_of_upscale(batch, tiny, tmp_path):
    """Metadata, provenance and maps of confidence too."""
    with (batch / "p.png").open("wb") as file:
        image = pyvips.Image.black(20, 20, bands=4).linear([1] * 4, [10, 200, 30, 90])
        image = image.cast("uchar").copy(interpretation="srgb")
        image.set_type(pyvips.GValue.blob_type, "xmp-data", b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", pyvips.Image.black(1, 1, bands=3).copy(
            interpretation="srgb").icc_transform("srgb", input_profile="srgb").get("icc-profile-data"))  # fmt: skip
        file.write(image.pngsave_buffer())
    options = ["--model-path", str(tiny), "-g", "cpu", "--confidence", *QUICK_FLAGS]
    assert main(["upscale", str(batch), "-o", str(tmp_path / "up"), "--recursive", *options]) == 0
    items = plan(batch, tmp_path / "out")
    outcomes = run_here(items, work_for(tmp_path / "out", tiny, confidence=True))
    assert set(statuses(outcomes).values()) == {"done"}
    assert content(tmp_path / "out") == content(tmp_path / "up")
    assert len(content(tmp_path / "out")) == 8
    alone = replace(work_for(tmp_path / "large", tiny, confidence=True), large=0)
    run_here(items, alone)
    assert content(tmp_path / "large") == content(tmp_path / "up")


def test_a_second_run_makes_what_is_missing_changed_or_damaged(batch, make, tiny, tmp_path):
    out, items = tmp_path / "out", plan(batch, tmp_path / "out")
    first = run_here(items, work_for(out, tiny))
    assert set(statuses(run_here(items, work_for(out, tiny))).values()) == {"skipped"}
    make(batch / "a.png", 16, 20, seed=9)
    (out / "x" / "b.jpg").unlink()
    (out / "x" / "c.tif").write_bytes((out / "x" / "c.tif").read_bytes()[:-1] + b"?")
    again = run_here(items, work_for(out, tiny))
    assert set(statuses(again).values()) == {"done"}
    assert "input has changed" in again["a.png"].reason
    assert "damaged or gone" in again["x/b.jpg"].reason
    assert again["x/b.jpg"].output_sha256 == first["x/b.jpg"].output_sha256
    third = run_here(items, work_for(out, tiny, strip=True))
    assert {outcome.reason for outcome in third.values()} == {"made again: other settings: strip"}


def test_bad_pictures_fail_alone_and_are_tried_again(batch, make, tiny, tmp_path):
    good = (batch / "a.png").read_bytes()
    (batch / "cut.png").write_bytes(good[: len(good) // 2])
    (batch / "words.png").write_text("words")
    (batch / "empty.png").touch()
    make(batch / "bomb.png", 400, 400)
    pyvips.Image.new_from_array(np.full((9, 9), np.nan, np.float32)).cast("float").tiffsave(str(batch / "nan.tif"))
    os.mkfifo(batch / "pipe.png")
    os.symlink("nowhere.png", batch / "gone.png")
    items = plan(batch, tmp_path / "out")
    work = work_for(tmp_path / "out", tiny, max_pixels=100_000)
    outcomes = run_here(items, work)
    bad = {key: outcome.reason for key, outcome in outcomes.items() if outcome.status == "failed"}
    assert set(bad) == {"cut.png", "words.png", "empty.png", "bomb.png", "nan.tif", "pipe.png", "gone.png"}
    for key, words in {"cut.png": "cut short", "bomb.png": "limit", "nan.tif": "not finite"}.items():
        assert words in bad[key]
    assert all(key in reason for key, reason in bad.items())
    assert len(content(tmp_path / "out")) == 3
    make(batch / "words.png")
    assert run_here(items, work_for(tmp_path / "out", tiny, max_pixels=100_000))["words.png"].status == "done"


def test_a_member_of_a_tar_is_named_once_in_one_line(tiny, tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        member = tarfile.TarInfo("a\nb.png")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"words"))
    (outcome,) = run_here(plan(tmp_path / "s.tar", tmp_path / "out"), work_for(tmp_path / "out", tiny)).values()
    assert outcome.reason.startswith(f"{tmp_path}/s.tar:a\\nb.png: is not a picture")
    assert outcome.reason.count("b.png") == 1


def test_a_failure_while_computing_is_that_pictures(batch, tiny, tmp_path, monkeypatch):
    items, work = plan(batch, tmp_path / "out"), work_for(tmp_path / "out", tiny)
    compute = stages.Compute(work)
    request = upscaler.make_request

    def failing(picture, *more):
        if picture.height == 17:
            raise RuntimeError("of b")
        return request(picture, *more)

    monkeypatch.setattr(upscaler, "make_request", failing)
    outcomes = [row.outcome for row in rows(compute(joined(read_all(items, work))))]
    assert ["of b" in outcome.reason for outcome in outcomes if outcome] == [True]


def test_what_kills_its_worker_is_tried_a_few_times_and_alone(batch, tiny, tmp_path, monkeypatch):
    """The worker dies as 'b' is computed: the others are done, 'b' is given up, in this run or over several."""
    items = plan(batch, tmp_path / "out")
    killed = []

    class Killed(BaseException):
        pass

    def attempt(work):
        compute = stages.Compute(work)
        upscale = compute._up.upscale_many

        def dying(pictures, options, **more):
            pictures = list(pictures)
            for picture in pictures:
                if picture.height == 17:
                    killed.append(len(pictures))
                    raise Killed
                yield from upscale([picture], options, **more)

        monkeypatch.setattr(compute._up, "upscale_many", dying)
        tables = []
        try:
            for table in compute(joined(read_all(items, work))):
                tables += stages.write(table, work)
        except Killed:
            return None
        return {row.item.key: row.outcome for row in rows(tables)}

    work = work_for(tmp_path / "out", tiny, max_tries=3)
    outcomes = [attempt(work) for _ in range(4)]
    assert outcomes[:3] == [None] * 3
    assert killed == [3, 1, 1]
    assert statuses(outcomes[3]) == {"a.png": "done", "x/b.jpg": "failed", "x/c.tif": "done"}
    assert outcomes[3]["x/b.jpg"].tries == 3
    assert "died, 3 times" in outcomes[3]["x/b.jpg"].reason
    later = attempt(work_for(tmp_path / "out", tiny, max_tries=3))
    assert statuses(later) == {"a.png": "skipped", "x/b.jpg": "failed", "x/c.tif": "skipped"}
    assert len(killed) == 3
    assert attempt(work_for(tmp_path / "out", tiny, max_tries=4)) is None
    assert len(killed) == 4


def test_what_kills_its_reader_is_given_up(batch, tiny, tmp_path, monkeypatch):
    items, work = plan(batch, tmp_path / "out"), work_for(tmp_path / "out", tiny, max_tries=2)
    read, begun = imageio.read, []

    def dying(path, **options):
        begun.append(path)
        if path.name == "b.jpg":
            raise KeyboardInterrupt
        return read(path, **options)

    monkeypatch.setattr(imageio, "read", dying)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            read_all(items, work)
    found = rows(read_all(items, work))
    assert [row.outcome and row.outcome.status for row in found] == [None, "failed", None]
    assert sum(path.name == "b.jpg" for path in begun) == 2


@pytest.mark.parametrize("moment", ["before the state", "before the file", "after the file"])
def test_a_writer_that_dies_at_any_moment(batch, tiny, tmp_path, monkeypatch, moment):
    """Run again, by Ray or by the next run, it writes what is not there, and that only."""
    items, work = plan(batch, tmp_path / "out"), work_for(tmp_path / "out", tiny)
    computed = list(stages.Compute(work)(joined(read_all(items, work))))
    published = []
    publish, put = OutputStore.publish, OutputStore.put

    def publishing(store, file, name):
        if dying and moment == "before the file":
            raise KeyboardInterrupt
        publish(store, file, name)
        published.append(name)
        if dying and moment == "after the file":
            raise KeyboardInterrupt

    def putting(store, name, content):
        if dying and moment == "before the state":
            raise KeyboardInterrupt
        put(store, name, content)

    monkeypatch.setattr(OutputStore, "publish", publishing)
    monkeypatch.setattr(OutputStore, "put", putting)
    dying = True
    with pytest.raises(KeyboardInterrupt):
        list(stages.write(computed[0], work))
    assert not list(OutputStore(str(tmp_path / "out"))._scratch().iterdir())
    dying = False
    outcomes = [row.outcome for table in computed for row in rows(stages.write(table, work))]
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert sorted(published) == ["a.png", "x/b.jpg", "x/c.tif"]
    again = run_here(items, work_for(tmp_path / "out", tiny))
    assert set(statuses(again).values()) == {"skipped"}
    assert len(published) == 3


def test_each_stage_gives_one_block_a_row(batch, tiny, tmp_path):
    """Ray takes a task that is run again for the same only if it gives as many."""
    items, work = plan(batch, tmp_path / "out"), work_for(tmp_path / "out", tiny)
    for again in range(2):
        read = read_all(items, work)
        computed = list(stages.Compute(work)(joined(read)))
        written = [table for block in computed for table in stages.write(block, work)]
        assert [table.num_rows for table in (*read, *computed, *written)] == [1] * 9, again


def test_states_that_cannot_be_read_count_as_none(tmp_path):
    store = OutputStore(str(tmp_path))
    write_state(store, State("a.png", "0" * 64, {"x": 1}, "done"))
    assert read_state(store, "a.png").status == "done"
    for damaged in (b"", b"[", b"[]", b'{"key": "b.png"}', b'{"odd": 1}'):
        store.put(state_name("a.png"), damaged)
        assert read_state(store, "a.png") == State("a.png")


def test_packing_keeps_metadata_by_the_name_of_its_type():
    blob, text = pyvips.GValue.blob_type, pyvips.type_from_name("VipsRefString")
    picture = Picture(np.zeros((2, 3, 1), np.uint16), {"xmp-data": (blob, b"x"), "exif-ifd0-Make": (text, "y")})
    came, more = unpack(pack(picture, (1, 2)))
    assert came.metadata == picture.metadata
    assert came.pixels.dtype == np.uint16
    assert more == (1, 2)
    assert b"VipsRefString" in pack(picture)
