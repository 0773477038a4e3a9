"""JPEG XL in and out, and odd files of it, put together byte by byte around what imagecodecs encodes."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from realsrt.errors import ImageError
from realsrt.io import image as imageio
from realsrt.io.metadata import colour
from realsrt.io.picture import Picture
from realsrt.io.suffixes import jxl_library

needs_jxl = pytest.mark.skipif(not jxl_library(), reason="JPEG XL needs the extra jxl (imagecodecs)")

Y, X = np.mgrid[0:40, 0:56]
COLOUR = np.stack([4 * X, 6 * Y, X + Y], axis=2).astype(np.uint8)
DEEP = COLOUR.astype(np.uint16) * 257
ALPHA = (255 - 4 * X).astype(np.uint8)
BLOB = pyvips.GValue.blob_type


def coded(array: np.ndarray, **options) -> bytes:
    import imagecodecs

    return imagecodecs.jpegxl_encode(array, **{"lossless": True, **options})


def transcoded(image: Image.Image, **options) -> bytes:
    import imagecodecs

    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, **options)
    return imagecodecs.jpegxl_encode_jpeg(file.getvalue())


def box(kind: bytes, data: bytes, size: int | None = None) -> bytes:
    return struct.pack(">I", len(data) + 8 if size is None else size) + kind + data


def boxed(*boxes: bytes) -> bytes:
    return b"\0\0\0\x0cJXL \r\n\x87\n" + box(b"ftyp", b"jxl \0\0\0\0jxl ") + b"".join(boxes)


def exif(maker: str = "Maker") -> bytes:
    block = Image.Exif()
    block[0x010F], block[0x0112] = maker, 6  # which the codestream's own orientation overrules
    return bytes(4) + block.tobytes().removeprefix(b"Exif\0\0")


def packed(kind: bytes, data: bytes) -> bytes:
    import imagecodecs

    return box(b"brob", kind + bytes(imagecodecs.brotli_encode(data)))


def premultiplied() -> bytes:
    """The bit of an extra channel that says so, set by hand: the channel is not as by default, and has 8 bit."""
    stream = coded(np.dstack([COLOUR // 2, np.full_like(ALPHA, 128)]))
    number, end = int.from_bytes(stream, "little"), 8 * len(stream)
    before = 16 + 1 + 5 + 3 + 5 + 1 + 1 + 1 + 2 + 1 + 2  # to the channel's description
    assert number >> before & 1
    rest, behind = number >> (before + 1), number & ((1 << before) - 1)
    described = 0b1_00_00_00_00_0 << 1 | 0  # alpha, whole numbers of 8 bit, full size, no name, associated
    head = behind | described << before | (rest & 0b11111) << (before + 11)
    return (
        head.to_bytes(-(-(before + 16) // 8), "little") + (number >> 8 * -(-(before + 6) // 8)).to_bytes(end, "little")
    ).rstrip(b"\0")


RED = np.zeros((40, 56, 3), np.uint8)
RED[:20, :28, 0] = 250
TURNED = Image.Exif()
TURNED[0x0112] = 6

ODD = {
    "bare codestream": (lambda: coded(COLOUR), COLOUR, 0),
    "container": (lambda: coded(COLOUR, usecontainer=True), COLOUR, 0),
    "in two parts": (
        lambda: boxed(box(b"jxlp", b"\0\0\0\0" + coded(COLOUR)[:60]), box(b"jxlp", b"\x80\0\0\1" + coded(COLOUR)[60:])),
        COLOUR, 0),
    "last box to the end": (lambda: boxed(box(b"jxlc", coded(COLOUR), 0)), COLOUR, 0),
    "wide box": (lambda: boxed(
        struct.pack(">I4sQ", 1, b"jxlc", len(coded(COLOUR)) + 16) + coded(COLOUR)), COLOUR, 0),
    "unknown boxes": (lambda: boxed(box(b"junk", b"abc"), box(b"free", b""), box(b"jxlc", coded(COLOUR))), COLOUR, 0),
    "1 bit": (lambda: coded(COLOUR >> 7, bitspersample=1), (COLOUR >> 7) * 255, 0),
    "5 bit": (lambda: coded(COLOUR >> 3, bitspersample=5), np.rint((COLOUR >> 3) * (255 / 31)).astype(np.uint8), 0),
    "10 bit": (lambda: coded(DEEP >> 6, bitspersample=10), np.rint((DEEP >> 6) * (65535 / 1023)).astype(np.uint16), 0),
    "12 bit": (lambda: coded(DEEP >> 4, bitspersample=12), np.rint((DEEP >> 4) * (65535 / 4095)).astype(np.uint16), 0),
    "half floats": (lambda: coded((COLOUR / 255).astype(np.float16)), (COLOUR / 255).astype(np.float32), 1e-3),
    "floats": (lambda: coded((COLOUR / 255).astype(np.float32)), (COLOUR / 255).astype(np.float32), 0),
    "gray": (lambda: coded(COLOUR[..., 0]), COLOUR[..., :1], 0),
    "gray with alpha": (lambda: coded(np.dstack([COLOUR[..., 0], ALPHA])), np.dstack([COLOUR[..., :1], ALPHA]), 0),
    "16 bit with alpha": (
        lambda: coded(np.dstack([COLOUR, ALPHA]).astype(np.uint16) * 257),
        np.dstack([COLOUR, ALPHA]).astype(np.uint16) * 257, 0),
    "one pixel": (lambda: coded(COLOUR[:1, :1]), COLOUR[:1, :1], 0),
    "size by ratio": (lambda: coded(COLOUR[:30, :40]), COLOUR[:30, :40], 0),
    "a JPEG within": (lambda: transcoded(Image.fromarray(RED)), RED, 2),
    "a turned JPEG within": (
        lambda: transcoded(Image.fromarray(np.ascontiguousarray(np.rot90(RED))), exif=TURNED), RED, 2),
    "metadata packed": (
        lambda: boxed(packed(b"Exif", exif()), packed(b"xml ", b"<a/>"), box(b"jxlc", coded(COLOUR))), COLOUR, 0),
    "metadata behind": (lambda: boxed(box(b"jxlc", coded(COLOUR)), box(b"Exif", exif())), COLOUR, 0),
}  # fmt: skip

BAD = {
    "cut": (lambda: coded(COLOUR)[:-10], "damaged or cut short"),
    "header alone": (lambda: coded(COLOUR)[:14], "damaged or cut short"),
    "boxes without picture": (lambda: boxed(box(b"Exif", exif())), "damaged or cut short"),
    "a box beyond the end": (lambda: boxed(box(b"jxlc", coded(COLOUR)[:50], 5000)), "damaged or cut short"),
    "nothing": (lambda: b"\xff\x0a", "damaged or cut short"),
}


@needs_jxl
@pytest.mark.parametrize("name", ODD)
def test_odd_files(tmp_path, name):
    make, wanted, off = ODD[name]
    (tmp_path / "a.jxl").write_bytes(make())
    picture = imageio.read(tmp_path / "a.jxl")
    assert picture.notices == ()
    assert picture.pixels.shape == wanted.shape
    assert picture.pixels.dtype == wanted.dtype
    assert np.abs(picture.pixels.astype(float) - wanted).mean() <= off
    assert (imageio.header(tmp_path / "a.jxl").width, picture.orientation) == (wanted.shape[1], 1)
    if name in ("10 bit", "12 bit"):
        assert f"{name[:2]}-bit samples are rounded to 8 bit" in imageio.write(tmp_path / "a.jpg", picture)[0]
    if name.startswith("metadata"):
        assert "Maker" in str(picture.metadata["exif-ifd0-Make"][1])


@needs_jxl
@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    make, word = BAD[name]
    (tmp_path / "a.jxl").write_bytes(make())
    with pytest.raises(ImageError, match=word) as caught:
        imageio.read(tmp_path / "a.jxl")
    assert "\n" not in str(caught.value)


@needs_jxl
def test_size_animation_and_packed_bombs(tmp_path):
    (tmp_path / "a.jxl").write_bytes(coded(np.stack([COLOUR, COLOUR[::-1]])))
    picture = imageio.read(tmp_path / "a.jxl")
    np.testing.assert_array_equal(picture.pixels, COLOUR)
    assert "only the first of its frames" in picture.notices[0]
    with pytest.raises(ImageError, match="above the limit"):
        imageio.read(tmp_path / "a.jxl", max_pixels=2000)
    (tmp_path / "b.jxl").write_bytes(boxed(packed(b"xml ", bytes(2**26)), box(b"jxlc", coded(COLOUR))))
    assert "xmp-data" not in imageio.read(tmp_path / "b.jxl").metadata


@needs_jxl
def test_colours_multiplied_by_alpha(tmp_path):
    (tmp_path / "a.jxl").write_bytes(premultiplied())
    picture = imageio.read(tmp_path / "a.jxl")
    assert np.abs(picture.pixels[..., :3].astype(int) - (COLOUR // 2).astype(int) * 255 // 128).max() <= 1
    assert (picture.pixels[..., 3] == 128).all()


@needs_jxl
@pytest.mark.parametrize("quality", [100, 90, None])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_there_and_back(tmp_path, quality, dtype, bands):
    full = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = (np.dstack([COLOUR, ALPHA])[..., [[0], [0, 3], [0, 1, 2], [0, 1, 2, 3]][bands - 1]] / 255 * full).astype(
        dtype
    )
    assert imageio.write(tmp_path / "a.jxl", Picture(pixels), quality=quality) == ()
    picture = imageio.read(tmp_path / "a.jxl")
    assert (picture.pixels.dtype, picture.pixels.shape) == (pixels.dtype, pixels.shape)
    off = np.abs(picture.pixels.astype(float) - pixels) / full * 255
    assert off.max() == 0 if quality == 100 or dtype == np.float32 else 0 < off.mean() < 1.5
    assert picture.has_alpha is False or (off[..., -1] == 0).all()


CODES = {"p3": (12, 13), "bt.2020": (9, 1), "linear": (1, 8), "pq": (9, 16), "hlg": (9, 18)}


@needs_jxl
@pytest.mark.parametrize("quality", [100, 95])
@pytest.mark.parametrize("name", CODES)
def test_code_points_are_kept(tmp_path, name, quality):
    code = CODES[name]
    icc = colour.of_code(*code).icc
    fields = {"cicp": (BLOB, bytes(code)), **({"icc-profile-data": (BLOB, icc)} if icc else {})}
    assert imageio.write(tmp_path / "a.jxl", Picture(DEEP, fields), quality=quality) == ()
    picture = imageio.read(tmp_path / "a.jxl")
    assert picture.code == code
    assert bytes(picture.icc or b"") == icc
    assert np.abs(picture.pixels / 257 - COLOUR).mean() <= (0 if quality == 100 else 1)


ADOBE = colour.profile((0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), (2.19921875,), "Like Adobe's")
GRAY_18 = colour.profile((0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06), (1.8,), "Gray", gray=True)
PROFILES = {
    "srgb": (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), None, ""),
    "p3": (colour.of_code(12, 13).icc, (12, 13), ""), "adobe": (ADOBE, (9, 13), "BT.2020 now, and looks the same"),
    "gray": (GRAY_18, None, "sRGB now, and looks the same"),
}  # fmt: skip


@needs_jxl
@pytest.mark.parametrize("quality", [100, 95])
@pytest.mark.parametrize("name", PROFILES)
def test_profiles_become_what_looks_the_same(tmp_path, name, quality):
    icc, code, told = PROFILES[name]
    muted = (90 + COLOUR * 0.4).astype(np.uint8)[..., : 1 if name == "gray" else 3]
    notices = imageio.write(
        tmp_path / "a.jxl", Picture(muted, {"icc-profile-data": (BLOB, icc)}), quality=quality
    )  # fmt: skip
    assert [told in notice for notice in notices] == [True] * bool(told)
    picture = imageio.read(tmp_path / "a.jxl")
    assert picture.code == code
    wanted = seen(muted, icc)
    assert np.abs(seen(picture.pixels, picture.icc) - wanted).mean() <= (0.5 if quality == 100 else 1)


def seen(pixels: np.ndarray, icc: bytes | None) -> np.ndarray:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if icc:
        screen = ImageCms.createProfile("sRGB")
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        image = ImageCms.profileToProfile(
            image, source, screen, ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB"
        )
    assert image is not None
    return np.asarray(image.convert("RGB"), float)


def test_without_its_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("realsrt.io.opening.jxl_library", lambda: False)
    monkeypatch.setattr("realsrt.io.formats.jxl_library", lambda: False)
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a" + bytes(60))
    with pytest.raises(ImageError, match=r"pip install '\.\[jxl\]'"):
        imageio.read(tmp_path / "a.jxl")
    with pytest.raises(ImageError, match=r"pip install '\.\[jxl\]'"):
        imageio.write(Path(tmp_path / "b.jxl"), Picture(COLOUR))
