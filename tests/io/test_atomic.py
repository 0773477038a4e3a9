import os
import threading

import pytest

from realsrt.io.atomic import whole_or_absent, write_whole


def test_a_file_appears_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "a"
    write_whole(path, b"old")

    def half() -> None:
        with whole_or_absent(path) as descriptor:
            os.write(descriptor, b"half")
            os.write(-1, b"the rest")

    with pytest.raises(OSError, match="Bad file"):
        half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_written_and_stays_a_pipe(tmp_path):
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_whole(path, b"words")
    reader.join(10)
    assert read == [b"words"]
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no devices here")
def test_a_link_to_a_device_stays_a_link(tmp_path):
    path = tmp_path / "link"
    path.symlink_to("/dev/null")
    write_whole(path, b"words")
    assert os.readlink(path) == "/dev/null"
    assert list(tmp_path.iterdir()) == [path]
