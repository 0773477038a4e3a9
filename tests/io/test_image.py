import os
import resource
import signal
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from realsrt.errors import ImageError, UsageError
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

KINDS = [(dtype, bands) for dtype in (np.uint8, np.uint16) for bands in (1, 2, 3, 4)]


def noise(height: int, width: int, bands: int, dtype=np.uint8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random((height, width, bands), dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, bands), dtype, endpoint=True)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x / width, 255 * y / height, 0 * x + 90], axis=2).astype(np.uint8)


def save(path: Path, array: np.ndarray, **options) -> Path:
    pyvips.Image.new_from_array(array).write_to_file(str(path), **options)
    return path


def fails(path: Path, *words: str, **options) -> str:
    with pytest.raises(ImageError) as caught:
        imageio.read(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("dtype", "bands"), KINDS)
def test_numbers_come_back_exactly(tmp_path, suffix, dtype, bands):
    pixels = noise(13, 7, bands, dtype)
    imageio.write(tmp_path / f"a.{suffix}", Picture.from_array(pixels))
    back = imageio.read(tmp_path / f"a.{suffix}")
    assert back.pixels.dtype == dtype
    np.testing.assert_array_equal(back.pixels, pixels)
    assert (back.gray, back.has_alpha) == (bands < 3, bands in (2, 4))


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_one_pixel(tmp_path, bands):
    imageio.write(tmp_path / "a.png", Picture.from_array(noise(1, 1, bands)))
    assert imageio.read(tmp_path / "a.png").pixels.shape == (1, 1, bands)


def test_float_tiff_comes_back_exactly(tmp_path):
    pixels = noise(5, 6, 3, np.float32)
    imageio.write(tmp_path / "a.tiff", Picture.from_array(pixels))
    back = imageio.read(tmp_path / "a.tiff")
    assert back.depth == 32
    np.testing.assert_array_equal(back.pixels, pixels)


@pytest.mark.parametrize(("dtype", "bands"), [*KINDS, (np.float32, 3)])
def test_floats_and_back_are_the_identity(dtype, bands):
    picture = Picture.from_array(noise(40, 40, bands, dtype))
    rgb = picture.rgb_float()
    assert rgb.shape == (40, 40, 3)
    assert rgb.dtype == np.float32
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    np.testing.assert_array_equal(picture.with_pixels(rgb, picture.alpha_float()).pixels, picture.pixels)


def test_every_16_bit_number_survives():
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    picture = Picture.from_array(pixels)
    np.testing.assert_array_equal(picture.with_pixels(picture.rgb_float()).pixels, pixels)


def test_new_pixels_round_to_nearest_and_clamp():
    picture = Picture.from_array(np.zeros((1, 1, 3), np.uint8))
    rgb = np.array([[[-0.3, 100.4 / 255, 1.7], [0.0, 100.6 / 255, 1.0]]], np.float32)
    assert picture.with_pixels(rgb).pixels.tolist() == [[[0, 100, 255], [0, 101, 255]]]


def test_new_pixels_refuse_nan_and_a_missing_alpha():
    with pytest.raises(ImageError, match="NaN"):
        Picture.from_array(np.zeros((1, 1, 3), np.uint8)).with_pixels(np.full((1, 1, 3), np.nan, np.float32))
    with pytest.raises(ImageError, match="alpha"):
        Picture.from_array(np.zeros((1, 1, 4), np.uint8)).with_pixels(np.zeros((1, 1, 3), np.float32))


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2, 5), np.uint8), np.zeros((0, 2, 3), np.uint8), np.zeros((2, 2), np.int64)]
)
def test_arrays_that_are_no_pictures(array):
    with pytest.raises(ImageError, match="not a picture"):
        Picture.from_array(array)


@pytest.mark.parametrize("value", [200.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("kind", [np.asarray, Picture])
def test_floats_outside_their_range_are_not_written(tmp_path, value, kind):
    array = np.full((8, 8, 3), 0.5, np.float32)
    array[1, 1, 1] = value
    with pytest.raises(ImageError, match=r"0 to 1|not finite"):
        imageio.write(tmp_path / "a.png", kind(array))
    assert not list(tmp_path.iterdir())


def test_gray_comes_back_to_the_bit():
    """Of equal channels, the luma is what they are: for every number, and of floats too."""
    for dtype in (np.uint16, np.float32):
        gray = Picture.from_array(np.arange(65536).astype(np.uint16).reshape(256, 256))
        gray = gray if dtype == np.uint16 else Picture.from_array(gray.pixels / np.float32(65535))
        rgb = gray.rgb_float()
        rgb = np.nextafter(rgb, np.float32(1))  # no number of 16 bit
        wanted = Picture.from_array(np.zeros((1, 1, 3), dtype)).with_pixels(rgb).pixels[..., :1]
        assert np.array_equal(gray.with_pixels(rgb).pixels, wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_forgotten(tmp_path, orientation):
    stored = pyvips.Image.new_from_array(smooth(16, 24)).copy()
    stored.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    path = tmp_path / "photo.jpg"
    stored.write_to_file(str(path), Q=100)
    expected = pyvips.Image.new_from_file(str(path)).autorot().numpy()
    picture = imageio.read(path)
    np.testing.assert_array_equal(picture.pixels, expected)
    imageio.write(tmp_path / "again.jpg", picture, quality=100)
    again = pyvips.Image.new_from_file(str(tmp_path / "again.jpg"))
    assert (again.width, again.height) == (picture.width, picture.height)
    assert not again.get_typeof("orientation") or again.get("orientation") == 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_profile_and_exif_are_carried(tmp_path, suffix):
    image = pyvips.Image.new_from_array(smooth(16, 16)).copy(interpretation="srgb")
    image = image.icc_transform("p3", input_profile="srgb").copy(xres=3.0, yres=3.0)
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Artist", "A. Painter")
    image.write_to_file(str(tmp_path / "in.jpg"))
    picture = imageio.read(tmp_path / "in.jpg")
    assert picture.icc
    assert picture.exif
    imageio.write(tmp_path / f"out.{suffix}", picture)
    back = imageio.read(tmp_path / f"out.{suffix}")
    assert back.icc == picture.icc
    if suffix != "tif":  # libvips writes no EXIF there
        assert "A. Painter" in str(back.metadata["exif-ifd0-Artist"][1])
    imageio.write(tmp_path / f"bare.{suffix}", picture, strip=True)
    bare = imageio.read(tmp_path / f"bare.{suffix}")
    assert bare.icc == picture.icc
    assert "exif-ifd0-Artist" not in bare.metadata


def test_density_is_carried(tmp_path):
    imageio.write(tmp_path / "a.png", Picture(noise(4, 4, 3), density=(11.811, 11.811)))
    assert imageio.read(tmp_path / "a.png").density == pytest.approx((11.811, 11.811), rel=1e-3)


def test_palette_becomes_rgb(tmp_path):
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[:, 4:] = [200, 10, 30]
    path = save(tmp_path / "palette.png", colours, palette=True)
    assert path.read_bytes()[25] == 3  # colour type of the file: palette
    picture = imageio.read(path)
    assert picture.pixels.shape[2] == 3
    assert np.abs(picture.pixels.astype(int) - colours).max() <= 1


def test_cmyk_becomes_rgb(tmp_path):
    cmyk = pyvips.Image.new_from_array(smooth(32, 32)).colourspace("cmyk")
    cmyk.write_to_file(str(tmp_path / "print.jpg"), Q=95)
    picture = imageio.read(tmp_path / "print.jpg")
    assert picture.pixels.shape == (32, 32, 3)
    assert "CMYK" in picture.notices[0]
    assert np.abs(picture.pixels.astype(float) - smooth(32, 32)).mean() < 30


def test_lab_and_extra_channels_become_rgb(tmp_path):
    pyvips.Image.new_from_array(smooth(8, 8)).colourspace("lab").write_to_file(str(tmp_path / "lab.tif"))
    lab = imageio.read(tmp_path / "lab.tif")
    assert np.abs(lab.pixels.astype(float) - smooth(8, 8)).max() <= 2
    assert "lab" in lab.notices[0]
    save(tmp_path / "five.tif", noise(4, 4, 5))
    five = imageio.read(tmp_path / "five.tif")
    assert five.pixels.shape == (4, 4, 4)
    assert "channels" in five.notices[0]


def test_first_frame_of_an_animation_with_a_notice(tmp_path):
    frames = [pyvips.Image.new_from_array(np.full((6, 5, 3), value, np.uint8)) for value in (10, 200)]
    reel = pyvips.Image.arrayjoin(frames, across=1).copy()
    reel.set_type(pyvips.GValue.gint_type, "page-height", 6)
    reel.write_to_file(str(tmp_path / "film.gif"))
    picture = imageio.read(tmp_path / "film.gif")
    assert (picture.width, picture.height) == (5, 6)
    assert picture.pixels[..., 0].max() < 100
    assert "first of its 2" in picture.notices[0]


def test_text_empty_folder_and_missing(tmp_path):
    (tmp_path / "text.png").write_text("only words\n")
    fails(tmp_path / "text.png", "not a picture", "PNG")
    (tmp_path / "numbers.png").write_text("2 2\n1 2\n3 4\n")  # libvips would take this for a matrix
    fails(tmp_path / "numbers.png", "not a picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    fails(tmp_path / "empty.jpg", "empty")
    (tmp_path / "folder.png").mkdir()
    fails(tmp_path / "folder.png", "folder")
    fails(tmp_path / "nowhere.png", "No such file")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_cut_short(tmp_path, suffix, part):
    whole = save(tmp_path / f"whole.{suffix}", noise(64, 64, 3)).read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(whole[: int(len(whole) * part)])
    fails(tmp_path / f"cut.{suffix}")


def test_damaged_png_is_refused(tmp_path):
    data = bytearray(save(tmp_path / "a.png", noise(64, 64, 3)).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    fails(tmp_path / "a.png", "damaged")


def test_nothing_reaches_stderr(tmp_path):
    whole = save(tmp_path / "whole.jpg", noise(64, 64, 3)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "odd.jpg").write_bytes(whole[:200] + b"\0\0\xff\xee" + whole[204:])
    code = """
        import sys
        from realsrt import imageio
        from realsrt.errors import ImageError
        for path in sys.argv[1:]:
            try:
                imageio.read(path)
            except ImageError:
                pass
    """
    environment = {key: value for key, value in os.environ.items() if key != "VIPS_WARNING"}
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "cut.jpg"), str(tmp_path / "odd.jpg")]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert ran.stderr == ""


def bomb(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes that claims to be enormous."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))
    return path


def test_enormous_pictures_are_refused_before_decoding(tmp_path):
    fails(bomb(tmp_path / "bomb.png", 100_000, 90_000), "100000x90000", "500,000,000", "--max-pixels")
    path = save(tmp_path / "small.png", noise(10, 10, 3))
    fails(path, "--max-pixels", max_pixels=99)
    assert imageio.read(path, max_pixels=100).width == 10


def test_names_with_brackets_are_only_names(tmp_path):
    path = tmp_path / "a[page=2].png"
    imageio.write(path, Picture.from_array(noise(3, 3, 3)))
    assert path.is_file()
    assert imageio.read(path).width == 3


@pytest.mark.parametrize(
    ("name", "size", "alpha", "word"),
    [
        ("a.jpg", (65_536, 10), False, "65,535"),
        ("a.webp", (10, 16_384), False, "16,383"),
        ("a.jpeg", (10, 10), True, "transparency"),
        ("a.bmp", (10, 10), False, ".png"),
        ("a", (10, 10), False, "no suffix"),
    ],
)
def test_what_a_format_cannot_hold(name, size, alpha, word):
    with pytest.raises(ImageError) as caught:
        imageio.check_output(name, *size, has_alpha=alpha)
    assert word in str(caught.value)
    assert "PNG" in str(caught.value) or ".png" in str(caught.value)


def test_depth_is_lowered_with_a_notice(tmp_path):
    pixels = noise(16, 16, 3, np.uint16)
    picture = Picture.from_array(pixels)
    notices = imageio.write(tmp_path / "a.webp", picture)
    assert "8 bit" in notices[0]
    assert imageio.read(tmp_path / "a.webp").depth == 8
    assert imageio.write(tmp_path / "a.png", picture) == ()
    floats = Picture.from_array(noise(4, 4, 3, np.float32))
    assert "16 bit" in imageio.write(tmp_path / "f.png", floats)[0]
    back = imageio.read(tmp_path / "f.png")
    assert back.depth == 16
    assert np.abs(back.rgb_float() - floats.pixels).max() < 1e-5


@pytest.mark.parametrize("suffix", ["avif", "webp", "jpg"])
def test_lossy_formats_keep_the_picture(tmp_path, suffix):
    if suffix == "avif" and "AVIF" not in imageio.supported_formats()["write"]:
        pytest.skip("this libvips writes no AVIF")
    picture = Picture.from_array(smooth(48, 64))
    imageio.write(tmp_path / f"a.{suffix}", picture)
    back = imageio.read(tmp_path / f"a.{suffix}")
    assert np.abs(back.pixels.astype(int) - picture.pixels).mean() < 3


def test_quality_matters(tmp_path):
    picture = Picture.from_array(noise(64, 64, 3))
    imageio.write(tmp_path / "low.jpg", picture, quality=20)
    imageio.write(tmp_path / "high.jpg", picture, quality=98)
    assert (tmp_path / "low.jpg").stat().st_size * 2 < (tmp_path / "high.jpg").stat().st_size


def test_an_unwritable_folder_is_named(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        imageio.write(tmp_path / "nowhere" / "a.png", Picture.from_array(noise(3, 3, 3)))


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    imageio.write(tmp_path / "a.png", Picture.from_array(noise(3, 3, 3)))
    before = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ImageError, match="No space left"):
        imageio.write(tmp_path / "a.png", Picture.from_array(noise(9, 9, 3)))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_a_disk_that_takes_no_more(tmp_path, suffix):
    """A real failure inside the encoder: files of this process may not grow past 8 kB for a moment."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, old[1]))
        with pytest.raises(ImageError, match="could not be written"):
            imageio.write(tmp_path / f"a.{suffix}", Picture.from_array(noise(256, 256, 3)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_new_files_take_the_usual_permissions(tmp_path):
    imageio.write(tmp_path / "a.png", Picture.from_array(noise(3, 3, 3)))
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_supported_formats():
    formats = imageio.supported_formats()
    assert {"PNG", "JPEG", "WebP", "TIFF"} <= set(formats["read"]) & set(formats["write"])


@pytest.mark.parametrize(("dtype", "bands"), [*KINDS, (np.float32, 3)])
def test_large_inputs_are_decoded_into_a_file(tmp_path, monkeypatch, dtype, bands):
    pixels = noise(33, 21, bands, dtype)
    path = save(tmp_path / "a.tif", pixels)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(imageio, "IN_MEMORY", 0)
    monkeypatch.setattr(imageio.tempfile, "tempdir", str(scratch))
    picture = imageio.read(path)
    assert isinstance(picture.pixels.base, np.memmap)
    assert list(scratch.iterdir()) == []
    np.testing.assert_array_equal(picture.pixels, pixels)
    imageio.write(tmp_path / "b.tif", picture)
    np.testing.assert_array_equal(imageio.read(tmp_path / "b.tif").pixels, pixels)


def test_a_damaged_large_input_leaves_nothing(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(100, 100, 3))
    path.write_bytes(path.read_bytes()[:20_000])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(imageio, "IN_MEMORY", 0)
    monkeypatch.setattr(imageio.tempfile, "tempdir", str(scratch))
    fails(path, "damaged or cut short")
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(("limit", "tiled"), [(1, True), (10**9, False)])
def test_large_tiffs_are_tiled(tmp_path, monkeypatch, limit, tiled):
    monkeypatch.setattr(imageio, "_TILED", limit)
    pixels = noise(300, 40, 3)
    imageio.write(tmp_path / "a.tif", Picture.from_array(pixels))
    with Image.open(tmp_path / "a.tif") as image:
        assert (322 in image.tag_v2) == tiled
        np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_a_header_says_what_reading_would_find(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    bands = 3 if suffix == ".jpg" else 4
    imageio.write(path, Picture.from_array(np.full((20, 30, bands), 99, np.uint8)))
    found = imageio.header(path)
    assert (found.width, found.height, found.has_alpha) == (30, 20, bands == 4)
    assert suffix in next(known.suffixes for known in imageio.FORMATS if known.name == found.format)
    with pytest.raises(ImageError, match="above the limit of 599 pixels"):
        imageio.header(path, max_pixels=599)


def test_a_header_of_a_turned_picture(tmp_path):
    image = pyvips.Image.black(30, 20, bands=3).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.gint_type, "orientation", 6)
    image.write_to_file(str(tmp_path / "a.jpg"))
    found = imageio.header(tmp_path / "a.jpg")
    assert (found.width, found.height) == (20, 30) == (imageio.read(tmp_path / "a.jpg").width, 30)


def test_one_files_error_is_not_anothers(tmp_path):
    (tmp_path / "words.png").write_text("no picture")
    path = tmp_path / "cut.jpg"
    imageio.write(path, Picture.from_array(np.zeros((40, 30, 3), np.uint8)))
    path.write_bytes(path.read_bytes()[:-40])
    for _ in range(2):
        with pytest.raises(ImageError, match="is not a picture"):
            imageio.read(tmp_path / "words.png")
        with pytest.raises(ImageError, match="damaged or cut short"):
            imageio.read(path)


@pytest.mark.parametrize("quality", [0, 101])
def test_quality_has_limits(tmp_path, quality):
    picture = Picture.from_array(np.zeros((4, 3, 3), np.uint8))
    with pytest.raises(UsageError, match="1 to 100"):
        imageio.write(tmp_path / "b.jpg", picture, quality=quality)
    assert not (tmp_path / "b.jpg").exists()


@pytest.mark.parametrize("hole", [False, True])
def test_an_animation_has_alpha_only_where_something_shows_through(tmp_path, hole):
    frames = [Image.new("RGBA", (20, 16), (shade, 90, 30, 255)) for shade in (10, 200)]
    if hole:
        frames[0].putpixel((3, 4), (0, 0, 0, 0))
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert imageio.read(path).has_alpha == hole
