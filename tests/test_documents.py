"""The examples of the README, run as they stand there, beside small pictures of the names they have."""

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from realsrt.cli import main
from realsrt.io import image as imageio

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FIRST = README[README.index("```\npip install .") :]


def blocks(title: str, language: str = "") -> list[str]:
    """The code blocks of a language below a heading, to the next heading."""
    section = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ )", README, re.M | re.S)
    assert section, title
    return re.findall(rf"^```{language}\n(.*?)^```", section[1], re.M | re.S)


def commands(block: str) -> list[list[str]]:
    """The words of its realsrt lines, without comments."""
    lines = [line.split("  #")[0].split(";  ")[0].rstrip() for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("realsrt ")]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what the examples name, as the current one."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def picture(name, height=16, width=16):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        imageio.write(tmp_path / name, rng.integers(0, 256, (height, width, 3), np.uint8))

    picture("photo.jpg", 50, 60)
    for name in ("photos/a.jpg", "photos/b.png", "scans/a.tif", "a.jpg", "b.jpg"):
        picture(name)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def test_the_first_command(place):
    assert main(shlex.split("upscale photo.jpg -o photo_x4.png")) == 0
    assert "realsrt upscale photo.jpg -o photo_x4.png" in FIRST
    assert imageio.header("photo_x4.png").width == 240


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [words for block in blocks("On the command line") for words in commands(block)], ids=" ".join
)
def test_commands_of_the_readme(place, words):
    assert main(words) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_python_of_the_readme(place, number):
    code = blocks("In Python", "python")[number]
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(("" if number == 0 else "import realsrt\n") + code, f"README, block {number}", "exec"), {})
    assert number or imageio.header("photo_x4.png").width == 240


def test_the_architecture_names_every_file_and_only_what_there_is():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert len(text.splitlines()) <= 120
    tree = text[text.index("src/realsrt/\n") :]
    rooms = re.findall(r"^  (\w+)/ (.*\n(?:    .*\n)*)", tree, re.MULTILINE)
    source = ROOT / "src" / "realsrt"
    for room, files in rooms:
        there = {path.stem for path in (source / room).rglob("*.py")} - {"__init__"}
        assert {name for name in there if not re.search(rf"\b{name}\b", files)} == set(), room
    named = re.findall(r"`(\w+(?:/\w+)+)(?:\.(\w+))?[\w.]*`", text)
    assert len(named) > 15
    for file, name in named:
        code = (source / f"{file}.py").read_text("utf-8")
        assert name in ("", "py") or re.search(rf"^ *(def|class) {name}\b|^{name}\b", code, re.MULTILINE), (file, name)
