"""Batches: what is read, computed and written when, and what of it survives faults, signals and full disks."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from realsrt import presets
from realsrt.batch.report import Record
from realsrt.batch.resume import NAME
from realsrt.checkpoint import save_model
from realsrt.cli import main
from realsrt.cli.show import summary
from realsrt.errors import ImageError
from realsrt.inference import assemble, upscaler
from realsrt.inference.adapters import Planes
from realsrt.inference.result import Upscaled
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.models.trunk import Way


def picture(path, height=12, width=9, seed=0):
    rng = np.random.default_rng(seed)
    imageio.write(path, Picture.from_array(rng.integers(0, 255, (height, width, 3), np.uint8)))
    return path


class Fake:
    """Doubles pixels; `during` is called while a picture is computed."""

    model = SimpleNamespace(info=SimpleNamespace(source="fake", sha256="0" * 64), config=SimpleNamespace(num_steps=4))
    during = staticmethod(lambda image: None)

    @classmethod
    def from_pretrained(cls, name, **options):
        return cls()

    def computed_in(self, options):
        return "float32"

    def check(self, options):
        """Everything is allowed."""

    def upscale(self, image, options, *, on_progress, rows=None):
        on_progress(0, 2)
        Fake.during(image)
        on_progress(1, 2)
        on_progress(2, 2)
        doubled = image.rgb_float().repeat(4, axis=0).repeat(4, axis=1)
        if rows:
            rows(0, Planes(torch.from_numpy(doubled).permute(2, 0, 1)))
        return Upscaled(
            ids=None,
            step=2,
            num_steps=2,
            image=None if rows else image.with_pixels(doubled),
            confidence=np.zeros((6, 5), np.float32),
            steps=(),
            window_steps=np.array([2]),
        )


@pytest.fixture
def fake(monkeypatch, tmp_path):
    monkeypatch.setattr(upscaler, "Upscaler", Fake)
    monkeypatch.setattr(Fake, "during", staticmethod(lambda image: None))
    monkeypatch.chdir(tmp_path)
    os.mkdir("in")
    return Fake


def run(capsys, *argv, status=0):
    assert main(["upscale", "in", "-o", "out", *argv]) == status
    captured = capsys.readouterr()
    return [json.loads(line) for line in captured.out.splitlines()], captured.err


def statuses(lines):
    return "".join(line["status"][0] for line in lines)


def outputs(folder="out"):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def six(tmp_path):
    return [picture(tmp_path / "in" / f"{name}.png", seed=seed) for seed, name in enumerate("abcdef")]


def test_resume_makes_only_what_changed(fake, tmp_path, capsys):
    six(tmp_path)
    lines, _ = run(capsys)
    assert statuses(lines) == "dddddd"
    assert (lines[0]["model"], lines[0]["model_sha256"]) == ("fake", "0" * 64)
    before = outputs()
    picture(tmp_path / "in" / "b.png", seed=99)
    damaged = bytearray(before["d.png"])
    damaged[-20] ^= 1
    (tmp_path / "out" / "d.png").write_bytes(damaged)
    (tmp_path / "out" / "e.png").unlink()
    lines, _ = run(capsys, "--resume")
    assert statuses(lines) == "sdsdds"
    assert "input has changed" in lines[1]["reason"]
    assert "damaged" in lines[3]["reason"]
    after = outputs()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"b.png", NAME}
    lines, _ = run(capsys, "--resume")
    assert statuses(lines) == "ssssss"
    assert outputs() == after
    lines, _ = run(capsys, "--resume", "--strip")
    assert statuses(lines) == "dddddd"
    assert "other settings: strip" in lines[0]["reason"]


def test_another_model_of_the_same_name_is_another_setting(fake, tmp_path, capsys, monkeypatch):
    picture(tmp_path / "in" / "a.png")
    run(capsys)
    monkeypatch.setattr(
        fake, "model", SimpleNamespace(info=SimpleNamespace(source="fake", sha256="1" * 64), config=fake.model.config)
    )
    lines, _ = run(capsys, "--resume")
    assert (statuses(lines), lines[0]["reason"]) == ("d", "made again: other settings: model")


def test_one_file_to_one_file_leaves_nothing_but_it(fake, tmp_path, capsys):
    picture(tmp_path / "a.png")
    assert main(["upscale", "a.png", "-o", "b.png"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "in"]
    for status in ("done", "skipped"):
        capsys.readouterr()
        assert main(["upscale", "a.png", "-o", "b.png", "--resume"]) == 0
        assert json.loads(capsys.readouterr().out)["status"] == status


def test_reading_and_writing_go_on_beside_computing(fake, tmp_path, capsys, monkeypatch):
    """While a picture is computed, the one before is written and the one after read: never more, and in one thread."""
    six(tmp_path)
    events, threads, read, write = [], set(), imageio.read, imageio.write

    def reading(path, **options):
        threads.add(threading.get_ident())
        events.append(f"read {path.stem}")
        return read(path, **options)

    def writing(path, *args, **options):
        threads.add(threading.get_ident())
        result = write(path, *args, **options)
        events.append(f"write {path.stem}")
        return result

    def during(image):
        name = image.source.stem
        wanted = {f"write {chr(ord(name) - 1)}", f"read {chr(ord(name) + 1)}"} - {"write `", "read g"}
        deadline = time.monotonic() + 10
        while not wanted <= set(events) and time.monotonic() < deadline:
            time.sleep(0.001)
        events.append(f"compute {name}")

    monkeypatch.setattr(imageio, "read", reading)
    monkeypatch.setattr(imageio, "write", writing)
    monkeypatch.setattr(fake, "during", staticmethod(during))
    lines, _ = run(capsys)
    assert statuses(lines) == "dddddd"
    assert len(threads) == 1
    assert threads != {threading.get_ident()}
    at = {event: number for number, event in enumerate(events)}
    for before, name, after in zip("abcd", "bcde", "cdef", strict=True):
        assert at[f"write {before}"] < at[f"compute {name}"]
        assert at[f"compute {before}"] < at[f"read {after}"] < at[f"compute {name}"]


def test_errors_stay_with_their_picture(fake, tmp_path, capsys, monkeypatch):
    six(tmp_path)
    (tmp_path / "in" / "b.png").write_text("words")
    write = imageio.write

    def writing(path, *args, **options):
        if path.stem == "d":
            raise ImageError(f"{path}: could not be written: Input/output error")
        return write(path, *args, **options)

    def during(image):
        if image.source.stem == "e":
            raise RuntimeError("of e")

    monkeypatch.setattr(imageio, "write", writing)
    monkeypatch.setattr(fake, "during", staticmethod(during))
    lines, errors = run(capsys, status=1)
    assert [Path(line["source"]).stem for line in lines] == list("abcdef")
    assert statuses(lines) == "dfdffd"
    reasons = {Path(line["source"]).stem: line["reason"] for line in lines if line["status"] == "failed"}
    assert "not a picture" in reasons["b"]
    assert "Input/output" in reasons["d"]
    assert "of e" in reasons["e"]
    assert [line.split(":")[2].strip() for line in errors.splitlines()[:3]] == ["in/b.png", "in/d.png", "in/e.png"]


def test_pipes_and_unlistable_folders_fail_by_name(fake, tmp_path, capsys):
    picture(tmp_path / "in" / "z.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    os.symlink("nowhere.png", tmp_path / "in" / "dangling.png")
    os.symlink("loop.png", tmp_path / "in" / "loop.png")
    lines, errors = run(capsys, status=1)
    assert statuses(lines) == "fffd"
    assert "a pipe or a device" in errors
    assert "dangling.png" in errors
    assert "loop.png" in errors


def test_inputs_and_folders_may_be_read_only(fake, tmp_path, capsys):
    (tmp_path / "in" / "x").mkdir()
    picture(tmp_path / "in" / "x" / "a.png").chmod(0o400)
    (tmp_path / "in" / "x").chmod(0o500)
    try:
        lines, _ = run(capsys, "--recursive")
        assert statuses(lines) == "d"
        assert (tmp_path / "out" / "x").stat().st_mode & 0o200
        assert (tmp_path / "out" / "x" / "a.png").stat().st_mode & 0o200
    finally:
        (tmp_path / "in" / "x").chmod(0o700)


def test_names_of_any_script_and_of_no_text(fake, tmp_path, capsys):
    names = ["Ωμέγα.png", "写真.png", "a\nb.png", os.fsdecode(b"\xff.png")]
    for name in names:
        picture(tmp_path / "in" / name)
    lines, _ = run(capsys, "--report", "r.jsonl")
    assert statuses(lines) == "dddd"
    assert {Path(line["target"]).name for line in lines} == set(names) == set(outputs()) - {NAME}
    assert statuses(run(capsys, "--resume")[0]) == "ssss"


def test_a_name_is_shown_once_in_one_line(fake, tmp_path, capsys):
    (tmp_path / "in" / "a\nb.png").write_text("words")
    picture(tmp_path / "in" / "c\nd.png").rename(tmp_path / "in" / "c\nd.webp")
    lines, said = run(capsys, status=1)
    assert "in/a\\nb.png: is not a picture" in lines[0]["reason"]
    failed, notice, _ = said.splitlines()
    assert failed == f"realsrt: error: {lines[0]['reason']}"
    assert notice.startswith("realsrt: note: in/c\\nd.webp: is PNG, ")


def test_an_output_in_the_format_of_a_misleading_name_is_told(fake, tmp_path, capsys):
    picture(tmp_path / "in" / "a.png").rename(tmp_path / "in" / "a.jpg")
    picture(tmp_path / "in" / "b.jpg").rename(tmp_path / "in" / "b.png")
    picture(tmp_path / "in" / "c.jpg")
    lines, said = run(capsys)
    assert lines[0]["notices"] == [
        "in/a.jpg: is PNG, named like JPEG; the output is JPEG too, which loses detail; --ext png makes it PNG"
    ]
    assert lines[1]["notices"] == ["in/b.png: is JPEG, named like PNG; the output is PNG too; --ext jpg makes it JPEG"]
    assert "notices" not in lines[2]
    assert said.count("note: in/") == 2
    lines, said = run(capsys, "--ext", "tif")
    assert not said


def test_raw_files_and_videos_of_a_folder_are_told_of_in_one_line(fake, tmp_path, capsys):
    picture(tmp_path / "in" / "a.png")
    for name in ("b.nef", "c.nef", "d.mp4"):
        (tmp_path / "in" / name).touch()
    _, said = run(capsys)
    (line,) = said.splitlines()
    assert line.startswith("realsrt: note: passed over: 2 raw (develop them first, as 16-bit TIFF or JPEG), 1 video (")


@pytest.mark.parametrize("in_memory", [assemble.IN_MEMORY, 0])
def test_a_full_disk_ends_the_batch_with_what_is_whole(fake, tmp_path, capsys, monkeypatch, in_memory):
    six(tmp_path)
    monkeypatch.setattr(assemble, "IN_MEMORY", in_memory)  # or the rows of each are in a scratch file
    fsync, count = os.fsync, []

    def full(descriptor):
        count.append(descriptor)
        if len(count) > 4:  # file and folder of a, and of b
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        lines, errors = run(capsys, status=1)
    assert statuses(lines) == "ddf"
    assert "out/c.png: could not be written: No space left on device" in errors
    assert "the disk is full: make room; 2 done, 0 skipped, 1 failed, 3 left; the same command with --resume" in errors
    assert sorted(outputs()) == [NAME, "a.png", "b.png"]
    assert statuses(run(capsys, "--resume")[0]) == "ssdddd"


def test_what_does_not_fit_is_refused_before_computing(fake, tmp_path, capsys, monkeypatch):
    six(tmp_path)
    picture(tmp_path / "in" / "bb.png", 200, 200)
    monkeypatch.setattr("realsrt.io.files.shutil.disk_usage", lambda folder: SimpleNamespace(free=100_000))
    seen = []
    monkeypatch.setattr(fake, "during", staticmethod(lambda image: seen.append(image.source.stem)))
    lines, errors = run(capsys, status=1)
    assert statuses(lines) == "ddfdddd"
    assert seen == list("abcdef")
    assert "needs at least 0.4 MB, and 0.1 MB are free" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drops_what_is_computed_and_finishes_what_is_written(fake, tmp_path, capsys, monkeypatch, number):
    six(tmp_path)
    usual = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        fake, "during", staticmethod(lambda image: os.kill(os.getpid(), number) if image.source.stem == "c" else None)
    )
    lines, errors = run(capsys, status=128 + number)
    assert statuses(lines) == "dd"
    assert f"stopped by {number.name}; 2 done, 0 skipped, 0 failed, 4 left; the same command with --resume" in errors
    assert sorted(outputs()) == [NAME, "a.png", "b.png"]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == usual
    monkeypatch.setattr(fake, "during", staticmethod(lambda image: None))
    assert statuses(run(capsys, "--resume")[0]) == "ssdddd"


def test_leftovers_are_cleared_by_the_next_run(fake, tmp_path, capsys):
    six(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".a.png.0123abcd.tmp").write_bytes(b"half")
    run(capsys, "--resume")
    assert sorted(outputs()) == [NAME, *(f"{name}.png" for name in "abcdef")]


def test_a_report_that_breaks_ends_the_batch(fake, tmp_path, capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    six(tmp_path)
    _, errors = run(capsys, "--report", "/dev/full", status=1)
    assert errors == "realsrt: error: /dev/full: the report cannot be written: No space left on device\n"


def command(tmp_path, weights, out, *more):
    argv = [sys.executable, "-m", "realsrt", "upscale", str(tmp_path / "in"), "-o", str(out)]
    return [*argv, "--model-path", str(weights), "-g", "cpu", *more]


@pytest.mark.parametrize("resume", [["--resume"], []])
def test_what_an_earlier_run_wrote_into_the_inputs_folder_is_no_input(fake, tmp_path, capsys, resume):
    six(tmp_path)
    argv = ["upscale", "in", "-o", "in", "--suffix", "_x4", "--confidence", *resume]
    for done in ("dddddd", "ssssss" if resume else "dddddd"):
        assert main(argv) == 0
        assert statuses([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == done
        assert len(list((tmp_path / "in").glob("*.png"))) == 18
    assert main(["upscale", "in/a_x4.png", "-o", "in", "--suffix", "_x16"]) == 0  # named itself
    assert (tmp_path / "in" / "a_x4_x16.png").exists()


@pytest.mark.parametrize("resume", [["--resume"], []])
def test_a_report_over_something_else_is_refused(fake, tmp_path, capsys, resume):
    six(tmp_path)
    (tmp_path / "notes.txt").write_text("a thesis, not ended")
    (tmp_path / "link").symlink_to(tmp_path / "notes.txt")
    (tmp_path / "nowhere").symlink_to(tmp_path / "new.txt")
    (tmp_path / "report").write_text('{"source": "x"}\n{"sour')
    for name, said in (("notes.txt", "something else"), ("link", "is a link"), ("nowhere", "is a link")):
        _, errors = run(capsys, "--report", name, *resume, status=1)
        assert said in errors
        assert errors.count("\n") == 1
    assert (tmp_path / "notes.txt").read_text() == "a thesis, not ended"
    assert not (tmp_path / "new.txt").exists()
    run(capsys, "--report", "report", *resume)
    assert len((tmp_path / "report").read_text().splitlines()) == 6 + len(resume)


def test_a_reports_folder_is_made_or_refused_before_the_work(fake, tmp_path, capsys, monkeypatch):
    six(tmp_path)
    run(capsys, "--report", "new/er/report")
    assert len((tmp_path / "new" / "er" / "report").read_text().splitlines()) == 6
    monkeypatch.setattr(Fake, "from_pretrained", lambda *_, **__: pytest.fail("a model was loaded"))
    (tmp_path / "file").touch()
    assert "file is no folder" in run(capsys, "--report", "file/report", status=1)[1]


@pytest.mark.parametrize("argv", [["--tile", "17"], ["--steps", "0", "--confidence"], ["--steps", "1.5"]])
def test_a_refused_run_leaves_nothing_behind(tiny, tmp_path, capsys, argv):
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "report").write_text('{"source": "x"}\n')
    model = ["--model-path", str(tiny), "-g", "cpu", "--report", str(tmp_path / "report")]
    assert main(["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *model, *argv]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "report").read_text() == '{"source": "x"}\n'


@pytest.mark.parametrize("letter", ["a", "é", "字"])
@pytest.mark.parametrize("argv", [["--confidence"], ["--save-steps"], []])
def test_names_too_long_for_what_goes_beside_them_fail_before_computing(fake, tmp_path, capsys, letter, argv):
    computed = []
    fake.during = staticmethod(computed.append)
    name = letter * (250 // len(letter.encode())) + ".png"
    picture(tmp_path / "in" / "short.png").rename(tmp_path / "in" / name)
    if not argv:  # any name is short enough for its own temporary file
        assert statuses(run(capsys)[0]) == "d"
        return
    lines, errors = run(capsys, *argv, status=1)
    assert statuses(lines) == "f"
    assert "File name too long" in errors
    assert not computed


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "in").mkdir()
    save_model(presets.build("tiny", seed=0), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_real_command(tiny, tmp_path, number):
    for seed in range(40):
        picture(tmp_path / "in" / f"{seed:02}.png", 80, 80, seed)
    out = tmp_path / "out"
    process = subprocess.Popen(command(tmp_path, tiny, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert errors.count("\n") == 1
    assert f"stopped by {number.name}" in errors
    names = [path.name for path in out.iterdir() if path.name != NAME]
    assert 1 <= len(names) < 40
    assert not any(name.startswith(".") for name in names)
    for name in names:
        assert imageio.read(out / name).pixels.shape == (320, 320, 3)


def test_report_and_metadata_tell_how_an_image_was_restored(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "in" / "a.png")
    lines, _ = run(capsys, "--model-path", str(tiny), "-g", "cpu", "--report", "report", "--steps", "1")
    told = {key: lines[0][key] for key in ("way", "denoise", "share")}
    assert told["way"] in [way.name.lower() for way in Way]
    assert json.loads((tmp_path / "report").read_text())["share"] == told["share"]
    packet = imageio.read("out/a.png").metadata["xmp-data"][1].decode().replace("&quot;", '"')
    noted = json.loads(re.search(r"\{.*\}", packet)[0])
    assert {key: noted[key] for key in told} == told
    assert f"restored {told['way']}, denoised {told['denoise']:g}" in summary(Record(**lines[0]))


def test_no_byte_depends_on_what_ran_beside_it(tiny, tmp_path, capsys):
    for seed, name in enumerate("abc"):
        picture(tmp_path / "in" / f"{name}.png", 20 + seed, 70, seed)
    options = ["--model-path", str(tiny), "-g", "cpu", "--steps", "1", "--stride", "32"]
    assert main(["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "all"), *options]) == 0
    for name in "cab":
        argv = ["upscale", str(tmp_path / "in" / f"{name}.png"), "-o", str(tmp_path / f"{name}.png"), *options]
        assert main([*argv, "--max-minibatch", "7"]) == 0
        assert (tmp_path / f"{name}.png").read_bytes() == (tmp_path / "all" / f"{name}.png").read_bytes()
