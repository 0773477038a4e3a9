"""Odd HEIC files: of tests/data, and made of them byte by byte. Red above at the left, blue below at the right, else
gray."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from realsrt.errors import ImageError
from realsrt.io import formats
from realsrt.io import image as imageio

pytestmark = pytest.mark.skipif(not formats.heif_library(), reason="HEIC needs the extra heic (pi-heif)")

DATA = Path(__file__).parents[1] / "data"
RED, GRAY, BLUE = (250, 10, 10), (90, 90, 90), (20, 40, 230)


def of(name: str) -> bytes:
    return (DATA / f"heic_{name}.heic").read_bytes()


def turned(steps: int) -> bytes:
    """The box irot: steps of 90 degrees, anticlockwise."""
    data = bytearray((DATA / "turned8.heic").read_bytes())
    data[data.index(b"irot") + 4] = steps
    return bytes(data)


def inside(name: str, before: bytes, after: bytes) -> bytes:
    data = of(name)
    assert data.count(before) >= 1
    return data.replace(before, after, 1)


def behind_a_box(data: bytes) -> bytes:
    """Another box between the first and the next, which moves what iloc says."""
    size = int.from_bytes(data[:4], "big")
    return data[:size] + b"\0\0\0\x08free" + data[size:]


GOOD = {
    "of odd size": (lambda: of("odd_size"), (33, 47, 3), np.uint8),
    "with a thumbnail": (lambda: of("thumbnail"), (32, 48, 3), np.uint8),
    "full chroma": (lambda: of("full_chroma"), (32, 48, 3), np.uint8),
    "lossless, as RGB": (lambda: of("lossless_rgb"), (32, 48, 3), np.uint8),
    "video levels": (lambda: of("limited"), (32, 48, 3), np.uint8),
    "with a profile": (lambda: of("icc"), (32, 48, 3), np.uint8),
    "of 12 bit": (lambda: of("bits12"), (32, 48, 3), np.uint16),
    "with alpha": (lambda: of("alpha"), (32, 48, 4), np.uint8),
    "of brand mif1 alone": (lambda: of("full_chroma").replace(b"heic", b"mif1"), (32, 48, 3), np.uint8),
    "more behind it": (lambda: of("full_chroma") + b"\0" * 50, (32, 48, 3), np.uint8),
    "data to the end": (
        lambda: inside("full_chroma", of("full_chroma")[of("full_chroma").index(b"mdat") - 4 :][:8], b"\0\0\0\0mdat"),
        (32, 48, 3), np.uint8),
    "colours of P3": (
        lambda: inside("full_chroma", b"colrnclx\0\1\0\x0d", b"colrnclx\0\x0c\0\x0d"), (32, 48, 3), np.uint8),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_odd_files(tmp_path, name):
    make, shape, dtype = GOOD[name]
    (tmp_path / "a.heic").write_bytes(make())
    picture = imageio.read(tmp_path / "a.heic")
    assert picture.notices == ()
    assert picture.pixels.shape == shape
    assert picture.pixels.dtype == dtype
    height, width = shape[:2]
    rgb = picture.rgb_float() * 255
    for row, column, colour in ((0.25, 0.25, RED), (0.25, 0.9, GRAY), (0.9, 0.75, BLUE)):
        assert np.abs(rgb[int(height * row), int(width * column)] - colour).max() < 5, name
    assert picture.code == ((12, 13) if "P3" in name else None)
    assert (picture.icc is not None) == ("P3" in name or "profile" in name)


def test_gray_and_its_alpha(tmp_path):
    (tmp_path / "a.heic").write_bytes(of("gray"))
    assert imageio.read(tmp_path / "a.heic").pixels[[5, 25], [5, 40], 0].tolist() == [82, 56]
    (tmp_path / "a.heic").write_bytes(of("alpha"))
    alpha = imageio.read(tmp_path / "a.heic").pixels[..., 3]
    assert np.abs(alpha[5, [5, 30, 45]].astype(int) - [255, 128, 0]).max() <= 4


@pytest.mark.parametrize("steps", range(4))
def test_every_turn(tmp_path, steps):
    """Turned once, whatever EXIF says; the places of irot 0, in the picture shown by irot 1, 2 and 3."""
    (tmp_path / "a.heic").write_bytes(turned(0))
    plain = imageio.read(tmp_path / "a.heic").pixels
    (tmp_path / "a.heic").write_bytes(turned(steps))
    np.testing.assert_array_equal(imageio.read(tmp_path / "a.heic").pixels, np.rot90(plain, steps))


def test_of_several_pictures_the_primary_one(tmp_path):
    for name, colour in (("two", RED), ("second_first", tuple(255 - c for c in RED))):
        (tmp_path / "a.heic").write_bytes(of(name))
        picture = imageio.read(tmp_path / "a.heic")
        assert np.abs(picture.pixels[5, 5].astype(int) - colour).max() < 8
        assert "of its pictures is used" in picture.notices[0]


BAD = {
    "a JPEG within boxes": lambda: of("full_chroma").replace(b"hvc1", b"jxxx"),
    "no primary picture": lambda: of("full_chroma").replace(b"pitm", b"free"),
    "moved data": lambda: behind_a_box(of("full_chroma")),
    "boxes alone": lambda: of("full_chroma")[:24],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_a_line(tmp_path, name):
    (tmp_path / "a.heic").write_bytes(BAD[name]())
    with pytest.raises(ImageError) as caught:
        imageio.read(tmp_path / "a.heic")
    assert "\n" not in str(caught.value)


def test_a_jpeg_named_heic_is_a_jpeg(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.heic", "JPEG")
    assert imageio.header(tmp_path / "a.heic").format == "JPEG"


def test_nothing_of_one_picture_gets_into_the_next(tmp_path):
    """GPS and the like, of a picture of the same size read before it."""
    first = imageio.read(DATA / "turned8.heic")
    assert "Somebody" in str(first.metadata["exif-ifd0-Artist"][1])
    (tmp_path / "a.heic").write_bytes(turned(0).replace(b"Somebody", b"Another!"))
    assert "Somebody" not in str(imageio.read(tmp_path / "a.heic").metadata)
    blank = of("full_chroma")
    (tmp_path / "b.heic").write_bytes(blank)
    assert "exif-data" not in imageio.read(tmp_path / "b.heic").metadata
    imageio.read(DATA / "heic_icc.heic")
    assert imageio.read(tmp_path / "b.heic").metadata == {}
