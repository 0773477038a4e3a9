from types import SimpleNamespace

import numpy as np
import pytest

from realsrt.io import preview
from realsrt.io.metadata.colour import of_code
from realsrt.io.picture import Picture
from realsrt.visualize.render import least_confident_box, shades, strip, write


def test_the_least_confident_place_is_found():
    confidence = np.full((40, 50), 0.9, np.float32)
    confidence[20:30, 11:21] = 0.2
    assert least_confident_box(confidence, (320, 400)) == (88, 160, 168, 240)


@pytest.mark.parametrize("hw", [(4, 4), (12, 300), (70, 65), (320, 400)])
def test_it_is_inside_whatever_the_size(hw):
    confidence = np.random.default_rng(0).random((-(-hw[0] // 8), -(-hw[1] // 8)))
    x0, y0, x1, y1 = least_confident_box(confidence, hw)
    assert 0 <= x0 < x1 <= hw[1]
    assert 0 <= y0 < y1 <= hw[0]


def test_a_strip_shows_gray_and_transparent_pictures_on_white():
    small = Picture.from_array(np.dstack([np.full((4, 5), 100, np.uint8), np.full((4, 5), 0, np.uint8)]))
    large = Picture.from_array(np.dstack([np.full((16, 20), 100, np.uint8), np.full((16, 20), 255, np.uint8)]))
    step = SimpleNamespace(image=large, confidence=np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32))
    made = strip("x", small, [step], (0, 0, 8, 8))
    assert made.enlarged.shape == made.images[0].shape == (16, 20, 3)
    assert (made.enlarged == 255).all()
    assert (made.images[0] == 100).all()
    assert made.maps[0].shape == (16, 20)
    assert made.maps[0][15, 19] == np.float32(0.6)
    low, high = shades([made])
    assert 0.1 <= low < high <= 0.6


@pytest.mark.parametrize(
    "meant", [{"icc-profile-data": (0, of_code(12, 13).icc)}, {"cicp": (0, bytes([9, 16]))}], ids=["p3", "pq"]
)
def test_a_strip_is_in_the_colours_that_the_picture_means(meant):
    picture = Picture(np.full((16, 16, 3), (120, 60, 40), np.uint8), meant)
    made = strip("x", picture, [SimpleNamespace(image=picture, confidence=np.eye(2, dtype=np.float32))], (0, 0, 8, 8))
    assert (made.images[0] == preview.plain(picture).pixels).all()
    assert (made.enlarged == made.images[0]).all()
    assert np.abs(made.images[0].astype(int) - picture.pixels).max() > 5


def test_brighter_is_surer_as_in_the_confidence_file(tmp_path):
    """The map at the right of a frame: its left half is unsure, its right half sure."""
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    gray = Picture.from_array(np.full((16, 64, 1), 100, np.uint8))
    confidence = np.repeat(np.float32([[0.1, 0.9]]), 4, axis=1).repeat(2, axis=0)
    write(tmp_path / "a.gif", [strip("x", gray, [SimpleNamespace(image=gray, confidence=confidence)], (0, 0, 8, 8))])
    with image.open(tmp_path / "a.gif") as frames:
        frames.seek(1)
        grid = np.asarray(frames.convert("L"), float)[26:42, -64:]
    assert grid[:, 40:].mean() > 200 > 100 > grid[4:12, 12:28].mean()
