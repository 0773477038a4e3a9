"""The examples of the README and of docs/, as they stand there: every command line is understood by the program that it
calls, and all are run but for those that take hours or another machine, beside small images of the names they have."""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from realsrt import presets
from realsrt.checkpoint import save_model
from realsrt.cli import build_app, main, spelled
from realsrt.io import image as imageio
from support.serving import Running

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "MODEL_CARD.md", "BENCHMARKS.md", "CONTRIBUTING.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
NOT_RUN = {  # the beginning or a part of an example → where it is tried instead
    "realsrt web": "tests/server/test_browser.py",
    "realsrt serve": "tests/server/test_running.py, test_attacks.py",
    "realsrt bulk": "tests/bulk",
    "realsrt train": "tests/training, for seconds in place of an hour",
    "realsrt calibrate": "tests/cli/test_trust.py; needs fifty pairs",
    "--calibration calibration.json": "likewise",
    "realsrt export": "tests/checkpoint; needs other engines",
    "realsrt compare": "tests/cli/test_compare.py; needs files of other networks",
    "net_g_80000.pth": "tests/test_parity.py; the authors' file is not here",
    "net_g.pth": "likewise",
}


def examples(language: str, document: Path) -> list[str]:
    """The code blocks of a language in a document, "" for those of the shell."""
    text = document.read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    found = [block for kind, block in blocks if kind == language or (not language and kind in ("bash", "sh"))]
    return found if language else [*found, *re.findall(r"^((?:    \S.*\n)+)", text, re.M)]


def lines(document: Path) -> list[str]:
    """The realsrt lines of a document's shell blocks."""
    joined = [block.replace("\\\n", " ") for block in examples("", document)]
    return [line.strip() for block in joined for line in block.splitlines() if line.strip().startswith("realsrt ")]


def words(line: str) -> list[str]:
    """As the shell gives them to the program, file patterns expanded."""
    made = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    return made.stdout.decode().split("\0")[1:-1]


LINES = [(document, line) for document in DOCUMENTS for line in lines(document)]
RUN = [line for _, line in LINES if not any(part in line for part in NOT_RUN)]


def understood(words):
    """Parse a command line, which is an error if it is none."""
    if words[0] in ("train", "teach"):
        pytest.importorskip("accelerate", reason="their options need the extra train")
    tokens = spelled(words)
    build_app(tokens).parse_args(tokens, exit_on_error=False, print_error=False)


def test_there_are_examples():
    assert len(LINES) > 40
    assert len(RUN) > 20
    for part in NOT_RUN:
        assert any(part in line for _, line in LINES), f"no example has {part!r} any more"


@pytest.mark.parametrize("line", [line for _, line in LINES])
def test_every_command_line_is_understood(line, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    understood(words(line.replace("…", "model.safetensors")))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_compiles(document):
    for number, code in enumerate(examples("python", document)):
        compile(code, f"{document.name}, block {number}", "exec")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder of models where `small` is tiny: what the examples say is the same, in a hundredth of the time."""
    folder = tmp_path_factory.mktemp("weights")
    save_model(presets.build("tiny", seed=0), folder / "small.safetensors")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what the examples name, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    rng = np.random.default_rng(0)

    def picture(name, height=16, width=16):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        imageio.write(tmp_path / name, rng.integers(0, 256, (height, width, 3), np.uint8))

    picture("photo.jpg", 50, 60)
    for name in ("photos/a.jpg", "photos/b.png", "scans/a.tif", "a.jpg", "b.jpg"):
        picture(name)
    for name in ("results/a_x4.png", "originals/a.png", "old/a.png", "new/a.png"):
        picture(name, 200, 200)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "runs" / "control").mkdir(parents=True)
    save_model(presets.build("tiny", seed=0), tmp_path / "runs" / "control" / "model.safetensors")
    return tmp_path


def test_the_first_command(place):
    assert lines(ROOT / "README.md")[0] == "realsrt upscale photo.jpg -o photo_x4.png"
    assert main(shlex.split("upscale photo.jpg -o photo_x4.png")) == 0
    assert imageio.header("photo_x4.png").width == 240


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("line", RUN)
def test_commands(place, tiny, line, monkeypatch):
    if "--trust" not in line:  # that holds for the real one only
        monkeypatch.setattr(
            "realsrt.checkpoint.load.files", lambda package: tiny if "weights" in package else files(package)
        )
    assert main(words(line)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_python_of_the_readme(place, number):
    code = examples("python", ROOT / "README.md")[number]
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(("" if number == 0 else "import realsrt\n") + code, f"README, block {number}", "exec"), {})
    assert number or imageio.header("photo_x4.png").width == 240


def told():
    """Every realsrt command in a code block of a document."""
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]):
        for block in re.findall(r"^(?:    .*\n)+|^```\n.*?^```", path.read_text("utf-8"), re.M | re.S):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                if line.strip().startswith("realsrt "):
                    yield pytest.param(re.split("  ?# |;  ", line.strip())[0], id=f"{path.stem}: {line.strip()[:60]}")


@pytest.mark.parametrize("line", list(told()))
def test_commands_of_all_documents_are_understood(line):
    understood(shlex.split(line)[1:])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_python_of_regenerating(place, tiny, monkeypatch):
    monkeypatch.setattr("realsrt.checkpoint.load.files", lambda _: tiny)
    blocks = examples("python", ROOT / "docs" / "regenerate.md")
    assert blocks
    names: dict[str, object] = {}
    for number, code in enumerate(blocks):
        exec(compile(code, f"regenerate.md, block {number}", "exec"), names)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_curl_and_python_of_the_service(place, tiny):
    """With the address and the ids of this service in place of those in the text."""
    document = ROOT / "docs" / "service.md"
    calls = [line for block in examples("", document) for line in block.splitlines() if line.startswith("curl ")]
    (code,) = examples("python", document)
    assert len(calls) == 8
    with Running(place / "data", "--model-path", str(tiny / "small.safetensors")) as server:
        client = server.client()
        for call in calls:
            id = client.submit("photo.jpg", steps=1)
            if "/events" not in call and "DELETE" not in call:
                client.wait(id)
            script = call.replace("http://127.0.0.1:8000", server.url).replace("/ID", f"/{id}")
            done = subprocess.run(
                ["bash", "-c", script.replace("curl ", "curl --silent --show-error --fail ", 1)],
                capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "no_proxy": "*"},
            )  # fmt: skip
            assert done.returncode == 0, (script, done.stderr)
        assert imageio.header("x4.jpg").width == 240
        assert imageio.header("sure.png").width == 240
        with contextlib.redirect_stdout(out := io.StringIO()):
            exec(compile(code.replace("http://127.0.0.1:8000", server.url), "service.md", "exec"), {})
        assert "preview" in out.getvalue()
        assert server.end() == 0


def test_the_architecture_names_every_file_and_only_what_there_is():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert len(text.splitlines()) <= 120
    tree = text[text.index("src/realsrt/\n") :]
    rooms = re.findall(r"^  (\w+)/ (.*\n(?:    .*\n)*)", tree, re.MULTILINE)
    source = ROOT / "src" / "realsrt"
    for room, listed in rooms:
        there = {path.stem for path in (source / room).rglob("*.py")} - {"__init__"}
        assert {name for name in there if not re.search(rf"\b{name}\b", listed)} == set(), room
    named = re.findall(r"`(\w+(?:/\w+)+)(?:\.(\w+))?[\w.]*`", text)
    assert len(named) > 15
    for file, name in named:
        code = (source / f"{file}.py").read_text("utf-8")
        assert name in ("", "py") or re.search(rf"^ *(def|class) {name}\b|^{name}\b", code, re.MULTILINE), (file, name)
