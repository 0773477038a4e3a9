"""What Windows and macOS do otherwise, as far as it can be shown here by taking their part."""

import os
import sys

import numpy as np
import pytest
import torch

from realsrt.batch import plan
from realsrt.batch.plan import plan_batch
from realsrt.errors import ImageError, UsageError
from realsrt.inference import assemble
from realsrt.inference.adapters import Planes
from realsrt.io import atomic, files
from realsrt.io.picture import Picture


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(atomic, "WINDOWS", True)


@pytest.fixture
def blind(monkeypatch):
    """File systems to which a.png is A.PNG."""
    monkeypatch.setattr(plan, "_case_blind", lambda folder: True)


def images(*paths):
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return [str(path) for path in paths]


def test_names_that_differ_in_case_only_collide_where_they_are_one_file(tmp_path, blind):
    inputs = images(tmp_path / "1/photo.png", tmp_path / "2/Photo.PNG")
    with pytest.raises(UsageError, match="would both become"):
        plan_batch(inputs, tmp_path / "out")


def test_accents_written_in_two_ways_collide_too(tmp_path, blind):
    inputs = images(tmp_path / "1/caf\u00e9.png", tmp_path / "2/cafe\u0301.png")
    with pytest.raises(UsageError, match="would both become"):
        plan_batch(inputs, tmp_path / "out")


def test_an_input_is_not_overwritten_by_a_suffix_in_another_case(tmp_path, blind):
    inputs = images(tmp_path / "in/photo.PNG")
    with pytest.raises(UsageError, match="would be overwritten"):
        plan_batch(inputs, tmp_path / "in", ext="png")


def test_where_case_counts_both_are_made(tmp_path):
    if plan._case_blind(tmp_path):
        pytest.skip("this file system does not tell cases apart")
    inputs = images(tmp_path / "1/photo.png", tmp_path / "2/Photo.png")
    assert len(plan_batch(inputs, tmp_path / "out")) == 2


@pytest.mark.parametrize(("link", "expected"), [("DEEP", True), ("other", False)])
def test_whether_case_counts_is_asked_of_the_file_system(tmp_path, link, expected):
    (tmp_path / "deep").mkdir()
    try:
        (tmp_path / link).symlink_to(tmp_path / "deep")  # as if it were the same
    except OSError:
        pytest.skip("links cannot be made here")
    assert plan._case_blind(tmp_path / "deep" / "not" / "there") is expected


@pytest.mark.parametrize(("system", "expected"), [("linux", False), ("darwin", True), ("win32", True)])
def test_a_name_without_letters_says_nothing(tmp_path, monkeypatch, system, expected):
    (tmp_path / "1").mkdir()
    monkeypatch.setattr(sys, "platform", system)
    assert plan._case_blind(tmp_path / "1") is expected


def test_a_folder_may_end_in_any_slash(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sep", "\\")
    (job,) = plan_batch(images(tmp_path / "a.png"), f"{tmp_path}/out.d/")
    assert job.target == tmp_path / "out.d" / "a.png"


@pytest.mark.parametrize(
    "name", ["CON", "nul.png", "com1.tar.png", "LPT9.png", "aux .png", "a.png:b.png", 'a"b.png', "a.", "b ", "a?.png"]
)
def test_names_that_windows_has_not(tmp_path, windows, name):
    with pytest.raises(ImageError, match="Windows can hold no file of this name"):
        files.check_name(tmp_path / name)


@pytest.mark.parametrize("name", ["console.png", "com10.png", "null.png", "a b.png", ".hidden", "ä.png", "a..png"])
def test_names_that_windows_has(tmp_path, windows, name):
    files.check_name(tmp_path / name)


def test_elsewhere_such_names_are_names(tmp_path):
    if os.name == "nt":
        pytest.skip("this is Windows")
    files.check_name(tmp_path / "nul.png")


def test_a_target_that_is_being_read_is_tried_again(tmp_path, windows, monkeypatch):
    waits, real = [], os.replace

    def replace(source, target):
        if len(waits) < 2:
            raise PermissionError(13, "in use")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(atomic.time, "sleep", waits.append)
    atomic.write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert len(waits) == 2


@pytest.mark.parametrize("system", [True, False])
def test_a_target_that_stays_in_use_is_an_error_and_stays_as_it_was(tmp_path, monkeypatch, system):
    def replace(source, target):
        raise PermissionError(13, "in use")

    waits = []
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(atomic, "WINDOWS", system)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(atomic.time, "sleep", waits.append)
    with pytest.raises(PermissionError):
        atomic.write_whole(tmp_path / "a", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
    assert (sum(waits) > 1) is system  # elsewhere it is final


def test_without_locks_nothing_is_taken_for_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "fcntl", None)
    with open(tmp_path / "a", "wb") as file:
        assert atomic.lock(file.fileno()) is None
        atomic.share_lock(file.fileno())


def test_a_scratch_file_that_is_still_mapped_goes_with_its_map(tmp_path, monkeypatch):
    monkeypatch.setattr(assemble, "IN_MEMORY", 0)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    pixels[0, 0] = 10, 13, 26  # what a file of text would have changed
    store = assemble.RowStore(Picture.from_array(pixels), 6, 4, tmp_path / "a.png")
    store.add(0, Planes(torch.from_numpy(pixels / 255).permute(2, 0, 1).float(), None))
    picture, real, held = store.image(), type(tmp_path).unlink, [True]
    assert np.array_equal(picture.pixels, pixels)
    assert not picture.pixels.flags.writeable

    def unlink(path, missing_ok=False):
        if held.pop():
            raise PermissionError(13, "in use")
        real(path, missing_ok)

    monkeypatch.setattr(type(tmp_path), "unlink", unlink)
    store.close()
    held.append(False)
    assert len(list(tmp_path.iterdir())) == 1
    assert picture.pixels[0, 0, 0] == 10
    del picture
    assert list(tmp_path.iterdir()) == []
