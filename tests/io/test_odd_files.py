"""Odd but valid files, and damaged ones, of each family of formats, against what Pillow makes of them.

Those of TIFF are in test_tiff.py, of phones in test_phones.py, of JPEG XL in test_jxl.py.
"""

import io
import struct
import zlib

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageOps

from realsrt.errors import ImageError
from realsrt.io import image as imageio

Y, X = np.mgrid[0:40, 0:56]
COLOUR = np.stack([4 * X, 6 * Y, X + Y], axis=2).astype(np.uint8)
SEEN = Image.fromarray(COLOUR)
THROUGH = Image.fromarray(np.concatenate([COLOUR, (255 - 4 * X)[..., None].astype(np.uint8)], axis=2))
FLIPPED = Image.fromarray(COLOUR[::-1].copy())
TURNED = Image.Exif()
TURNED[0x0112] = 6
EXACT, CODED = 0.01, 2.0  # mean difference in levels: the same numbers; another decoder of a lossy format


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, kind: int, raw: bytes, *more: tuple[bytes, bytes]) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    extra = b"".join(chunk(*one) for one in more)
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def exif_chunk(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return chunk(b"eXIf", block.tobytes()[6:])


COLOURS = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 0])
CLEAR_2 = b"!\xf9\x04\1\0\0\2\0"


def gif(
    screen=(4, 3), frame=(0, 0, 4, 3), shared=COLOURS, own=b"", extra=b"", version=b"GIF89a", interlaced=0
) -> bytes:
    """Bars of four colours, put together block by block; every third code clears, so that none is longer than 3 bit."""
    head = version + struct.pack("<HHBBB", *screen, 0x81 if shared else 0, 0, 0) + shared
    codes = [code for n in range(0, 12, 2) for code in (4, n % 4, (n + 1) % 4)] + [5]
    data = sum(code << 3 * n for n, code in enumerate(codes)).to_bytes(8, "little")
    block = b"," + struct.pack("<4HB", *frame, (0x81 if own else 0) | interlaced) + own
    return head + extra + block + b"\x02\x08" + data + b"\0;"


PNG, JPEG = saved(SEEN, "PNG"), saved(SEEN, "JPEG", quality=95)
WEBP, GIF = saved(SEEN, "WEBP", lossless=True), saved(SEEN.quantize(64), "GIF")
AVIF = saved(SEEN, "AVIF", quality=100)
SOF = JPEG.index(b"\xff\xc0")


def long_profile() -> bytes:
    """A sound ICC profile with 150 KB behind it: in JPEG it takes several segments."""
    image = pyvips.Image.new_from_array(COLOUR).copy(interpretation="srgb").icc_transform("p3", input_profile="srgb")
    return saved(SEEN, "JPEG", quality=95, icc_profile=bytes(image.get("icc-profile-data")) + bytes(150_000))


GOOD = {
    "png interlaced": (lambda: pyvips.Image.new_from_array(COLOUR).pngsave_buffer(interlace=True), EXACT),
    "png of 1 bit": (lambda: png(16, 2, 1, 0, b"\0\x1b\x6c\0\xe4\x27"), EXACT),
    "png of 2 bit": (lambda: png(8, 2, 2, 0, b"\0\x1b\x6c\0\xe4\x27"), EXACT),
    "png of 4 bit": (lambda: png(4, 2, 4, 0, b"\0\x1b\x6c\0\xe4\x27"), EXACT),
    "png, palette with alpha": (lambda: saved(THROUGH.quantize(32), "PNG"), EXACT),
    "png, a gray that is clear": (lambda: png(4, 1, 8, 0, b"\0\x10\x20\x30\x40", (b"tRNS", b"\0\x20")), EXACT),
    "png, a colour that is clear": (lambda: png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", (b"tRNS", b"\0\1\0\2\0\3")), EXACT),
    "png with more behind it": (lambda: PNG + b"garbage" * 100, EXACT),
    "png without its end": (lambda: PNG[:-12], EXACT),
    "png, empty pixel chunk": (lambda: PNG[:-12] + chunk(b"IDAT", b"") + chunk(b"IEND", b""), EXACT),
    "png, significant bits": (lambda: PNG[:33] + chunk(b"sBIT", b"\5\6\5") + PNG[33:], EXACT),
    "png, EXIF behind the pixels": (lambda: PNG[:-12] + exif_chunk(6) + chunk(b"IEND", b""), EXACT),
    "jpeg of RGB": (lambda: saved(SEEN, "JPEG", quality=95, keep_rgb=True), CODED),
    "jpeg with restarts": (lambda: saved(SEEN, "JPEG", quality=95, restart_marker_blocks=2), CODED),
    "jpeg 4:1:1": (lambda: saved(SEEN, "JPEG", quality=95, subsampling="4:1:1"), CODED),
    "jpeg, fill bytes": (lambda: JPEG[:2] + b"\xff\xff\xff" + JPEG[2:], CODED),
    "jpeg, orientation 9": (lambda: saved(SEEN, "JPEG", exif=TURNED.tobytes().replace(b"\0\6", b"\0\x09")), CODED),
    "jpeg, orientation 0": (lambda: saved(SEEN, "JPEG", exif=TURNED.tobytes().replace(b"\0\6", b"\0\0")), CODED),
    "jpeg, profile in parts": (long_profile, CODED),
    "jpeg with a comment": (lambda: saved(SEEN, "JPEG", quality=95, comment=b"hello"), CODED),
    "jpeg of gray, progressive": (lambda: saved(SEEN.convert("L"), "JPEG", progressive=True), CODED),
    "jpeg turned": (lambda: saved(SEEN, "JPEG", quality=95, exif=TURNED), CODED),
    "webp, lossless with alpha": (lambda: saved(THROUGH, "WEBP", lossless=True, exact=True), EXACT),
    "webp, lossy with alpha": (lambda: saved(THROUGH, "WEBP", quality=90), CODED),
    "webp turned": (lambda: saved(THROUGH, "WEBP", quality=90, exif=TURNED), CODED),
    "webp with more behind it": (lambda: WEBP + b"xyz" * 50, EXACT),
    "webp of one pixel": (lambda: saved(SEEN.crop((0, 0, 1, 1)), "WEBP"), CODED),
    "webp with XMP": (lambda: saved(SEEN, "WEBP", lossless=True, xmp=b"<a/>"), EXACT),
    "webp of gray": (lambda: saved(SEEN.convert("L"), "WEBP", lossless=True), EXACT),
    "gif, interlaced": (lambda: saved(SEEN.quantize(64), "GIF", interlace=1), EXACT),
    "gif without its end": (lambda: GIF[:-1], EXACT),
    "gif with more behind it": (lambda: GIF + b"abc" * 30, EXACT),
    "gif with a comment": (lambda: saved(SEEN.quantize(64), "GIF", comment=b"hello"), EXACT),
    "gif of two colours": (lambda: saved(SEEN.convert("1"), "GIF"), EXACT),
    "gif of gray": (lambda: saved(SEEN.convert("L"), "GIF"), EXACT),
    "gif, own colours only": (lambda: gif(shared=b"", own=COLOURS), EXACT),
    "gif, own colours first": (lambda: gif(shared=COLOURS[::-1], own=COLOURS), EXACT),
    "gif of 1987": (lambda: gif(version=b"GIF87a"), EXACT),
    "gif, a colour that is clear": (lambda: gif(extra=CLEAR_2), EXACT),
    "gif, clear colour beyond": (lambda: gif(extra=CLEAR_2[:6] + b"\xc8\0"), EXACT),
    "gif, clear, on a larger screen": (lambda: gif((8, 6), (2, 1, 4, 3), extra=CLEAR_2), EXACT),
    "gif larger than its screen": (lambda: gif((2, 2)), EXACT),
    "gif on a screen of nothing": (lambda: gif((0, 0)), EXACT),
    "gif in lines, of three": (lambda: gif(interlaced=0x40), EXACT),
    "gif with extensions": (
        lambda: gif(extra=b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0!\xfe\5hello\0!\1\x0c" + bytes(13)), EXACT),
    "avif with alpha": (lambda: saved(THROUGH, "AVIF", quality=100, subsampling="4:4:4"), CODED),
    "avif, premultiplied": (
        lambda: saved(THROUGH, "AVIF", quality=100, subsampling="4:4:4", alpha_premultiplied=True), CODED),
    "avif of gray": (lambda: saved(SEEN.convert("L"), "AVIF", quality=100), CODED),
    "avif, limited range": (lambda: saved(SEEN, "AVIF", quality=100, range="limited", subsampling="4:4:4"), CODED),
    "avif 4:2:2": (lambda: saved(SEEN, "AVIF", quality=100, subsampling="4:2:2"), CODED),
    "avif turned": (lambda: saved(SEEN, "AVIF", quality=100, exif=TURNED), CODED),
    "avif with more behind it": (lambda: AVIF + b"x" * 40, CODED),
    "avif of odd size": (lambda: saved(SEEN.crop((0, 0, 31, 17)), "AVIF", quality=100), CODED),
}  # fmt: skip

SAID = {
    "png, animated": (lambda: saved(SEEN, "PNG", save_all=True, append_images=[FLIPPED]), "first of its frames"),
    "webp, animated": (lambda: saved(SEEN, "WEBP", save_all=True, append_images=[FLIPPED]), "first of its 2"),
    "gif, animated": (
        lambda: saved(SEEN.quantize(64), "GIF", save_all=True, append_images=[FLIPPED.quantize(64)]), "first of its 2"),
    "avif, animated": (
        lambda: saved(SEEN, "AVIF", quality=100, save_all=True, append_images=[FLIPPED]), "first of its pictures"),
    "jpeg with errors": (lambda: JPEG.replace(b"\n", b"\r\n"), "has errors in its data"),
    "jpeg of CMYK": (lambda: saved(SEEN.convert("CMYK"), "JPEG"), "converted from CMYK"),
}  # fmt: skip

BAD = {
    "png of a critical kind": (lambda: PNG[:33] + chunk(b"ABCD", b"x") + PNG[33:], "damaged"),
    "png of Apple's": (lambda: PNG[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + PNG[8:], "iPhone apps"),
    "png, cut": (lambda: PNG[: len(PNG) // 2], "damaged or cut short"),
    "jpeg of 12 bit": (lambda: JPEG[: SOF + 4] + b"\x0c" + JPEG[SOF + 5 :], "cannot be read here"),
    "jpeg without a height": (lambda: JPEG[: SOF + 5] + b"\0\0" + JPEG[SOF + 7 :], "cannot be read here"),
    "jpeg, lossless": (lambda: JPEG[: SOF + 1] + b"\xc3" + JPEG[SOF + 2 :], "cannot be read here"),
    "jpeg behind a line": (lambda: b"\n" + JPEG, "not a picture"),
    "webp, cut": (lambda: WEBP[:-20], "damaged or cut short"),
    "webp, longer than it is": (lambda: WEBP[:4] + struct.pack("<I", len(WEBP) + 100) + WEBP[8:], "damaged"),
    "webp of nothing": (lambda: b"RIFF\x04\0\0\0WEBP", "damaged"),
    "gif, cut": (lambda: GIF[:-30], "damaged or cut short"),
    "gif of colours only": (lambda: gif()[:25] + b";", "damaged"),
    "gif of another year": (lambda: gif(version=b"GIF88a"), "not a picture"),
    "gif of nothing": (lambda: b"GIF89a" + bytes(20), "damaged"),
    "avif, cut": (lambda: AVIF[:-200], "damaged or cut short"),
    "avif of boxes": (lambda: AVIF[:32] + b"\0\0\0\0meta", "damaged"),
}


@pytest.mark.parametrize("name", GOOD)
def test_odd_files_look_as_elsewhere(tmp_path, name):
    make, close = GOOD[name]
    path = tmp_path / f"a.{name[:4].strip(', ')}"
    path.write_bytes(make())
    picture = imageio.read(path)
    assert picture.notices == ()
    with Image.open(path) as image:
        theirs = np.asarray(ImageOps.exif_transpose(image).convert("RGBA"), float)
    alpha = picture.alpha_float()
    seen = theirs[..., 3] > 0
    assert picture.pixels.shape[:2] == seen.shape
    assert np.abs((1 if alpha is None else alpha) * 255 - theirs[..., 3]).mean() <= close
    assert np.abs(picture.rgb_float() * 255 - theirs[..., :3])[seen].mean() <= close
    imageio.write(tmp_path / "out.png", picture)
    np.testing.assert_array_equal(imageio.read(tmp_path / "out.png").pixels, picture.pixels)


@pytest.mark.parametrize("name", SAID)
def test_what_is_not_all_of_a_file_is_said(tmp_path, name):
    make, word = SAID[name]
    (tmp_path / "a").write_bytes(make())
    picture = imageio.read(tmp_path / "a")
    assert picture.pixels.shape == (40, 56, 3)
    assert len(picture.notices) == 1
    assert word in picture.notices[0]


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_a_line(tmp_path, name):
    make, word = BAD[name]
    (tmp_path / "a").write_bytes(make())
    with pytest.raises(ImageError, match=word) as caught:
        imageio.read(tmp_path / "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [(2, 1), (10, 10)])
def test_where_a_gif_does_not_cover_its_screen_nothing_is_seen(tmp_path, place):
    """As browsers show it; Pillow fills it with the colour of the background."""
    (tmp_path / "a.gif").write_bytes(gif((8, 6), (*place, 4, 3)))
    picture = imageio.read(tmp_path / "a.gif")
    alpha = picture.alpha_float()
    assert alpha is not None
    assert alpha.sum() == 12
    x, y = place
    assert (alpha[y : y + 3, x : x + 4] == 1).all()
    np.testing.assert_array_equal(picture.pixels[y, x : x + 4, :3], np.frombuffer(COLOURS, np.uint8).reshape(4, 3))


def test_xmp_behind_the_pixels_of_a_png(tmp_path):
    """Where exiftool writes it."""
    packet = b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description r:about="late"/></r:RDF>'
    late = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    (tmp_path / "a.png").write_bytes(PNG[:-12] + late + chunk(b"IEND", b""))
    imageio.write(tmp_path / "b.webp", imageio.read(tmp_path / "a.png"))
    with Image.open(tmp_path / "b.webp") as image:
        assert b"late" in image.info["xmp"]


def test_a_damaged_profile_costs_the_profile_only(tmp_path):
    data = saved(SEEN, "JPEG", icc_profile=b"\0\0\x02\0" + bytes(508))
    (tmp_path / "a.jpg").write_bytes(data)
    for suffix in ("png", "jpg", "webp", "tif", "avif"):
        notices = imageio.write(tmp_path / f"b.{suffix}", imageio.read(tmp_path / "a.jpg"))
        assert "ICC profile is damaged" in notices[0]
