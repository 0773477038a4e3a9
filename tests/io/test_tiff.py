"""TIFF files of kinds that scanners, microscopes and photo programs write."""

import contextlib
import itertools
import struct

import numpy as np
import pytest
import pyvips
from PIL import Image, TiffImagePlugin

from realsrt.errors import ImageError
from realsrt.io import image as imageio


def ramp() -> np.ndarray:
    return (np.mgrid[0:16, 0:40][1][..., None] * np.array([5, 3, 2])).astype(np.uint8)


def ycbcr(size: tuple[int, int] = (40, 16)) -> np.ndarray:
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).convert("YCbCr"))


def rgb(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels, "YCbCr").convert("RGB"), int)


def write(path, parts: list[bytes], tags, order: str = "<", big: bool = False) -> None:
    """A TIFF of 40x16 in these strips or tiles, three samples of 8 bit; `tags` by number: type and values."""
    form, inline, entry, head = ("Q", 8, 20, 16) if big else ("I", 4, 12, 8)
    tiled = 0x142 in tags
    tags = {
        0x100: (3, 40), 0x101: (3, 16), 0x102: (3, 8, 8, 8), 0x103: (3, 1), 0x106: (3, 6), 0x115: (3, 3),
        0x116: (3, 16), 0x144 if tiled else 0x111: (4, *(0 for _ in parts)),
        0x145 if tiled else 0x117: (4, *(len(part) for part in parts)), **tags,
    }  # fmt: skip
    where = head + (8 if big else 2) + len(tags) * entry + inline
    places = [where + 500, *(where + 500 + end for end in itertools.accumulate(len(part) for part in parts))]
    tags[0x144 if tiled else 0x111] = (4, *places[:-1])
    rows, tail = b"", b""
    for tag, (kind, *values) in sorted(tags.items()):
        data = struct.pack(order + str(len(values)) + {3: "H", 4: "I", 5: "I", 11: "f"}[kind], *values)
        count = len(values) // 2 if kind == 5 else len(values)
        field = data if len(data) <= inline else struct.pack(order + form, where + len(tail))
        tail += data if len(data) > inline else b""
        rows += struct.pack(order + "HH" + form, tag, kind, count) + field.ljust(inline, b"\0")
    start = (
        struct.pack(order + "HHHQQ", 43, 8, 0, 16, len(tags)) if big else struct.pack(order + "HIH", 42, 8, len(tags))
    )
    out = {"<": b"II", ">": b"MM"}[order] + start + rows + bytes(inline) + tail.ljust(500, b"\0")
    path.write_bytes(out + b"".join(parts))


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
    pixels = np.concatenate([stored, [[128]]], axis=1).astype(np.uint8).tobytes() * 40 * 16
    tags = {0x102: (3, 8, 8, 8, 8), 0x106: (3, 2), 0x115: (3, 4), 0x152: (3, kind)}
    write(tmp_path / "a.tif", [pixels], tags, order)
    back = imageio.read(tmp_path / "a.tif").pixels[0, 0]
    assert np.abs(back[:3].astype(int) - colour[0]).max() <= 2, back
    assert back[3] == 128


@pytest.mark.parametrize(
    ("compression", "off"),
    [(None, 1), ("tiff_lzw", 1), ("tiff_adobe_deflate", 1), ("packbits", 1), ("jpeg", 30)],
)
def test_ycbcr_becomes_rgb(tmp_path, compression, off):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x212] = (1, 1)
    image, path = Image.fromarray(ycbcr(), "YCbCr"), tmp_path / "a.tif"
    image.save(path, compression=compression, tiffinfo=tags, save_all=True, append_images=[image.rotate(180)])
    picture = imageio.read(path)
    assert np.abs(picture.pixels - rgb(ycbcr())).max() <= off
    assert "only the first of its 2 pages" in picture.notices[0]
    assert imageio.header(path).pixel_bytes == 3


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", ["strip", "strips", "tiles"])
def test_ycbcr_however_it_lies_in_the_file(tmp_path, layout, order, big):
    pixels, tags, parts = ycbcr(), {}, [ycbcr().tobytes()]
    if layout == "strips":
        tags, parts = {0x116: (3, 5)}, [pixels[row : row + 5].tobytes() for row in range(0, 16, 5)]
    elif layout == "tiles":
        wide = np.pad(pixels, ((0, 0), (0, 8), (0, 0)))
        tags = {0x142: (3, 16), 0x143: (3, 16)}
        parts = [wide[:, column : column + 16].tobytes() for column in range(0, 48, 16)]
    write(tmp_path / "a.tif", parts, {0x212: (3, 1, 1), **tags}, order, big)
    assert np.abs(imageio.read(tmp_path / "a.tif").pixels - rgb(pixels)).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_ycbcr_by_its_own_coefficients_and_range(tmp_path, subsampling, order):
    """BT.709 within 16…235 and 16…240, worked out by hand; the subsampled one is libtiff's."""
    red = np.array([200, 30, 40])
    y = red @ [0.2125, 0.7154, 0.0721]
    chroma = [(red[2] - y) / (2 - 2 * 0.0721), (red[0] - y) / (2 - 2 * 0.2125)]
    codes = [16 + y * 219 / 255, *(128 + value * 112 / 127 for value in chroma)]
    luma, *chroma = (round(code) for code in codes)
    across, down = subsampling
    data = bytes([luma] * (across * down) + chroma) * (40 * 16 // (across * down))
    ranges = (5, *(number for code in (16, 235, 128, 240, 128, 240) for number in (code, 1)))
    tags = {0x211: (5, 2125, 10000, 7154, 10000, 721, 10000), 0x212: (3, *subsampling), 0x214: ranges}
    write(tmp_path / "a.tif", [data], tags, order)
    assert np.abs(imageio.read(tmp_path / "a.tif").pixels[..., :3] - red).max() <= 2


@pytest.mark.parametrize(
    ("tags", "what"),
    [
        ({0x102: (3, 16, 16, 16)}, "YCbCr other than three interleaved samples of 8 bit"),
        ({0x102: (3, 16, 16, 16), 0x212: (3, 2, 2)}, "YCbCr other than three interleaved samples of 8 bit"),
        ({0x102: (3, 8, 8, 8, 8), 0x115: (3, 4), 0x152: (3, 2)}, "YCbCr other than three interleaved samples of 8 bit"),
        ({0x11C: (3, 2)}, "YCbCr other than three interleaved samples of 8 bit"),
        ({0x153: (3, 2, 2, 2)}, "YCbCr other than three interleaved samples of 8 bit"),
        ({0x211: (5, 0, 0, 0, 0, 0, 0)}, "YCbCr whose coefficients or range make no sense"),
        ({0x211: (11, 0.3, float("nan"), 0.1)}, "YCbCr whose coefficients or range make no sense"),
        ({0x214: (3, 0, 0, 128, 255, 128, 255)}, "YCbCr whose coefficients or range make no sense"),
        ({0x214: (3, 0, 255)}, "YCbCr whose coefficients or range make no sense"),
        ({0x106: (3, 9)}, "colours stored as ICCLab"),
        ({0x106: (3, 10)}, "colours stored as ITULab"),
        ({0x106: (3, 32844)}, "colours stored as LogL"),
        ({0x106: (3, 32845)}, "colours stored as LogLuv"),
        ({0x106: (3, 99)}, "colours stored as photometric 99"),
        ({0x106: (11, float("nan"))}, "colours stored as photometric nan"),
    ],
)
def test_colours_that_are_not_known_are_refused(tmp_path, tags, what):
    write(tmp_path / "a.tif", [bytes(40 * 16 * 8)], {0x212: (3, 1, 1), **tags})
    with pytest.raises(ImageError, match=rf"a\.tif: holds what cannot be read here \({what}\); convert it first"):
        imageio.read(tmp_path / "a.tif")


def test_logluv_of_sgi_is_read_by_libvips(tmp_path):
    """Gray 128: its light in steps of 1/256 of a factor of 2, the chromaticity of equal energy in steps of 1/410."""
    light = round(256 * (np.log2(0.2158) + 64))
    row = b"".join(bytes([128 + 38, value]) for value in (light >> 8, light & 255, 410 * 4 // 19, 410 * 9 // 19))
    write(tmp_path / "a.tif", [row * 16], {0x103: (3, 34676), 0x106: (3, 32845)})
    assert np.abs(imageio.read(tmp_path / "a.tif").pixels.astype(int) - 128).max() <= 2
