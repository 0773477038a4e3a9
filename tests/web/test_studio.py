"""What the page does with one picture, without a browser (preset tiny)."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from realsrt.cli import main
from realsrt.errors import ImageError, UsageError
from realsrt.io import image as imageio
from realsrt.io.metadata.provenance import provenance
from realsrt.io.picture import Picture
from realsrt.web import choices, studio
from realsrt.web.choices import Choices
from realsrt.web.engine import Cancelled, Engine, plainly
from realsrt.web.running import Progress
from realsrt.web.session import Session, Version

MODEL = "tiny.safetensors"


def upscaled(engine, session, path, chosen=None) -> list:
    studio.open_picture(engine, session, path)
    return list(studio.upscale(engine, session, chosen or Choices(MODEL)))


def by_command(weights, source: Path, target: Path, *options: str) -> bytes:
    assert main(["upscale", str(source), "-o", str(target), "--model-path", str(weights), *options]) == 0
    return target.read_bytes()


def test_a_preview_after_each_step_then_the_version(engine, session, png):
    items = upscaled(engine, session, png)
    steps = [item for item in items if isinstance(item, studio.StepPreview)]
    assert [(step.number, step.count) for step in steps] == [(1, 4), (2, 4), (3, 4)]
    assert all(step.after.exists() and step.before.exists() for step in steps)
    assert isinstance(items[-1], Version)
    assert items[-1] is session.version
    assert (items[-1].picture.width, items[-1].picture.height) == (160, 120)
    done = [item.done for item in items if isinstance(item, Progress) and item.total > 1]
    assert done == sorted(done)
    assert done[-1] == 4


@pytest.mark.parametrize(
    "chosen, options",
    [
        (Choices(MODEL), []),
        (Choices(MODEL, outscale=2.5, format="webp", quality=70), ["--outscale", "2.5", "--quality", "70"]),
        (
            Choices(MODEL, steps=1, stride=32, fidelity=0.5, color_fix="none", refine="dense", strip=True),
            ["--steps=1", "--stride=32", "--fidelity=0.5", "--color-fix=none", "--refine=dense", "--strip"],
        ),
        (Choices(MODEL, format="tif", provenance=False), ["--no-provenance"]),
    ],
)
def test_the_file_is_the_commands_to_the_byte(engine, session, weights, png, tmp_path, chosen, options):
    upscaled(engine, session, png, chosen)
    made = studio.export(engine, session, chosen, session.version)
    assert made.name == chosen.target(png)
    assert made.read_bytes() == by_command(weights, png, tmp_path / made.name, *options)


def test_the_command_shown_makes_the_same_file(engine, session, weights, png, tmp_path, monkeypatch):
    chosen = Choices(MODEL, outscale=3, steps=2, fidelity=0.8, quality=80, format="jpg")
    upscaled(engine, session, png, chosen)
    monkeypatch.chdir(tmp_path)
    (tmp_path / MODEL).write_bytes(weights.read_bytes())
    assert main(chosen.command(png).split()[1:]) == 0
    assert (tmp_path / "cat_x3.jpg").read_bytes() == studio.export(
        engine, session, chosen, session.version
    ).read_bytes()


def test_a_large_picture_is_streamed_and_shown_scaled_down(engine, session, weights, png, tmp_path, monkeypatch):
    monkeypatch.setattr(studio, "LIVE", 100)
    monkeypatch.setattr("realsrt.inference.assemble.IN_MEMORY", 0)
    monkeypatch.setattr("realsrt.web.previews.SIDE", 50)
    monkeypatch.setattr(studio.previews.shrunk, "__defaults__", (50,))
    items = upscaled(engine, session, png)
    version = session.version
    assert not any(isinstance(item, studio.StepPreview) for item in items)
    assert version.out is None
    assert isinstance(version.picture.pixels, np.memmap)
    before, after = (imageio.read(path) for path in studio.look(session, version, 0.0))
    assert (before.width, before.height) == (after.width, after.height) == (40, 30)
    file = studio.export(engine, session, Choices(MODEL), version)
    assert file.read_bytes() == by_command(weights, png, tmp_path / "out.png")
    with pytest.raises(UsageError, match="keeps all of a picture in memory"):
        next(studio.regenerate(engine, session, 0.5, temperature=1, seed=0, candidates=1))
    scratch = Path(version.picture.pixels.filename)
    session.close()
    assert not scratch.exists()


def test_redo_pick_undo(engine, session, png):
    upscaled(engine, session, png)
    whole = session.version.picture.pixels.copy()
    mask = np.zeros((120, 160), bool)
    mask[40:80, 60:100] = True
    list(studio.regenerate(engine, session, mask, temperature=2.0, seed=3, candidates=3, max_temperature=4.0))
    first = session.version
    assert len(first.candidates) == 3
    assert len(studio.gallery(session, first)) == 3
    outside = np.ones_like(mask)
    outside[30:90, 50:110] = False
    assert (first.picture.pixels[outside] == whole[outside]).all()
    assert (first.picture.pixels[mask] != whole[mask]).any()

    second = studio.pick(session, 2)
    assert (second.picture.pixels == second.candidates[2].image.pixels).all()
    assert (second.picture.pixels != first.picture.pixels).any()
    assert second.redone[-1]["picked"] == 3
    assert len(session.versions) == 2

    studio.undo(session)
    assert (session.version.picture.pixels == whole).all()
    with pytest.raises(UsageError, match="nothing to undo"):
        studio.undo(session)


def test_what_was_redone_is_told_in_the_file(engine, session, png):
    upscaled(engine, session, png)
    plain = studio.export(engine, session, Choices(MODEL), session.version)
    list(studio.regenerate(engine, session, 0.9, temperature=1.0, seed=5, candidates=1))
    redone = studio.export(engine, session, Choices(MODEL), session.version)
    told = imageio.read(redone).metadata["xmp-data"][1]
    assert b"regenerated" in bytes(told)
    assert b"regenerated" not in bytes(imageio.read(plain).metadata["xmp-data"][1])


def test_nothing_painted_is_said(engine, session, png):
    upscaled(engine, session, png)
    with pytest.raises(UsageError, match="nothing is painted"):
        next(studio.regenerate(engine, session, np.zeros((120, 160), bool), temperature=1, seed=0, candidates=1))
    with pytest.raises(UsageError, match="no place has a confidence below"):
        next(studio.regenerate(engine, session, 1e-6, temperature=1, seed=0, candidates=1))


def test_paint_at_the_previews_size_is_a_mask_of_the_outputs(engine, session, png):
    upscaled(engine, session, png)
    layer = np.zeros((60, 80, 4), np.uint8)
    layer[10:20, 30:40, 3] = 200
    mask = studio.painted(session.version, [layer])
    assert mask.shape == (120, 160)
    assert mask[20:40, 60:80].all()
    assert mask.sum() == 20 * 20


def test_a_cancelled_job_leaves_what_there_was(engine, session, png):
    upscaled(engine, session, png)
    had = session.version
    session.begin()
    job = studio.upscale(engine, session, Choices(MODEL, stride=8))
    while next(job).what != "loading":
        pass
    session.stop.set()
    with pytest.raises(Cancelled):
        list(job)
    assert session.version is had
    assert not engine.busy


def test_leaving_ends_the_job(engine, session, make_picture):
    studio.open_picture(engine, session, make_picture("wide.png", 400, 300))
    job = studio.upscale(engine, session, Choices(MODEL))
    for item in job:
        if isinstance(item, Progress) and item.done:
            break
    job.close()
    assert not engine.busy
    assert not [thread for thread in threading.enumerate() if thread.name == "job"]


def test_a_job_waits_for_another_and_can_be_cancelled_meanwhile(engine, session, png):
    studio.open_picture(engine, session, png)
    with engine.job(threading.Event()):
        job = studio.upscale(engine, session, Choices(MODEL))
        assert next(job).what == "waiting for the model, 1 before this one"
        threading.Timer(0.1, session.stop.set).start()
        started = time.monotonic()
        with pytest.raises(Cancelled):
            list(job)
        assert time.monotonic() - started < 5


def test_jobs_come_in_the_order_they_were_asked_for(engine):
    order, told = [], []

    def job(name):
        with engine.job(threading.Event(), told.append):
            order.append(name)

    threads = [threading.Thread(target=job, args=(name,)) for name in range(4)]
    with engine.job(threading.Event()):
        for number, thread in enumerate(threads, 1):
            thread.start()
            while number not in told:  # in the queue
                time.sleep(0.01)
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3]
    assert not engine.busy


def test_when_the_server_ends_jobs_end(weights, session, make_picture):
    engine = Engine(str(weights), device="cpu", max_pixels=1_000_000)
    studio.open_picture(engine, session, make_picture("wide.png", 400, 300))
    job = studio.upscale(engine, session, Choices(MODEL))
    while not next(job).done:
        pass
    engine.closing.set()
    with pytest.raises(Cancelled, match="the server has ended"):
        list(job)


def test_a_job_asked_for_is_forgotten_with_its_picture(engine, session, png):
    studio.open_picture(engine, session, png)
    session.begin()
    before = session.stop
    studio.open_picture(engine, session, png)
    assert before.is_set()
    assert session.claim() is None
    session.begin()
    assert session.claim() is session.stop
    assert session.claim() is None
    assert not session.stop.is_set()


def test_frames_left_out_are_told(engine, session, tmp_path):
    frames = [Image.new("L", (20, 16), shade) for shade in (10, 200)]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    upscaled(engine, session, path)
    assert session.version.notices == ("moving.gif: only the first of its 2 pages or frames is used",)


def test_what_writing_loses_is_told(engine, session, tmp_path):
    path = tmp_path / "deep.png"
    imageio.write(path, Picture.from_array(np.full((16, 20, 3), 40_000, np.uint16)))
    chosen = Choices(MODEL, format="jpg")
    upscaled(engine, session, path, chosen)
    made = studio.export(engine, session, chosen, session.version)
    (said,) = session.version.remarks[made]
    assert said.startswith("deep_x4.jpg: ")
    assert "8" in said


def test_what_is_no_picture_is_refused(engine, session, tmp_path):
    path = tmp_path / "not.png"
    path.write_text("hello")
    with pytest.raises(ImageError, match="is not a picture"):
        studio.open_picture(engine, session, path)
    assert session.source is None


def test_a_picture_above_the_limit_is_refused(engine, session, make_picture):
    huge = make_picture("huge.png", 1001, 1000, 1)
    with pytest.raises(ImageError, match="above the limit of 1,000,000 pixels") as caught:
        studio.open_picture(engine, session, huge)
    assert (
        plainly(caught.value, huge) == "huge.png: 1001x1000 is above the limit of 1,000,000 pixels"
    )  # no --max-pixels


def test_a_format_that_cannot_hold_it_is_refused_before_the_work(engine, session, make_picture):
    studio.open_picture(engine, session, make_picture("clear.png", channels=4))
    items = studio.upscale(engine, session, Choices(MODEL, format="jpg"))
    seen = []
    with pytest.raises(ImageError, match="transparency"):
        seen.extend(items)
    assert not any(isinstance(item, Progress) and item.total for item in seen)


def test_errors_tell_no_place_of_this_machine(engine, session, make_picture):
    studio.open_picture(engine, session, make_picture("clear.png", channels=4))
    with pytest.raises(ImageError) as caught:
        list(studio.upscale(engine, session, Choices(MODEL, format="jpg")))
    assert str(session.root) in str(caught.value)
    assert plainly(caught.value, session.source).startswith("clear_x4.jpg: JPEG cannot hold")
    assert plainly(ValueError("odd"), session.source).startswith("clear.png: unexpected ValueError: odd")
    assert plainly(OSError(28, "No space left on device"), session.source) == "clear.png: No space left on device"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_kind_of_picture_can_be_looked_at(engine, session, make_picture, channels):
    upscaled(engine, session, make_picture("any.png", channels=channels))
    for opacity in (0.0, 0.5):
        sizes = [imageio.header(path) for path in studio.look(session, session.version, opacity)]
        assert [(size.width, size.height) for size in sizes] == [(160, 120)] * 2


def test_files_are_deleted_with_the_session(engine, session, png):
    upscaled(engine, session, png)
    folder = session.folder
    assert any(folder.rglob("*"))
    session.close()
    assert not folder.exists()


def test_a_copied_session_is_a_new_one(tmp_path):
    import copy

    one = Session(tmp_path)
    one.place("file").write_text("mine")
    two = copy.deepcopy(one)
    assert two.folder is None
    assert two.root == one.root
    assert one.place("x").parent != one.place("x").parent


def test_values_at_the_models_own_count_as_not_given():
    values = ("small", 4, choices.SAME, 2, 56, 1, choices.OWN, choices.OWN, None, False, True)
    made = choices.make(*values, own_steps=2, own_stride=56)
    assert made == Choices("small", outscale=4.0)
    told = provenance("small", "", made.pixel_options())
    assert '"fidelity": 1.0' in told.parameters
    with pytest.raises(UsageError, match="a number is missing"):
        choices.make(*values[:1], None, *values[2:], own_steps=2, own_stride=56)
    with pytest.raises(UsageError, match="the scale must be above 0, got -1"):
        choices.make(*values[:1], -1, *values[2:], own_steps=2, own_stride=56)
    with pytest.raises(UsageError, match="quality is a whole number from 1 to 100, or nothing; got abc"):
        choices.make(*values[:8], "abc", *values[9:], own_steps=2, own_stride=56)
    assert choices.make(*values[:8], "90", *values[9:], own_steps=2, own_stride=56).quality == 90
    with pytest.raises(UsageError, match="the scale goes up to 16"):
        choices.make(*values[:1], 17, *values[2:], own_steps=2, own_stride=56)


def test_the_denoising_strength_is_the_commands():
    values = ("small", 4, choices.SAME, 2, 56, 1, choices.OWN, choices.OWN, None, False, True)
    made = choices.make(*values, "0.25", own_steps=2, own_stride=56)
    assert made.denoise == 0.25
    assert "--denoise 0.25" in made.command(Path("a.png"))
    assert choices.make(*values, "auto", own_steps=2, own_stride=56).denoise == "auto"
