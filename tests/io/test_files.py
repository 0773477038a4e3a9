import errno
import os
from collections import namedtuple

import pytest

from realsrt.errors import ImageError
from realsrt.io import files
from realsrt.io.files import check_room, check_writable, is_full

Usage = namedtuple("Usage", "total used free")


def test_what_surely_does_not_fit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: Usage(10**9, 0, 1_000_000))
    check_room(tmp_path / "a.png", 4_000_000, 8)  # 0.8 MB at least
    check_room(tmp_path / "a.jpg", 40_000_000, 8)
    with pytest.raises(ImageError, match=r"a\.png: needs at least 1\.2 MB, and 1\.0 MB are free"):
        check_room(tmp_path / "a.png", 3_000_000, 16)
    with pytest.raises(ImageError, match="needs at least"):
        check_room(tmp_path / "a.JPG", 400_000_000, 8)


def test_places_that_cannot_take_a_file(tmp_path, monkeypatch):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ImageError, match="there is a folder of this name"):
        check_writable(tmp_path / "a.png")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ImageError, match=r"b\.png: no permission to write into"):
        check_writable(tmp_path / "b.png")


def test_what_says_that_the_disk_is_full():
    assert is_full(OSError(errno.ENOSPC, "x"))
    assert is_full(OSError(errno.EDQUOT, "x"))
    assert is_full(ImageError("a.png: could not be written: No space left on device"))
    caused = ImageError("could not be written")
    caused.__cause__ = OSError(errno.ENOSPC, "x")
    assert is_full(caused)
    assert not is_full(OSError(errno.EACCES, "x"))
    assert not is_full(ImageError("a.png: damaged"))
