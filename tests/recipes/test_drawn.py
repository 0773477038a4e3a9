"""recipes/drawn.py: lettering and rulings over photographs, as a tar that training reads."""

import importlib.util
import io
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

matplotlib = pytest.importorskip("matplotlib", reason="its fonts")
SCRIPT = Path(__file__).parents[2] / "recipes" / "drawn.py"
spec = importlib.util.spec_from_file_location("recipes_drawn", SCRIPT)
drawn = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drawn)
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
PHOTO = Path(__file__).parents[2] / "examples" / "sign.jpg"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(drawn, "SIDE", 128)


def images(path):
    with tarfile.open(path) as tar:
        return {one.name: np.asarray(Image.open(io.BytesIO(tar.extractfile(one).read()))) for one in tar}


def test_a_tar_of_images_the_same_for_a_seed(tmp_path, capsys):
    photos = tmp_path / "photos.tar"
    with tarfile.open(photos, "w") as tar:
        tar.add(PHOTO, "a.jpg")
        tar.add(SCRIPT, "note.txt")  # no image: passed over
    made = []
    for name, seed in (("a.tar", 1), ("b.tar", 1), ("c.tar", 2)):
        words = [tmp_path / name, 3, photos, PHOTO, "--fonts", FONTS, "--seed", seed]
        assert drawn.main(list(map(str, words))) == 0
        made.append(images(tmp_path / name))
    assert "3 images with" in capsys.readouterr().out
    first, again, other = made
    assert [image.shape for image in first.values()] == [(128, 128, 3)] * 3
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("draw", ["lettering", "ruling"])
def test_ink_is_drawn_in_its_colour_and_the_rest_is_left(draw):
    layer = Image.new("RGBA", (1024, 1024), (0, 0, 0, 0))
    if draw == "lettering":
        drawn.lettering(layer, random.Random(4), sorted(FONTS.glob("DejaVuSans*.ttf")), (250, 20, 20))
    else:
        drawn.ruling(layer, random.Random(4), (250, 20, 20))
    pixels = np.asarray(layer)
    inked = pixels[..., 3] > 100
    assert 0.01 < inked.mean() < 0.9
    assert np.abs(pixels[inked][:, :3].astype(int).mean(0) - (250, 20, 20)).max() < 45
    assert (pixels[..., 3] == 0).mean() > 0.1


def test_ink_can_be_told_from_its_ground_and_words_are_of_one_alphabet():
    rng = random.Random(0)
    for _ in range(50):
        ground, ink = drawn.colours(rng)
        assert abs(np.dot(np.subtract(ground, ink), (0.3, 0.59, 0.11))) >= 70
        text = drawn.word(rng).rstrip(".,-:!?/&%")
        assert any(set(text[1:]) <= set(letters) for letters, _ in drawn.ALPHABETS)


def test_what_is_no_photograph_is_said_in_a_line_and_leaves_nothing(tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    for data, words in (("broken.png", "can't be decoded"), ("nowhere", "no such"), ("empty", "no photographs")):
        given = [tmp_path / "a.tar", 1, tmp_path / data, "--fonts", FONTS]
        assert drawn.main(list(map(str, given))) == 2
        said = capsys.readouterr().err
        assert words in said
        assert len(said.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.png", "empty"]


def test_no_fonts_is_said_in_a_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        drawn.main([str(tmp_path / "a.tar"), "1", str(PHOTO), "--fonts", str(tmp_path)])
    assert "no fonts: give a folder" in capsys.readouterr().err
    assert not (tmp_path / "a.tar").exists()
