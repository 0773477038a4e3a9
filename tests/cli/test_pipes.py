"""Pictures through stdin, stdout and the pipes that shells open."""

import io
import os
import sys
import threading

import pytest
from PIL import Image

from realsrt.cli import main
from realsrt.inference import upscaler
from realsrt.io import image as imageio
from support.fakes import Quadrupled


def coded(format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 9), (10, 200, 30)).save(file, format)
    return file.getvalue()


@pytest.fixture
def piped(monkeypatch, tmp_path):
    """Runs the command with bytes on stdin."""
    monkeypatch.setattr(upscaler, "Upscaler", Quadrupled)
    monkeypatch.chdir(tmp_path)

    def run(data: bytes, *argv: str) -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return main(["upscale", *argv])

    return run


@pytest.mark.parametrize(
    ("given", "options", "made"),
    [
        ("PNG", [], "PNG"), ("JPEG", [], "JPEG"), ("GIF", [], "PNG"), ("WEBP", ["--ext", "tif"], "TIFF"),
        ("PNG", ["-f", "jpg"], "JPEG"),
    ],
)  # fmt: skip
def test_from_stdin_to_stdout(piped, capsysbinary, given, options, made):
    assert piped(coded(given), "-", "-o", "-", *options) == 0
    captured = capsysbinary.readouterr()
    with Image.open(io.BytesIO(captured.out)) as image:
        assert (image.format, image.size) == (made, (48, 36))
    assert captured.err == b""


def test_one_of_both(piped, capsysbinary, tmp_path):
    assert piped(coded("PNG"), "-", "-o", "out.webp") == 0
    assert imageio.read(tmp_path / "out.webp").pixels.shape == (36, 48, 3)
    assert piped(coded("JPEG"), "-", "-o", "folder/") == 0
    assert imageio.read(tmp_path / "folder" / "stdin.jpg").pixels.shape == (36, 48, 3)
    assert b'"status": "done"' in capsysbinary.readouterr().out
    assert piped(b"", "out.webp", "-o", "-", "-f", "png") == 0
    assert capsysbinary.readouterr().out.startswith(b"\x89PNG")


def test_what_shells_open_for_a_command(piped, tmp_path, capsysbinary):
    """`realsrt upscale <(command) -o >(command)`: /dev/fd/N, which cannot be read twice, nor be sought in."""
    source, entry = os.pipe()
    sink, target = os.pipe()
    got: list[bytes] = []

    def collect() -> None:
        with os.fdopen(sink, "rb") as file:
            got.append(file.read())

    def give() -> None:
        with os.fdopen(entry, "wb") as file:
            file.write(coded("PNG"))

    threads = [threading.Thread(target=give), threading.Thread(target=collect)]
    for thread in threads:
        thread.start()
    try:
        assert piped(b"", f"/dev/fd/{source}", "-o", f"/dev/fd/{target}", "-f", "jpg") == 0
    finally:
        os.close(source)
        os.close(target)
        for thread in threads:
            thread.join(10)
    with Image.open(io.BytesIO(got[0])) as image:
        assert (image.format, image.size) == ("JPEG", (48, 36))


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["-", "-", "-o", "out"], "once only"), (["-", "a.png", "-o", "-"], "one picture"),
        (["-", "-o", "a.png", "--report", "-"], "a file, not -"),
        (["-", "-o", "-", "--confidence"], "alone"), (["-", "-o", "-", "-f", "bmp"], "cannot write"),
    ],
)  # fmt: skip
def test_what_pipes_cannot_do(piped, capsysbinary, argv, word):
    assert piped(coded("PNG"), *argv) == 2
    captured = capsysbinary.readouterr()
    assert captured.out == b""
    assert word.encode() in captured.err


@pytest.mark.parametrize("data", [b"", b"no picture", coded("PNG")[:60]])
def test_nothing_goes_out_where_nothing_came_in(piped, capsysbinary, data):
    assert piped(data, "-", "-o", "-") == 1
    captured = capsysbinary.readouterr()
    assert captured.out == b""
    assert captured.err.count(b"\n") == 1
    assert captured.err.startswith(b"realsrt: error: standard input: ")


def test_pipes_are_called_what_they_are(piped, capsysbinary, tmp_path):
    """Whatever is told of them: in errors, notices, reports and what is wrong with the request."""
    file = io.BytesIO()
    frames = [Image.new("RGB", (12, 9), colour) for colour in ("red", "blue")]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert piped(file.getvalue(), "-", "-o", "out.png", "--report", "report.json") == 0
    assert piped(coded("PNG"), "-", "-o", "-", "--max-pixels", "5") == 1
    clear = io.BytesIO()
    Image.new("RGBA", (12, 9), (1, 2, 3, 4)).save(clear, "PNG")
    assert piped(clear.getvalue(), "-", "-o", "-", "-f", "jpg") == 1
    captured = capsysbinary.readouterr()
    lines = captured.err.splitlines()
    assert b"note: standard input: only the first of its 2" in lines[0]
    assert b"error: standard input: 12x9 is above" in lines[1]
    assert b"standard output: JPEG cannot hold" in lines[2]
    assert captured.out.startswith(b'{"source": "standard input", ')
    told = captured.out + captured.err + (tmp_path / "report.json").read_bytes()
    assert b"stdin.gif" not in told
    assert b"realsrt-" not in told


class Endless(io.RawIOBase):
    """As /dev/zero; `read_of_it` bytes so far."""

    read_of_it = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        self.read_of_it += len(buffer)
        assert self.read_of_it < 2**22, "it would never end"
        return len(buffer)


def test_what_has_no_end_and_is_no_picture(piped, capsysbinary, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    assert main(["upscale", "-", "-o", "-"]) == 1
    assert b"is not a picture" in capsysbinary.readouterr().err


def test_a_closed_stdin(piped, capsysbinary, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["upscale", "-", "-o", "-"]) == 2
    assert b"nothing is piped" in capsysbinary.readouterr().err


def test_no_temporary_files_stay(piped, capsysbinary, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert piped(coded("PNG"), "-", "-o", "-") == 0
    assert list(tmp_path.iterdir()) == []
