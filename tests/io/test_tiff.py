"""TIFF files of kinds that scanners, microscopes and photo programs write."""

import contextlib
import struct

import numpy as np
import pytest
import pyvips
from PIL import Image

from realsrt.errors import ImageError
from realsrt.io import image as imageio


def ramp() -> np.ndarray:
    return (np.mgrid[0:16, 0:40][1][..., None] * np.array([5, 3, 2])).astype(np.uint8)


@pytest.mark.parametrize("kind", ["char", "short", "int", "uint"])
def test_whole_numbers_without_a_known_range_are_refused(tmp_path, kind):
    """Clipping them would blacken or whiten them without a word."""
    values = pyvips.Image.new_from_array(ramp()).cast(kind)
    values.tiffsave(str(tmp_path / "a.tif"))
    with pytest.raises(ImageError, match="whose range is not known; scale them to 8 or 16 bit"):
        imageio.read(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["lab", "labs"])
def test_lab_looks_the_same(tmp_path, kind):
    image = pyvips.Image.new_from_array(ramp()).copy(interpretation="srgb").colourspace(kind)
    image.tiffsave(str(tmp_path / "a.tif"))
    picture = imageio.read(tmp_path / "a.tif")
    assert f"converted from {kind} to RGB" in picture.notices[0]
    assert np.abs(picture.rgb_float() * 255 - ramp()).mean() < 1


@pytest.mark.parametrize(
    "make",
    [
        lambda path: Image.fromarray(ramp()).convert("LAB").save(path),
        lambda path: Image.fromarray(ramp()).save(path, compression="zstd"),
        lambda path: Image.fromarray(ramp()).save(path, compression="lzma"),
        lambda path: pyvips.Image.new_from_array(ramp()).cast("complex").tiffsave(str(path)),
    ],
)
def test_what_this_libvips_cannot_do_is_not_called_damaged(tmp_path, make):
    path = tmp_path / "a.tif"
    try:
        make(path)
    except (OSError, pyvips.Error):
        pytest.skip("it cannot be written here")
    with contextlib.suppress(ImageError):  # another libvips may read it
        assert imageio.read(path).pixels.shape == (16, 40, 3)
        return
    with pytest.raises(ImageError, match="holds what cannot be read here"):
        imageio.read(path)


@pytest.mark.parametrize(
    ("compression", "mode", "off"),
    [
        ("tiff_lzw", "RGB", 0), ("packbits", "RGB", 0), ("tiff_adobe_deflate", "RGB", 0), ("jpeg", "RGB", 4),
        ("group4", "1", 0), ("group3", "1", 0), (None, "P", 60), (None, "1", 0), (None, "I;16", 1),
        (None, "LA", 0),
    ],
)  # fmt: skip
def test_compressions_and_kinds(tmp_path, compression, mode, off):
    image = Image.fromarray(ramp())
    image = Image.fromarray(ramp()[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.tif", compression=compression)
    picture = imageio.read(tmp_path / "a.tif")
    if mode == "I;16":
        np.testing.assert_array_equal(picture.pixels[..., 0], ramp()[..., 0].astype(np.uint16) * 257)
    else:
        wanted = np.asarray(image.convert("RGB"), float)
        assert np.abs(picture.rgb_float() * 255 - wanted).mean() <= off


def test_white_can_be_0(tmp_path):
    grays = pyvips.Image.new_from_array(ramp()[..., :1])
    grays.tiffsave(str(tmp_path / "a.tif"), miniswhite=True)
    np.testing.assert_array_equal(imageio.read(tmp_path / "a.tif").pixels, ramp()[..., :1])


def test_the_large_picture_of_a_pyramid(tmp_path):
    pyvips.Image.new_from_array(ramp()).tiffsave(str(tmp_path / "a.tif"), tile=True, pyramid=True, subifd=True)
    np.testing.assert_array_equal(imageio.read(tmp_path / "a.tif").pixels, ramp())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 2])
def test_associated_alpha_is_taken_out_of_the_colours(tmp_path, order, kind):
    """ExtraSamples 1 is alpha that the colours are multiplied by, 2 is not (TIFF 6.0, section 18)."""
    colour = np.array([[200, 100, 40]], np.uint8)
    stored = (colour * (0.5 if kind == 1 else 1)).astype(np.uint8)
    pixels = np.concatenate([stored, [[128]]], axis=1).astype(np.uint8).tobytes() * 4
    tags = [
        (0x100, 3, 1, 4), (0x101, 3, 1, 1), (0x102, 3, 4, 200), (0x103, 3, 1, 1), (0x106, 3, 1, 2), (0x111, 4, 1, 300),
        (0x115, 3, 1, 4), (0x116, 3, 1, 1), (0x117, 4, 1, 16), (0x11C, 3, 1, 1), (0x152, 3, 1, kind),
    ]  # fmt: skip
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    for tag, form, count, value in tags:
        field = struct.pack(order + "HH", value, 0) if form == 3 and count == 1 else struct.pack(order + "I", value)
        out += struct.pack(order + "HHI", tag, form, count) + field
    out = (out + bytes(4)).ljust(200, b"\0") + struct.pack(order + "4H", 8, 8, 8, 8)
    (tmp_path / "a.tif").write_bytes(out.ljust(300, b"\0") + pixels)
    back = imageio.read(tmp_path / "a.tif").pixels[0, 0]
    assert np.abs(back[:3].astype(int) - colour[0]).max() <= 2, back
    assert back[3] == 128
