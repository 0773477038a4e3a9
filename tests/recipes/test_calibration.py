"""recipes/calibration.py cuts one crop of each of some photographs, the same ones every time."""

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

from realsrt.io import image as imageio
from realsrt.io.picture import Picture

SCRIPT = Path(__file__).parents[2] / "recipes" / "calibration.py"


def test_crops_come_evenly_from_what_is_large_enough(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in {
        "a1": (512, 512),
        "a2": (520, 600),
        "a3": (100, 900),
        "a4": (512, 700),
        "b1": (512, 512),
    }.items():
        imageio.write(tmp_path / f"{name}.png", Picture.from_array(rng.integers(0, 256, (*size, 3), np.uint8)))
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for path in sorted(tmp_path.glob("*.png")):
            tar.add(path, path.name)
    for target in ("one", "two"):
        command = [sys.executable, SCRIPT, tmp_path / "photos.tar", tmp_path / target, "--only", "a", "--count", "2"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert "2 of 3 photographs" in done.stdout
    found = {path.name: imageio.read(path).pixels for path in (tmp_path / "one").iterdir()}
    assert found.keys() == {"a1.png", "a2.png"}
    assert all(pixels.shape == (512, 512, 3) for pixels in found.values())
    assert np.array_equal(found["a1.png"], imageio.read(tmp_path / "a1.png").pixels)
    assert all(np.array_equal(imageio.read(tmp_path / "two" / name).pixels, found[name]) for name in found)


def test_halved_photographs_are_as_large_still(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (1024, 1030, 3), np.uint8)
    (tmp_path / "in").mkdir()
    imageio.write(tmp_path / "in" / "large.png", Picture.from_array(image))
    imageio.write(tmp_path / "in" / "small.png", Picture.from_array(image[:1000]))
    command = [sys.executable, SCRIPT, tmp_path / "in", tmp_path / "out", "--half"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "1 of 1 photographs" in done.stdout, done.stderr
    found = imageio.read(tmp_path / "out" / "large.png").pixels
    means = image[:, :1030].reshape(512, 2, 515, 2, 3).mean((1, 3))
    assert found.shape == (512, 512, 3)
    assert min(np.abs(found - means[:, x : x + 512]).max() for x in range(4)) <= 1
