"""stdout that is closed, full, or left by its reader: no traceback, no image blamed, no image lost."""

import os
import subprocess
import sys

import numpy as np
import pytest

from realsrt import presets
from realsrt.checkpoint import save_model
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full"),
]


@pytest.fixture(scope="module")
def argv(tmp_path_factory):
    """A function: an output folder → the command that upscales three images."""
    root = tmp_path_factory.mktemp("streams")
    (root / "in").mkdir()
    for name in "abc":
        imageio.write(root / "in" / f"{name}.png", Picture.from_array(np.zeros((9, 9, 3), np.uint8)))
    save_model(presets.build("tiny", seed=0), root / "tiny.safetensors")
    model = ["--model-path", str(root / "tiny.safetensors"), "-g", "cpu", "--steps", "1"]
    return lambda out: [sys.executable, "-m", "realsrt", "upscale", str(root / "in"), "-o", str(out), *model]


def run(command, redirected):
    ran = subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *command], capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stderr


@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [(">/dev/full", 1, "stdout took no more lines (No space left on device)"), (">&-", 0, ""), ("| true", None, None)],
)
def test_every_image_is_made_whatever_becomes_of_stdout(argv, tmp_path, redirected, status, said):
    found, errors = run(argv(tmp_path / "out"), redirected)
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"a.png", "b.png", "c.png"}
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert "a.png" not in errors
    if status is not None:
        assert found == status, errors
        assert errors.count("\n") == bool(said)
        assert said in errors


@pytest.mark.parametrize("redirected", [">/dev/full", ">&-", "| true", ">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_commands_that_print_a_table(redirected):
    status, errors = run([sys.executable, "-m", "realsrt", "models"], redirected)
    assert status == (1 if redirected.startswith(">/dev/full") else 0)
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert errors.count("\n") <= 1
