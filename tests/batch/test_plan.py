import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realsrt.batch.plan import FileJob, find_images, plan_batch, take_shard
from realsrt.errors import UsageError
from realsrt.io.files import file_sha256


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Makes empty files by name in a folder that is the working one."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    return make


def pairs(*args, **options) -> list[tuple[str, str]]:
    return [(job.source.as_posix(), job.target.as_posix()) for job in plan_batch(*args, **options)]


def test_one_file_to_a_file_or_a_folder(files):
    files("a.jpg", "there/x")
    assert pairs(["a.jpg"], "b.png") == [("a.jpg", "b.png")]
    assert pairs(["a.jpg"], "out") == [("a.jpg", "out/a.jpg")]
    assert pairs(["a.jpg"], "there") == [("a.jpg", "there/a.jpg")]
    assert pairs(["a.jpg"], "out.v2", suffix="_x4", ext="png") == [("a.jpg", "out.v2/a_x4.png")]
    os.mkdir("odd.png")
    assert pairs(["a.jpg"], "odd.png") == [("a.jpg", "odd.png/a.jpg")]


def test_a_folder_takes_what_is_named_like_a_picture(files):
    files("in/b.PNG", "in/a.jpeg", "in/notes.txt", "in/.hidden.png", "in/deep/c.png")
    os.mkdir("in/folder.png")
    assert pairs(["in"], "out") == [
        ("in/a.jpeg", "out/a.jpeg"),
        ("in/b.PNG", "out/b.PNG"),
        ("in/folder.png", "out/folder.png"),  # it will fail by name, and the rest goes on
    ]


def test_results_of_before_are_no_inputs_while_they_are_as_they_were(files):
    files("ph/a.png", "ph/b.png")
    Path("ph/a.png").write_bytes(b"made")
    made = {os.path.realpath("ph/a.png"): file_sha256(Path("ph/a.png"))}
    told = []
    assert pairs(["ph"], "ph", suffix="_x4", made=made, tell=told.append) == [("ph/b.png", "ph/b_x4.png")]
    assert told == ["1 file(s) passed over: results of an earlier run into ph"]
    Path("ph/a.png").write_bytes(b"an image of that name, put there since")
    assert pairs(["ph"], "ph", suffix="_x4", made=made) == [
        ("ph/a.png", "ph/a_x4.png"), ("ph/b.png", "ph/b_x4.png"),
    ]  # fmt: skip


def test_what_of_a_folder_is_passed_over_is_counted(files):
    files("in/a.png", "in/notes.txt", "in/b.NEF", "in/c.dng", "in/d.mov", "in/e.psd", "in/.f.nef", "in/x/g.cr2")
    told = []
    assert pairs(["in"], "out", tell=told.append) == [("in/a.png", "out/a.png")]
    (line,) = told
    assert line.startswith("passed over: 2 raw (develop them first")
    assert "), 1 video (" in line
    assert "), 1 of other formats (" in line
    plan_batch(["in"], "out", recursive=True, tell=told.append)
    assert told[1].startswith("passed over: 3 raw")
    plan_batch(["in/a.png"], "out", tell=told.append)
    assert len(told) == 2
    os.unlink("in/a.png")
    refused(["in"], "out", words=["no pictures", "passed over: 2 raw"])


def test_recursion_keeps_the_structure_and_skips_the_output(files):
    files("in/a.png", "in/x/a.png", "in/x/y/a.png", "in/out/old.png")
    assert pairs(["in"], "in/out", recursive=True) == [
        ("in/a.png", "in/out/a.png"),
        ("in/x/a.png", "in/out/x/a.png"),
        ("in/x/y/a.png", "in/out/x/y/a.png"),
    ]


def test_globs_and_names_that_look_like_globs(files):
    files("a1.png", "a2.png", "b.png", "c[1].png")
    assert pairs(["a*.png"], "out") == [("a1.png", "out/a1.png"), ("a2.png", "out/a2.png")]
    assert pairs(["c[1].png"], "out") == [("c[1].png", "out/c[1].png")]


def test_formats_that_can_only_be_read_become_png(files):
    files("a.gif", "b.webp")
    assert pairs(["a.gif", "b.webp"], "out") == [("a.gif", "out/a.png"), ("b.webp", "out/b.webp")]
    assert pairs(["a.gif", "b.webp"], "out", ext=".JPG") == [("a.gif", "out/a.jpg"), ("b.webp", "out/b.jpg")]


def test_the_same_input_twice_is_done_once(files):
    files("in/a.png")
    assert pairs(["in", "in"], "out") == [("in/a.png", "out/a.png")]
    assert pairs(["in/a.png", "in"], "out") == [("in/a.png", "out/a.png")]


def refused(*args, words=(), **options) -> None:
    with pytest.raises(UsageError) as caught:
        plan_batch(*args, **options)
    for word in words:
        assert word in str(caught.value)


def test_two_inputs_for_one_output_are_refused_by_name(files):
    files("x/a.png", "y/a.png", "z/a.jpg")
    refused(["x/a.png", "y/a.png"], "out", words=["x/a.png", "y/a.png", "out/a.png"])
    refused(["x", "z"], "out", ext="png", words=["x/a.png", "z/a.jpg"])


def test_companions_collide_too(files):
    files("in/a.png", "in/a_confidence.png")
    assert len(pairs(["in"], "out")) == 2
    refused(["in"], "out", companions=["_confidence.png"], words=["in/a.png", "in/a_confidence.png"])


def test_so_do_images_of_steps(files):
    files("in/a.png", "in/a_step2.png", "in/a_step3.jpg", "in/b_step1_confidence.png", "in/b.png", "in/b_step01.png")
    assert len(pairs(["in"], "out")) == 6
    assert len(pairs(["in"], "out", steps=1)) == 6
    refused(["in"], "out", steps=2, words=["in/a.png and in/a_step2.png would both become out/a_step2.png"])
    refused(
        ["in/b.png", "in/b_step1_confidence.png"], "out", steps=1, companions=["_confidence.png"],
        words=["out/b_step1_confidence.png"],
    )  # fmt: skip


def test_inputs_are_never_overwritten(files):
    files("in/a.png", "in/a_x4.png")
    refused(["in/a.png"], "in/a.png", words=["in/a.png", "--suffix"])
    refused(["in"], "in", words=["overwritten"])
    refused(["in"], "in", suffix="_x4", words=["in/a_x4.png"])
    os.symlink("in", "link")
    refused(["in/a.png"], "link/a.png", words=["overwritten"])
    assert pairs(["in/a.png"], "in", suffix="_x5") == [("in/a.png", "in/a_x5.png")]


def test_missing_empty_and_contradicting_inputs(files):
    files("a.png", "b.png", "empty/notes.txt")
    refused(["a.png", "no.png", "q*.png"], "out", words=["no.png", "q*.png"])
    refused([], "out", words=["no input"])
    refused(["empty"], "out", words=["empty", "--recursive"])
    refused(["a.png", "b.png"], "c.png", words=["c.png", "folder"])
    refused(["a.png", "b.png"], "a.png", words=["is a file"])
    refused(["a.png"], "out", ext="bmp", words=[".bmp", "png"])
    refused(["a.png"], "out", suffix="/../x", words=["slashes"])


names = st.sets(st.from_regex(r"[a-c]{1,2}\.(png|jpg|gif)", fullmatch=True), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(names, st.sampled_from(["", "_x"]), st.sampled_from(["auto", "png"]))
def test_targets_are_distinct_or_it_is_refused(names, suffix, ext):
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            Path(folder, name).touch()
        becomes = [
            Path(name).stem + (".png" if ext == "png" else Path(name).suffix.replace("gif", "png")) for name in names
        ]
        if len(set(becomes)) < len(names):
            with pytest.raises(UsageError, match="both become"):
                plan_batch([folder], f"{folder}/out", suffix=suffix, ext=ext)
        else:
            jobs = plan_batch([folder], f"{folder}/out", suffix=suffix, ext=ext)
            assert {job.source.name for job in jobs} == names
            assert len({job.target for job in jobs}) == len(names)


@pytest.mark.parametrize("ending", ["xyz", "gif", "jp2", "J2K", "cr2", "mp4"])
def test_an_unknown_extension_is_refused_and_not_taken_for_a_folder(tmp_path, ending):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    output = tmp_path / f"out.{ending}"
    words = "contradicts|names one file|cannot write" if ending == "gif" else rf"cannot write '\.{ending}'"
    with pytest.raises(UsageError, match=words):
        plan_batch([tmp_path / "a.png"], output, ext="png")
    if ending != "xyz":
        with pytest.raises(UsageError, match="names one file"):
            plan_batch([tmp_path], output)
    for inputs in ([tmp_path / "a.png"], [tmp_path]):
        assert plan_batch(inputs, f"{output}{os.sep}")[0].target == output / "a.png"


def test_what_is_only_read_needs_no_names_for_outputs(files):
    files("a/x.png", "b/x.png", "p.jpg", "p.png", "as upscaled/p.png", "in/q.png", "in/deep/r.png", "in/s.nef")
    told = []
    inputs = ["a/x.png", "b/x.png", "p.jpg", "p.png", "as upscaled/p.png", "in", "p.*", "in/q.png"]
    found = find_images(inputs, tell=told.append)
    assert [path.as_posix() for path in found] == [*inputs[:5], "in/q.png"]
    assert told[0].startswith("passed over: 1 raw")
    with pytest.raises(UsageError, match="no such file or folder: c"):
        find_images(["a", "c"])


def test_loops_of_links_end(files):
    files("in/a.png", "in/x/b.png", "far/c.png")
    os.symlink(".", "in/here")
    os.symlink("..", "in/x/up")
    os.symlink("../far", "in/far")
    os.symlink("../in", "far/back")
    os.symlink("nowhere.png", "in/dangling.png")
    os.symlink("me.png", "in/me.png")
    assert pairs(["in"], "out", recursive=True) == [
        ("in/a.png", "out/a.png"),
        ("in/dangling.png", "out/dangling.png"),  # these two fail by name
        ("in/far/c.png", "out/far/c.png"),
        ("in/me.png", "out/me.png"),
        ("in/x/b.png", "out/x/b.png"),
    ]


def test_a_folder_that_cannot_be_listed_is_a_failure_of_its_own(files, monkeypatch):
    files("in/a.png", "in/closed/b.png", "in/closed.png")
    usual = Path.iterdir

    def iterdir(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return usual(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    jobs = plan_batch(["in"], "out", recursive=True)
    assert [job.problem for job in jobs] == ["", "in/closed: cannot be listed: Permission denied", ""]
    refused(["in/closed"], "out", words=["cannot be listed"])


def test_names_of_any_script_and_of_no_text_at_all(files):
    odd = os.fsdecode(b"\xff\xfe.png")
    names = ["Ωμέγα.png", "写真.jpg", "été 🌞.webp", "-i.png", "a\nb.png", odd]
    files(*(f"in/{name}" for name in names))
    assert {Path(target).name for _, target in pairs(["in"], "out")} == set(names)


def test_shards_part_the_jobs_and_stay_as_pictures_come(tmp_path):
    jobs = [FileJob(tmp_path / f"{n}.png", tmp_path / "out" / "x" / f"{n}.png") for n in range(200)]
    shards = [take_shard(jobs, tmp_path / "out", f"{i}/3") for i in range(3)]
    assert sorted(str(job) for shard in shards for job in shard) == sorted(map(str, jobs))
    assert min(map(len, shards)) > 40
    assert take_shard(jobs[::2], tmp_path / "out", "1/3") == [job for job in shards[1] if job in jobs[::2]]
    assert take_shard(jobs, tmp_path / "out", "0/1") == jobs


@pytest.mark.parametrize("text", ["3/3", "-1/3", "1", "1/0", "a/b", "1/3/5", "0/3 "])
def test_a_shard_that_is_none(text):
    with pytest.raises(UsageError, match="--shard takes i/n"):
        take_shard([], "out", text)
