"""Colours: what a file says of them is kept, or the picture looks the same without it.

The light of each colour space is computed here from its standard; what a written file looks like is asked of littlecms
(through Pillow) by its own profile.
"""

import io
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from realsrt.io import image as imageio
from realsrt.io import preview
from realsrt.io.metadata import colour
from realsrt.io.picture import Picture
from realsrt.io.suffixes import jxl_library

SUFFIXES = ("jpg", "png", "webp", "tif", "avif")
XY = {"709": (0.64, 0.33, 0.3, 0.6, 0.15, 0.06), "p3": (0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
      "2020": (0.708, 0.292, 0.17, 0.797, 0.131, 0.046)}  # fmt: skip
exiftool = shutil.which("exiftool")


def ramps(bits: int = 8) -> np.ndarray:
    """Colours that lie within sRGB in all the wider spaces, some at their edges."""
    y, x = np.mgrid[0:32, 0:48]
    array = np.stack([90 + 2.5 * x, 120 + 0.8 * y + 0.6 * x, 200 - 1.5 * x + y], axis=2).clip(0, 255)
    return np.rint(array * (257 if bits == 16 else 1)).astype(np.uint16 if bits == 16 else np.uint8)


def to_xyz(xy: tuple[float, ...]) -> np.ndarray:
    """(3, 3): linear RGB with the white of D65 to XYZ."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in zip(xy[::2], xy[1::2], strict=True)]).T
    return columns * np.linalg.solve(columns, [0.3127 / 0.329, 1, 0.3583 / 0.329])


def srgb_of(light: np.ndarray, xy: tuple[float, ...]) -> np.ndarray:
    """HW3 linear light as sRGB from 0 to 255, clipped."""
    linear = (light @ (np.linalg.inv(to_xyz(XY["709"])) @ to_xyz(xy)).T).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_light(code: np.ndarray) -> np.ndarray:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def bt709_light(code: np.ndarray) -> np.ndarray:
    return np.where(code < 0.081, code / 4.5, ((code + 0.099) / 1.099) ** (1 / 0.45))


def pq_light(code: np.ndarray) -> np.ndarray:
    root = code ** (32 / 2523)
    return 10000 / 203 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (16384 / 2610)


def hlg_light(code: np.ndarray) -> np.ndarray:
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    luminance = scene @ np.array([0.2627, 0.678, 0.0593])
    return 1000 / 203 * scene * luminance[..., None] ** 0.2


def shown(path: Path) -> np.ndarray:
    """A file as a screen of sRGB shows it by the file's own profile: HW3 from 0 to 255."""
    with Image.open(path) as image:
        profile = image.info.get("icc_profile")
        image = image.convert("RGB") if image.mode not in ("RGB", "L") else image.copy()
    if profile:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        image = ImageCms.profileToProfile(image, source, target, intent, outputMode="RGB")
    assert image is not None
    return np.asarray(image.convert("RGB"), float)


def png(path: Path, array: np.ndarray, *chunks: tuple[bytes, bytes]) -> Path:
    kind = {1: ("b-w", "grey16"), 3: ("srgb", "rgb16")}[array.shape[2]][array.dtype == np.uint16]
    data = pyvips.Image.new_from_array(array).copy(interpretation=kind).pngsave_buffer(keep=0)
    more = b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    path.write_bytes(data[:33] + more + data[33:])
    return path


def avif(path: Path, array: np.ndarray, primaries: int, transfer: int) -> Path:
    """As Pillow writes it, with another colour in its box."""
    Image.fromarray(array).save(path, quality=100, subsampling="4:4:4")
    data = bytearray(path.read_bytes())
    place = data.index(b"colrnclx") + 8
    data[place : place + 4] = struct.pack(">HH", primaries, transfer)
    path.write_bytes(data)
    return path


def doubled(path: Path) -> Picture:
    picture = imageio.read(path)
    assert not picture.notices
    return picture.with_pixels(picture.rgb_float().repeat(2, 0).repeat(2, 1))


def written(folder: Path, picture: Picture, suffix: str) -> tuple[Path, tuple[str, ...]]:
    """Encoded so that nothing but rounding is lost."""
    path = folder / f"out.{suffix}"
    return path, imageio.write(path, picture, quality=None if suffix in ("png", "tif") else 100)


CHRM_P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SAID = {
    "cicp p3": ([(b"cICP", bytes([12, 13, 0, 1]))], srgb_light, "p3"),
    "cicp bt.2020": ([(b"cICP", bytes([9, 14, 0, 1]))], bt709_light, "2020"),
    "cicp before gAMA": ([(b"gAMA", struct.pack(">I", 100_000)), (b"cICP", bytes([12, 13, 0, 1]))], srgb_light, "p3"),
    "linear": ([(b"gAMA", struct.pack(">I", 100_000))], lambda code: code, "709"),
    "gamma 1.8": ([(b"gAMA", struct.pack(">I", 55_556))], lambda code: code**1.8, "709"),
    "cHRM": ([(b"cHRM", CHRM_P3)], srgb_light, "p3"),
    "gAMA, cHRM": ([(b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", CHRM_P3)], lambda code: code**2.2, "p3"),
    "sRGB first": ([(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))], srgb_light, "709"),
    "not specified": ([(b"cICP", bytes([2, 2, 0, 1]))], srgb_light, "709"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("said", SAID)
def test_what_a_png_says_of_its_colours(tmp_path, said, suffix):
    chunks, light, primaries = SAID[said]
    picture = doubled(png(tmp_path / "in.png", ramps(), *chunks))
    path, notices = written(tmp_path, picture, suffix)
    assert not notices
    wanted = srgb_of(light(ramps() / 255), XY[primaries]).repeat(2, 0).repeat(2, 1)
    if suffix == "avif" and picture.code:
        assert imageio.read(path).code == picture.code  # Pillow does not apply it; see the next test
        path, _ = written(tmp_path, imageio.read(path), "png")
    assert np.abs(shown(path) - wanted).mean() <= (1.5 if suffix in ("jpg", "webp") else 1)
    if suffix == "png":
        data = path.read_bytes()
        assert (data.find(b"cICP") > 0) == (picture.code is not None)
        assert data.find(b"cICP") < data.find(b"IDAT")


@pytest.mark.parametrize(
    ("primaries", "transfer", "light", "xy"), [(12, 13, srgb_light, "p3"), (9, 14, bt709_light, "2020")]
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_an_avif_says_of_its_colours(tmp_path, suffix, primaries, transfer, light, xy):
    source = avif(tmp_path / "in.avif", ramps(), primaries, transfer)
    stored = np.asarray(Image.open(source).convert("RGB")) / 255
    picture = doubled(source)
    path, notices = written(tmp_path, picture, suffix)
    assert not notices
    if suffix == "avif":
        assert imageio.read(path).code == (primaries, transfer)
        assert b"colrnclx" in path.read_bytes()
        path, _ = written(tmp_path, imageio.read(path), "png")
    wanted = srgb_of(light(stored), XY[xy]).repeat(2, 0).repeat(2, 1)
    assert np.abs(shown(path) - wanted).mean() <= (1.5 if suffix in ("jpg", "webp") else 1)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("transfer", "light", "scale"), [(16, pq_light, 0.56), (18, hlg_light, 0.75)])
@pytest.mark.parametrize("bits", [8, 16])
def test_hdr_is_kept_or_becomes_what_it_looks_like(tmp_path, suffix, transfer, light, scale, bits):
    array = np.rint(ramps(bits) * scale).astype(ramps(bits).dtype)
    picture = doubled(png(tmp_path / "in.png", array, (b"cICP", bytes([9, transfer, 0, 1]))))
    assert picture.code == (9, transfer)
    path, notices = written(tmp_path, picture, suffix)
    back = imageio.read(path)
    if suffix in ("png", "avif"):
        assert back.code == (9, transfer)
        assert back.icc is None
        off = np.abs(back.rgb_float() - picture.rgb_float()).mean() * 255
        assert off == 0 if suffix == "png" else off < 1
        assert not any("HDR" in notice or "sRGB" in notice for notice in notices)
        return
    assert notices[-1].endswith("it is sRGB now")
    assert back.code is None
    wanted = srgb_of(light(array / np.iinfo(array.dtype).max), XY["2020"]).repeat(2, 0).repeat(2, 1)
    assert np.abs(shown(path) - wanted).mean() <= (1.5 if suffix in ("jpg", "webp") else 1)
    assert back.depth == (16 if suffix == "tif" and bits == 16 else 8)


def rolled_off(light: np.ndarray, peak: float) -> np.ndarray:
    """BT.2390's EETF on the brightest channel, from a display of `peak` times diffuse white to one of diffuse white."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875

    def pq(x):
        y = (np.asarray(x) * 203 / 10_000) ** m1
        return ((c1 + c2 * y) / (1 + c3 * y)) ** m2

    brightest = light.max(axis=2, keepdims=True).clip(1e-6, peak)
    e, largest = pq(brightest) / pq(peak), pq(1) / pq(peak)
    start = 1.5 * largest - 0.5
    t = (e - start) / (1 - start)
    p = (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * (1 - start) + (-2 * t**3 + 3 * t**2) * largest
    lower = pq_light(np.where(e < start, e, p) * pq(peak))
    return light * lower / brightest


@pytest.mark.parametrize(("transfer", "light"), [(16, pq_light), (18, hlg_light)])
def test_bright_light_keeps_its_shape(tmp_path, transfer, light):
    """Sky and lamps above diffuse white, which would all be white if they were clipped."""
    gray = ramps(16)[..., :1] * (0.9 if transfer == 16 else 1.2)
    array = np.rint(gray * np.array([0.99, 1, 0.97])).astype(np.uint16)  # within sRGB, but for its light
    stored = light(array / 65535)
    peak = float(stored.max())
    above = stored.max(axis=2) > 1.05
    assert 3 < peak < 5.2
    assert above.mean() > 0.3
    imageio.write(tmp_path / "in.png", Picture(array, {"cicp": (pyvips.GValue.blob_type, bytes([9, transfer]))}))
    path, notices = written(tmp_path, imageio.read(tmp_path / "in.png"), "tif")
    told = notices[-1].split("of up to ")[1].split(" cd")[0].replace(",", "")
    assert abs(int(told) - 203 * peak) < 0.02 * 203 * peak
    wanted = srgb_of(rolled_off(stored, peak), XY["2020"])
    assert np.abs(shown(path) - wanted).mean() <= 1
    made = imageio.read(path).pixels
    assert (made[above].min(axis=1) < 65535).all()


def test_glints_do_not_darken_the_rest(tmp_path):
    array = np.full((100, 100, 3), 30_000, np.uint16)
    array[50, 50:53] = 65535
    imageio.write(tmp_path / "a.tif", Picture(array, {"cicp": (pyvips.GValue.blob_type, bytes([9, 16]))}))
    made = imageio.read(tmp_path / "a.tif").pixels
    wanted = srgb_of(pq_light(array[:1, :1] / 65535), XY["2020"])[0, 0]
    assert np.abs(made[0, 0] / 257 - wanted).max() < 0.1
    assert made[50, 51].min() == 65535


def test_hdr_in_gray_and_with_alpha(tmp_path):
    pixels = np.rint(ramps(16)[..., :2] * 0.5).astype(np.uint16)
    picture = Picture(pixels, {"cicp": (pyvips.GValue.blob_type, bytes([9, 16]))})
    imageio.write(tmp_path / "out.tif", picture)
    back = imageio.read(tmp_path / "out.tif")
    wanted = srgb_of(pq_light(pixels[..., :1].repeat(3, 2) / 65535), XY["709"])[..., 0]
    assert np.abs(back.pixels[..., 0] / 257 - wanted).mean() <= 0.1
    np.testing.assert_array_equal(back.pixels[..., 1], pixels[..., 1])


GRAY_18 = colour.profile((0.3127, 0.329, *XY["709"]), (1.8,), "Gray Gamma 1.8", gray=True)
MEANT = {
    "pq": {"cicp": bytes([9, 16])}, "hlg": {"cicp": bytes([9, 18])}, "gray": {"icc-profile-data": GRAY_18},
    "linear": {"icc-profile-data": colour.of_code(9, 8).icc},
}  # fmt: skip


def meant(how: str, pixels: np.ndarray) -> Picture:
    pixels = pixels[..., ::3] if how == "gray" else pixels
    return Picture(pixels, {name: (pyvips.GValue.blob_type, data) for name, data in MEANT[how].items()})


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif", "jxl"])
@pytest.mark.parametrize("how", MEANT)
@pytest.mark.parametrize("bands", [3, 4])
def test_floats_are_written_as_their_16_bits_are(tmp_path, suffix, how, bands):
    if (suffix == "jxl" and not jxl_library()) or (suffix, bands) == ("jpg", 4):
        pytest.skip("not written here, or without alpha")
    looks = []
    for pixels in (whole := ramps(16)[..., [0, 1, 2, 1][:bands]], whole / np.float32(65535)):
        path, _ = written(tmp_path, meant(how, pixels), suffix)
        looks.append(preview.plain(imageio.read(path)).pixels.astype(int))
    assert np.ptp(looks[0]) > 40
    assert np.abs(looks[0] - looks[1]).max() <= 1


@pytest.mark.parametrize("how", ["pq", "hlg"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_hdr_is_shown_as_it_is_written_where_there_is_none(tmp_path, how, kind, bands):
    pixels = ramps(16)[..., [[1], [1, 0], [0, 1, 2], [0, 1, 2, 1]][bands - 1]]
    pixels = pixels / np.float32(65535) if kind is np.float32 else (pixels >> 8 if kind is np.uint8 else pixels)
    picture = meant(how, pixels.astype(kind))
    imageio.write(tmp_path / "out.tif", picture)
    shown = preview.plain(picture)
    assert shown.pixels.shape == pixels.shape
    assert np.abs(shown.rgb_float() - imageio.read(tmp_path / "out.tif").rgb_float()).max() <= 0.6 / 255
    assert np.abs(shown.rgb_float() - picture.rgb_float()).max() > 0.1


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bits", [8, 16])
def test_gray_profiles(tmp_path, suffix, bits):
    """Gray Gamma 1.8, as scanners have it."""
    gray = ramps(bits)[..., :1]
    picture = Picture(gray, {"icc-profile-data": (pyvips.GValue.blob_type, GRAY_18)})
    path, notices = written(tmp_path, picture, suffix)
    wanted = srgb_of((gray.repeat(3, 2) / np.iinfo(gray.dtype).max) ** 1.8, XY["709"])
    if (suffix == "png" and bits == 16) or (suffix == "tif" and bits == 16):
        back = imageio.read(path)
        assert back.icc == GRAY_18
        np.testing.assert_array_equal(back.pixels, gray)
        return
    assert np.abs(shown(path) - wanted).mean() <= 1
    assert any("looks the same" in notice for notice in notices) == (suffix in ("webp", "avif"))


def test_a_png_that_says_the_gamma_of_gray(tmp_path):
    path, notices = written(
        tmp_path, imageio.read(png(tmp_path / "in.png", ramps()[..., :1], (b"gAMA", struct.pack(">I", 100_000)))), "jpg"
    )
    assert not notices
    wanted = srgb_of(ramps()[..., :1].repeat(3, 2) / 255, XY["709"])
    assert np.abs(shown(path) - wanted).mean() <= 1.5


def test_a_profile_of_another_kind_is_left_out(tmp_path):
    picture = Picture(ramps(), {"icc-profile-data": (pyvips.GValue.blob_type, GRAY_18)})
    path, notices = written(tmp_path, picture, "png")
    assert "another kind of picture" in notices[0]
    assert imageio.read(path).icc is None


@pytest.mark.parametrize(
    ("chunk", "word"),
    [
        ((b"cICP", bytes([200, 13, 0, 1])), "not known"), ((b"cICP", bytes([9, 16, 0, 0])), "video levels"),
        ((b"gAMA", struct.pack(">I", 5)), "out of range"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_said(tmp_path, chunk, word):
    picture = imageio.read(png(tmp_path / "in.png", ramps(), chunk))
    assert word in picture.notices[0]
    assert picture.code is picture.icc is None


@pytest.mark.parametrize("data", [b"", b"\0" * 32, b"\xff" * 32, struct.pack(">8I", *[33333] * 8), b"\1\2"])
def test_primaries_that_are_none(tmp_path, data):
    picture = imageio.read(png(tmp_path / "in.png", ramps(), (b"cHRM", data)))
    assert picture.icc is None


@pytest.mark.skipif(not exiftool, reason="exiftool is missing (Debian: libimage-exiftool-perl)")
@pytest.mark.parametrize(("suffix", "primaries"), [("png", "ColorPrimaries"), ("avif", "ColorPrimaries")])
def test_exiftool_reads_the_code_points(tmp_path, suffix, primaries):
    picture = imageio.read(png(tmp_path / "in.png", ramps(), (b"cICP", bytes([9, 16, 0, 1]))))
    path, _ = written(tmp_path, picture, suffix)
    text = subprocess.run([str(exiftool), "-s", str(path)], capture_output=True, text=True, check=True).stdout
    assert "BT.2020" in text, text
    assert "2084" in text or "PQ" in text, text


def test_the_profile_is_sound():
    made = colour.profile((0.3127, 0.329, *XY["p3"]), (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), "Display P3")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(made))
    assert ImageCms.getProfileDescription(profile).strip() == "Display P3"
    assert int.from_bytes(made[:4], "big") == len(made)
    np.testing.assert_allclose(profile.profile.media_white_point[0], (0.9642, 1, 0.8249), atol=1e-3)
    builtin = pyvips.Image.new_from_array(ramps()).copy(interpretation="srgb")
    theirs = builtin.icc_transform("srgb", input_profile="p3").numpy()
    mine = pyvips.Image.new_from_array(ramps()).copy(interpretation="srgb")
    mine.set_type(pyvips.GValue.blob_type, "icc-profile-data", made)
    assert np.abs(mine.icc_transform("srgb", embedded=True).numpy().astype(int) - theirs).max() <= 1
