import json
import os

import pytest

from realsrt.batch.plan import FileJob
from realsrt.batch.resume import NAME, Manifest, listed_outputs, remove_leftovers
from realsrt.errors import ImageError
from realsrt.io.atomic import temporary_beside
from realsrt.io.files import file_sha256

SETTINGS = {"size": (3, 4), "steps": None}


@pytest.fixture
def job(tmp_path):
    job = FileJob(tmp_path / "in.png", tmp_path / "out" / "x" / "a.png")
    job.target.parent.mkdir(parents=True)
    job.source.write_bytes(b"input")
    job.target.write_bytes(b"output")
    return job


def opened(tmp_path):
    return Manifest(tmp_path / "out")


def recorded(tmp_path, job, settings=SETTINGS):
    with opened(tmp_path) as manifest:
        manifest.add(job, file_sha256(job.source), settings, [job.target])


def missing(tmp_path, job, settings=SETTINGS):
    with opened(tmp_path) as manifest:
        return manifest.missing(job, file_sha256(job.source), settings)


def test_what_is_recorded_is_not_missing(tmp_path, job):
    assert "not in the folder's manifest" in missing(tmp_path, job)
    recorded(tmp_path, job)
    assert missing(tmp_path, job) == ""
    assert missing(tmp_path, FileJob(job.source, job.target.with_name("b.png"))) == "there is no output"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda job: job.source.write_bytes(b"inpuT"), "input has changed"),
        (lambda job: job.target.write_bytes(b"outpuT"), "a.png is damaged or gone"),
        (lambda job: job.target.write_bytes(b"outp"), "a.png is damaged or gone"),
        (lambda job: job.target.unlink(), "a.png is damaged or gone"),
    ],
)
def test_changes_are_noticed_whatever_the_times_say(tmp_path, job, change, words):
    recorded(tmp_path, job)
    times = [(path, path.stat()) for path in (job.source, job.target)]
    change(job)
    for path, stat in times:
        if path.exists():
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert words in missing(tmp_path, job)


def test_other_settings_are_named(tmp_path, job):
    recorded(tmp_path, job)
    assert missing(tmp_path, job, {**SETTINGS, "size": (3, 5)}) == "other settings: size"
    assert missing(tmp_path, job, {"size": [3, 4], "model": "x"}) == "other settings: model"


def test_the_last_line_counts_and_the_same_again_adds_none(tmp_path, job):
    recorded(tmp_path, job)
    recorded(tmp_path, job, {"steps": 1})
    recorded(tmp_path, job, {"steps": 1})
    assert missing(tmp_path, job, {"steps": 1}) == ""
    assert missing(tmp_path, job) != ""
    assert len((tmp_path / "out" / NAME).read_text().splitlines()) == 2


def test_a_line_cut_by_a_crash_costs_only_its_picture(tmp_path, job):
    recorded(tmp_path, job)
    path = tmp_path / "out" / NAME
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert missing(tmp_path, job) == ""
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", ["[1]", "{}", "nonsense", '{"target": 3}', "[" * 100_000, "\xff", '"a"'])
def test_lines_of_another_kind_are_passed_over(tmp_path, job, line):
    recorded(tmp_path, job)
    path = tmp_path / "out" / NAME
    path.write_text(line + "\n" + path.read_text(), encoding="latin-1")
    assert missing(tmp_path, job) == ""


def test_names_that_are_no_text(tmp_path):
    job = FileJob(tmp_path / "in.png", tmp_path / "out" / os.fsdecode(b"\xff\xe9.png"))
    job.source.write_bytes(b"input")
    job.target.parent.mkdir()
    job.target.write_bytes(b"output")
    recorded(tmp_path, job)
    assert missing(tmp_path, job) == ""


def test_two_runs_at_a_time_share_a_folder_and_none_tidies_up(tmp_path, job):
    with opened(tmp_path) as first:
        assert first.alone
        first.share()
        with opened(tmp_path) as second:
            assert not second.alone
            first.add(job, "1", SETTINGS, [job.target])
            second.add(FileJob(job.source, tmp_path / "out" / "b.png"), "2", SETTINGS, [job.target])
    with opened(tmp_path) as third:
        assert third.alone
    lines = (tmp_path / "out" / NAME).read_text().splitlines()
    assert [json.loads(line)["input"] for line in lines] == ["1", "2"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ImageError, match="out: cannot be written"):
        opened(tmp_path)


def test_leftovers_of_a_killed_run_go_and_nothing_else(tmp_path):
    job = FileJob(tmp_path / "in.png", tmp_path / "a.png")
    long = FileJob(tmp_path / "in.png", tmp_path / ("é" * 120 + ".png"))
    gone = [".a.png.0123abcd.tmp", ".a_confidence.png.0123abcd.tmp", ".a_step2.png.0123abcd.tmp",
            ".a_step2_confidence.png.01234567.tmp", temporary_beside(long.target).name]  # fmt: skip
    kept = ["a.png", ".b.png.0123abcd.tmp", ".a.png.tmp", "a.png.0123abcd.tmp", ".a.png.0123abcX.tmp", ".other"]
    for name in gone + kept:
        (tmp_path / name).touch()
    (tmp_path / ".a.png.01234567.tmp").mkdir()  # a folder is none of ours
    assert remove_leftovers([job, long], ["_confidence.png"]) == len(gone)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, ".a.png.01234567.tmp"])
    assert remove_leftovers([FileJob(job.source, tmp_path / "nowhere" / "a.png")]) == 0


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a\0b", "\ud800", "x" * 5000, "../../etc/passwd"])
def test_names_in_a_manifest_that_are_none_have_the_image_made_again(tmp_path, job, name):
    digest = file_sha256(job.source)
    line = {"target": "a.png", "input": digest, "settings": {"steps": 1}, "outputs": {name: None}}
    job.target.parent.mkdir(exist_ok=True)
    (job.target.parent / NAME).write_text(json.dumps(line) + "\n")
    with Manifest(job.target.parent) as manifest:
        assert "damaged or gone" in manifest.missing(job, digest, {"steps": 1})
    listed_outputs(job.target.parent)


def test_a_manifest_that_is_a_link_is_not_written_to(tmp_path):
    (tmp_path / "out").mkdir()
    for there in (True, False):
        other = tmp_path / f"other{there}"
        if there:
            other.write_text("a line\nhalf a li")
        (tmp_path / "out" / NAME).symlink_to(other)
        with pytest.raises(ImageError, match="is a link"):
            Manifest(tmp_path / "out")
        assert other.read_text() == "a line\nhalf a li" if there else not other.exists()
        (tmp_path / "out" / NAME).unlink()


@pytest.mark.skipif(os.name == "nt", reason="pipes with names")
@pytest.mark.parametrize("device", [False, True])
def test_a_manifest_that_has_no_end_is_not_read(tmp_path, device):
    if device:
        (tmp_path / NAME).symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / NAME)
    assert listed_outputs(tmp_path) == {}
    with pytest.raises(ImageError, match="is a pipe or a device"):
        Manifest(tmp_path)


def test_what_is_no_line_of_ours_is_not_cut(tmp_path):
    (tmp_path / NAME).write_text("a line\nhalf a li")
    with Manifest(tmp_path):
        pass
    assert (tmp_path / NAME).read_text() == "a line\nhalf a li\n"
