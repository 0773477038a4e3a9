"""What is said beside the pixels, on files; asked of libvips, Pillow and, where installed, exiftool."""

import io
import json
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, PngImagePlugin

from realsrt.errors import ImageError
from realsrt.io import image as imageio
from realsrt.io.metadata import exif as tiffexif
from realsrt.io.metadata import xmp
from realsrt.io.metadata.provenance import Provenance, Restored, provenance
from realsrt.io.picture import Picture

SUFFIXES = ("jpg", "png", "webp", "tif", "avif")
MADE = Provenance("RealSRT test", '{"model": "small"}')
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" tiff:Orientation="6" exif:PixelXDimension="40">
<tiff:ImageWidth>40</tiff:ImageWidth><dc:title><rdf:Alt><rdf:li xml:lang="x-default">Früh</rdf:li></rdf:Alt></dc:title>
</rdf:Description></rdf:RDF></x:xmpmeta>""".encode()
IPTC = b"\x1c\x02\x69\x00\x08Headline"

exiftool = shutil.which("exiftool")
needs_exiftool = pytest.mark.skipif(not exiftool, reason="exiftool is missing (Debian: libimage-exiftool-perl)")


def said(path: Path) -> dict[str, str]:
    command = [str(exiftool), "-j", "-a", "-G1", "-struct", str(path)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)[0]


def pixels(height: int = 24, width: int = 40, bands: int = 3) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([5 * x, 8 * y, 90 + 0 * x, 255 - 3 * x][:bands], axis=2).astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """As cameras and their programs make them: sideways, with EXIF, GPS, thumbnail, XMP, IPTC, P3 and density."""
    image = pyvips.Image.new_from_array(pixels()).copy(interpretation="srgb").icc_transform("p3", input_profile="srgb")
    image = image.copy(xres=300 / 25.4, yres=300 / 25.4)
    strings = {
        "exif-ifd0-Artist": "Zoë", "exif-ifd0-Make": "Maker", "exif-ifd2-ExposureTime": "1/250",
        "exif-ifd2-LensModel": "A lens of more than four letters", "exif-ifd3-GPSLatitude": "48/1 8/1 30/1",
        "exif-ifd3-GPSLatitudeRef": "N",
    }  # fmt: skip
    for name, value in strings.items():
        image.set_type(pyvips.GValue.gstr_type, name, value)
    image.set_type(pyvips.GValue.gint_type, "orientation", 6)
    wrapped = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
    for name, blob in {
        "xmp-data": XMP,
        "iptc-data": wrapped,
        "jpeg-thumbnail-data": image.resize(0.5).jpegsave_buffer(keep=0),
    }.items():
        image.set_type(pyvips.GValue.blob_type, name, blob)
    image.write_to_file(str(tmp_path / "photo.jpg"), Q=95)
    return tmp_path / "photo.jpg"


def upscaled(path: Path) -> Picture:
    picture = imageio.read(path)
    return picture.with_pixels(picture.rgb_float().repeat(4, 0).repeat(4, 1))


@needs_exiftool
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_everything_a_camera_says_survives(photo, tmp_path, suffix):
    before = said(photo)
    assert before["IFD0:Orientation"] == "Rotate 90 CW"
    notices = imageio.write(tmp_path / f"out.{suffix}", upscaled(photo), provenance=MADE)
    after = said(tmp_path / f"out.{suffix}")
    for name in ("IFD0:Artist", "IFD0:Make", "ExifIFD:ExposureTime", "ExifIFD:LensModel", "GPS:GPSLatitude",
                 "ICC_Profile:ProfileDescription", "XMP-dc:Title"):  # fmt: skip
        assert after[name] == before[name], name
    assert after["IFD0:Orientation"] == "Horizontal (normal)"
    assert (after["ExifIFD:ExifImageWidth"], after["ExifIFD:ExifImageHeight"]) == (96, 160)
    assert (after["XMP-tiff:ImageWidth"], after["XMP-exif:ExifImageWidth"]) == (96, 96)
    assert after["XMP-tiff:Orientation"] == "Horizontal (normal)"
    assert after["IFD0:XResolution"] == 300
    event = after["XMP-xmpMM:History"][0]
    assert (event["Action"], event["SoftwareAgent"]) == ("resized", "RealSRT test")
    assert event["Parameters"] == '{"model": "small"}'
    assert after.get("IPTC:Headline") == (before["IPTC:Headline"] if suffix in ("jpg", "tif") else None)
    assert any("IPTC" in notice for notice in notices) == (suffix not in ("jpg", "tif"))


@needs_exiftool
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_strip_leaves_profile_and_pixels(photo, tmp_path, suffix):
    picture = upscaled(photo)
    imageio.write(tmp_path / f"out.{suffix}", picture, strip=True, provenance=MADE)
    after = said(tmp_path / f"out.{suffix}")
    assert after["ICC_Profile:ProfileDescription"] == said(photo)["ICC_Profile:ProfileDescription"]
    text = json.dumps(after, ensure_ascii=False)
    assert not re.search("Zoë|Maker|lens|GPS|Früh|Headline|RealSRT|XMP|Thumbnail", text)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pillow_agrees(photo, tmp_path, suffix):
    picture = upscaled(photo)
    imageio.write(tmp_path / f"out.{suffix}", picture, provenance=MADE)
    with Image.open(tmp_path / f"out.{suffix}") as image:
        assert image.size == (96, 160)
        assert image.info["icc_profile"] == picture.icc
        exif = image.getexif()
        assert exif.get(0x010F) == "Maker"
        assert exif.get(0x0112, 1) == 1
        assert exif.get_ifd(0x8769)[0xA002] == 96
        assert exif.get_ifd(0x8825)[2] == (48, 8, 30)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif"])
def test_the_thumbnail_is_of_the_new_picture(photo, tmp_path, suffix):
    picture = imageio.read(photo)
    blue = picture.with_pixels(np.broadcast_to(np.float32([0, 0, 1]), (400, 200, 3)))
    imageio.write(tmp_path / f"out.{suffix}", blue)
    back = imageio.read(tmp_path / f"out.{suffix}")
    thumbnail = Image.open(io.BytesIO(back.metadata["jpeg-thumbnail-data"][1]))
    assert thumbnail.size == (80, 160)
    assert thumbnail.getpixel((40, 80))[2] > 230  # pyright: ignore
    plain = Picture.from_array(pixels())
    imageio.write(tmp_path / f"plain.{suffix}", plain)
    assert "jpeg-thumbnail-data" not in imageio.read(tmp_path / f"plain.{suffix}").metadata


@pytest.mark.parametrize("first", SUFFIXES)
@pytest.mark.parametrize("second", SUFFIXES)
def test_from_format_to_format(photo, tmp_path, first, second):
    imageio.write(tmp_path / f"a.{first}", upscaled(photo))
    middle = imageio.read(tmp_path / f"a.{first}")
    assert middle.density == pytest.approx((300 / 25.4,) * 2, rel=1e-3)
    imageio.write(tmp_path / f"b.{second}", middle, provenance=MADE)
    last = imageio.read(tmp_path / f"b.{second}")
    assert last.icc == middle.icc
    assert last.density == pytest.approx((300 / 25.4,) * 2, rel=1e-3)
    assert "Maker" in last.metadata["exif-ifd0-Make"][1]
    assert "1/250" in last.metadata["exif-ifd2-ExposureTime"][1]
    assert "Früh" in last.metadata["xmp-data"][1].decode()
    kept = first in ("jpg", "tif") and second in ("jpg", "tif")
    assert last.metadata.get("iptc-data", (0, None))[1] == (IPTC if kept else None)
    assert last.pixels.shape == middle.pixels.shape


def test_text_of_png(tmp_path):
    image = pyvips.Image.new_from_array(pixels()).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.gstr_type, "png-comment-0-Author", "Ann")
    image.write_to_file(str(tmp_path / "a.png"))
    picture = imageio.read(tmp_path / "a.png")
    assert imageio.write(tmp_path / "b.png", picture) == ()
    assert Image.open(tmp_path / "b.png").info["Author"] == "Ann"
    assert imageio.write(tmp_path / "b.jpg", picture) == ()  # see test_text.py


def test_text_of_png_lies_before_the_pixels_and_unpacked(tmp_path):
    """Where programs look that read no further, and read no zTXt, such as those that load a workflow from an image."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("workflow", json.dumps({"nodes": list(range(900))}))
    texts.add_itxt("Title", "猫")
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png", pnginfo=texts)
    imageio.write(tmp_path / "out.png", imageio.read(tmp_path / "in.png"))
    data = (tmp_path / "out.png").read_bytes()
    assert b"zTXt" not in data
    assert data.index(b"tEXtworkflow\0") < data.index(b"IDAT")
    assert data.index(b"iTXtTitle\0") < data.index(b"IDAT")


def test_text_of_png_in_any_script(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Note", "grün")
    text.add_text("Plain", "Ann")
    text.add_text("Old", "gr\xfcn")
    text.add_itxt("Packed", "中文" * 50, zip=True)
    text.add_text("Long", "a" * 5000, zip=True)
    text.add(b"tEXt", b"Auth\xebr\0Zoe")
    text.add(b"zTXt", b"Broken\0\0no stream")
    text.add(b"iTXt", b"Cut\0")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=text)
    picture = imageio.read(tmp_path / "a.png")
    assert imageio.write(tmp_path / "b.png", picture, provenance=MADE) == ()
    with Image.open(tmp_path / "b.png") as image:
        image.load()
        found = {key: str(value) for key, value in image.text.items() if key != "XML:com.adobe.xmp"}
    assert found == {
        "Plain": "Ann", "Note": "grün", "Old": "grün", "Packed": "中文" * 50, "Long": "a" * 5000, "Authër": "Zoe",
        "Cut": "",
    }  # fmt: skip
    imageio.write(tmp_path / "bare.png", picture, strip=True)
    with Image.open(tmp_path / "bare.png") as image:
        image.load()
        assert not image.text


def test_a_text_entry_that_grows_is_left_out(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "b", zip=True)
    text.add_text("Bomb", "a" * 9_000_000, zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=text)
    picture = imageio.read(tmp_path / "a.png")
    assert [name for name in picture.metadata if "png-" in name] == ["png-comment-0-Title"]
    assert "only 1 of its text entries" in picture.notices[0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
def test_strip_leaves_the_density(tmp_path, suffix):
    pyvips.Image.new_from_array(pixels()).copy(interpretation="srgb", xres=9.45, yres=9.45).write_to_file(
        str(tmp_path / "a.png")
    )
    imageio.write(tmp_path / f"b.{suffix}", imageio.read(tmp_path / "a.png"), strip=True)
    assert imageio.read(tmp_path / f"b.{suffix}").density == pytest.approx((9.45, 9.45), abs=0.01)


def test_names_that_are_no_utf8_cost_nothing_else(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add(b"tEXt", b"Auth\xebr\0Zoe")
    profile = imageio.read(photo_of(tmp_path)).icc
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=text, icc_profile=profile)
    assert imageio.read(tmp_path / "a.png").icc == profile


def photo_of(folder: Path) -> Path:
    image = pyvips.Image.new_from_array(pixels()).copy(interpretation="srgb").icc_transform("p3", input_profile="srgb")
    image.write_to_file(str(folder / "p3.jpg"))
    return folder / "p3.jpg"


def test_an_animated_png_says_so(tmp_path):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    picture = imageio.read(tmp_path / "a.png")
    assert picture.pixels[0, 0].tolist() == [255, 0, 0]
    assert "first of its frames" in picture.notices[0]


def test_xmp_too_long_for_jpeg_is_named(tmp_path):
    packet = XMP.replace("Früh".encode(), b"x" * 70_000)
    picture = Picture(pixels(), {"xmp-data": (pyvips.GValue.blob_type, packet)})
    assert "XMP" in imageio.write(tmp_path / "a.jpg", picture)[0]
    assert imageio.write(tmp_path / "a.png", picture) == ()
    assert b"x" * 70_000 in imageio.read(tmp_path / "a.png").metadata["xmp-data"][1]


def test_a_second_event_follows_the_first():
    once = xmp.updated(XMP, xmp.Resized(8, 9), "RealSRT 1", "a<b")[0]
    assert once
    twice = xmp.updated(once, xmp.Resized(8, 9), "RealSRT 2", "c")[0]
    assert twice
    text = twice.decode()
    assert text.index("RealSRT 1") < text.index("RealSRT 2")
    assert text.count(":History>") == 2  # opened and closed, once
    assert "a&lt;b" in text


@pytest.mark.parametrize(
    "packet",
    [
        b"not xml",
        b"<a/>",
        XMP[:-20],
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + XMP,
        "<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>".encode("utf-16"),
    ],
)
def test_packets_that_cannot_be_understood_are_kept(tmp_path, packet):
    with pytest.raises(ValueError):
        xmp.updated(packet, xmp.Resized(1, 1), "RealSRT", "")
    picture = Picture(pixels(), {"xmp-data": (pyvips.GValue.blob_type, packet)})
    assert "kept as it is" in imageio.write(tmp_path / "a.png", picture, provenance=MADE)[0]
    back = bytes(imageio.read(tmp_path / "a.png").metadata.get("xmp-data", (0, b""))[1])
    assert back == packet or b"\0" in packet  # PNG's text cannot hold zeros


def test_nothing_to_say():
    assert xmp.updated(None, xmp.Resized(1, 1)) == (None, ())


def test_provenance_tells_settings_but_no_folders():
    settings = {"steps": None, "fidelity": 0.5, "seed": 0, "strip": False, "denoise": "auto"}
    entry = provenance("/home/someone/weights/mine.safetensors", "ab" * 32, settings)
    assert json.loads(entry.parameters) == {
        "model": "mine.safetensors",
        "sha256": "ab" * 32,
        "fidelity": 0.5,
        "seed": 0,
        "denoise": "auto",
    }
    made = json.loads(entry.of(Restored("whole", 0.0, 0.25)).parameters)
    assert made == json.loads(entry.parameters) | {"way": "whole", "denoise": 0.0, "share": 0.25}
    assert re.fullmatch(r"RealSRT \d.*", entry.software)
    assert "hf:a/b@c" in provenance("hf:a/b@c", "", {}).parameters


@pytest.mark.parametrize("bigtiff", [False, True])
def test_exif_of_big_endian_cameras_in_tiff(tmp_path, bigtiff):
    exif = Image.Exif()
    exif.endian = ">"
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x829A] = (1, 250)
    exif.get_ifd(0x8769)[0xA002] = 5
    block = exif.tobytes()
    assert block[6:8] == b"MM"
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_array(pixels()).tiffsave(str(path), bigtiff=bigtiff)
    with path.open("r+b") as file:
        tiffexif.add(file, block, IPTC, 40, 24)
    with Image.open(path) as image:
        assert image.getexif()[0x010F] == "Maker"
        assert image.getexif().get_ifd(0x8769)[0xA002] == 40
        np.testing.assert_array_equal(np.asarray(image), pixels())
    picture = imageio.read(path)
    assert "Maker" in picture.metadata["exif-ifd0-Make"][1]
    np.testing.assert_array_equal(picture.pixels, pixels())


def test_mad_directories_give_fewer_tags_and_no_errors(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.tif"
    imageio.write(path, Picture.from_array(pixels()))
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x829A] = (1, 250)
    block = exif.tobytes()
    for _ in range(500):
        bad = bytearray(block)
        for place in rng.integers(6, len(bad), 4):
            bad[place] = rng.integers(256)
        file = io.BytesIO(path.read_bytes())
        tiffexif.add(file, bytes(bad), IPTC, 40, 24)
        tiffexif.read(file)
        assert len(file.getvalue()) < 500_000
        tiffexif.read(io.BytesIO(bytes(bad[6:])))
    loop = b"II*\0\x08\0\0\0" + b"\x01\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + b"\0" * 4
    assert tiffexif.read(io.BytesIO(loop)) is None


def test_floats_outside_their_range_are_refused(tmp_path):
    for value, word in ((200.0, "0 to 1"), (-1.0, "0 to 1"), (np.nan, "finite"), (np.inf, "finite")):
        array = np.full((4, 4, 3), 0.5, np.float32)
        array[1, 1, 1] = value
        pyvips.Image.new_from_array(array).write_to_file(str(tmp_path / "a.tif"))
        with pytest.raises(ImageError, match=word):
            imageio.read(tmp_path / "a.tif")


def test_cmyk_of_16_bit_stays_16_bit(tmp_path):
    cmyk = pyvips.Image.new_from_array(pixels()).copy(interpretation="srgb").icc_transform("cmyk", depth=16)
    assert cmyk.format == "ushort"
    cmyk.write_to_file(str(tmp_path / "a.tif"))
    picture = imageio.read(tmp_path / "a.tif")
    assert (picture.depth, picture.pixels.shape[2]) == (16, 3)
    assert np.abs(picture.rgb_float() * 255 - pixels()).mean() < 12
    assert picture.icc  # sRGB's, not the printer's
    assert picture.icc != cmyk.get("icc-profile-data")


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_avif_is_turned_once(tmp_path, orientation):
    image = pyvips.Image.new_from_array(pixels()).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    image.write_to_file(str(tmp_path / "a.avif"), lossless=True)
    picture = imageio.read(tmp_path / "a.avif")
    expected = image.autorot().numpy()
    assert picture.pixels.shape == expected.shape
    assert np.abs(picture.pixels.astype(int) - expected).mean() < 4


def test_svg_never_reaches_its_loader(tmp_path):
    (tmp_path / "a.png").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>')
    with pytest.raises(ImageError, match="format SVG"):
        imageio.read(tmp_path / "a.png")


def test_too_many_channels_are_refused(tmp_path):
    pyvips.Image.black(4, 4, bands=40).write_to_file(str(tmp_path / "a.tif"))
    with pytest.raises(ImageError, match="40 channels"):
        imageio.read(tmp_path / "a.tif")
