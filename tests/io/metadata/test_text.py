"""The text of a picture from format to format: settings of image generators, titles, authors."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from realsrt.io import image as imageio
from realsrt.io.metadata import exif
from realsrt.io.metadata.provenance import Provenance

OTHERS = ("jpg", "webp", "tif", "avif")
PROMPT = "a tree, café 桃\nNegative prompt: grass\nSteps: 40, Sampler: Euler a, Seed: 968002204"
MADE = Provenance("RealSRT test", "{}")
exiftool = shutil.which("exiftool")


def png(path: Path, **texts: str) -> Path:
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_itxt(keyword.replace("_", " "), text)
    Image.new("RGB", (20, 10), (90, 80, 70)).save(path, pnginfo=info)
    return path


def user_comment(path: Path) -> str:
    """As Pillow finds it."""
    with Image.open(path) as image:
        value = image.getexif().get_ifd(0x8769)[0x9286]
    assert value.startswith(b"UNICODE\0")
    return value[8:].decode("utf-16-be")


@pytest.mark.parametrize("suffix", OTHERS)
def test_generation_parameters_there_and_back(tmp_path, suffix):
    picture = imageio.read(png(tmp_path / "a.png", parameters=PROMPT, workflow='{"nodes": "桃"}', prompt='{"1": 2}'))
    assert imageio.write(tmp_path / f"b.{suffix}", picture, provenance=MADE) == ()
    assert user_comment(tmp_path / f"b.{suffix}") == PROMPT
    with Image.open(tmp_path / f"b.{suffix}") as image:
        assert image.getexif()[0x0110] == 'prompt:{"1": 2}'
    assert imageio.write(tmp_path / "c.png", imageio.read(tmp_path / f"b.{suffix}"), provenance=MADE) == ()
    with Image.open(tmp_path / "c.png") as image:
        image.load()
        found = image.text
    assert (found["parameters"], found["workflow"], found["prompt"]) == (PROMPT, '{"nodes": "桃"}', '{"1": 2}')


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif"])  # into TIFF Pillow writes no such directory
@pytest.mark.parametrize("order", ["be", "le"])
def test_a_comment_of_either_byte_order(tmp_path, suffix, order):
    block = Image.Exif()
    block[0x010F] = "Maker"  # without it Pillow writes none into AVIF
    block.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + PROMPT.encode(f"utf-16-{order}")
    Image.new("RGB", (20, 10)).save(tmp_path / f"a.{suffix}", exif=block)
    imageio.write(tmp_path / "b.png", imageio.read(tmp_path / f"a.{suffix}"))
    with Image.open(tmp_path / "b.png") as image:
        image.load()
        assert image.text["parameters"] == PROMPT


def test_a_comment_that_is_no_settings_stays_in_exif(tmp_path):
    block = Image.Exif()
    block.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0holiday"
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=block)
    imageio.write(tmp_path / "b.png", imageio.read(tmp_path / "a.jpg"))
    with Image.open(tmp_path / "b.png") as image:
        image.load()
        assert "parameters" not in image.text
        assert image.getexif().get_ifd(0x8769)[0x9286].endswith(b"holiday")


@pytest.mark.skipif(not exiftool, reason="exiftool is missing (Debian: libimage-exiftool-perl)")
@pytest.mark.parametrize("suffix", OTHERS)
def test_titles_and_authors_find_their_places(tmp_path, suffix):
    path = png(tmp_path / "a.png", Title="Früh <1>", Author="Ann", Copyright="C\x0b", Comment="Hm", Software="Paint")
    assert imageio.write(tmp_path / f"b.{suffix}", imageio.read(path), provenance=MADE) == ()
    command = [str(exiftool), "-j", "-G1", str(tmp_path / f"b.{suffix}")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)[0]
    assert found["XMP-dc:Title"] == "Früh <1>"
    assert found["XMP-dc:Creator"] == "Ann"
    assert found["XMP-dc:Rights"].strip() == "C"
    assert found["XMP-exif:UserComment"] == "Hm"
    assert found["XMP-xmp:CreatorTool"] == "Paint"


def test_what_a_file_says_already_stays(tmp_path):
    """EXIF and XMP beside the text go first."""
    block = Image.Exif()
    block[0x0110], block.get_ifd(0x8769)[0x9286] = "A camera", b"ASCII\0\0\0holiday"
    info = PngImagePlugin.PngInfo()
    for keyword in ("parameters", "prompt", "Title"):
        info.add_text(keyword, "new")
    info.add_itxt("XML:com.adobe.xmp", (
        '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description r:about="" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="old"/></r:RDF>'
    ))  # fmt: skip
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png", exif=block, pnginfo=info)
    notices = imageio.write(tmp_path / "b.jpg", imageio.read(tmp_path / "a.png"))
    assert "no place for the picture's text Title, parameters, prompt" in notices[0]
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[0x0110] == "A camera"
        assert image.getexif().get_ifd(0x8769)[0x9286].endswith(b"holiday")
        assert b"new" not in image.info["xmp"]


@pytest.mark.parametrize("suffix", OTHERS)
def test_text_without_a_place_or_too_long_is_said(tmp_path, suffix):
    path = png(tmp_path / "a.png", parameters=PROMPT, workflow="x" * 70_000, Disclaimer="none")
    notices = imageio.write(tmp_path / f"b.{suffix}", imageio.read(path))
    assert "no place for the picture's text Disclaimer, workflow (kept by PNG)" in notices[0]
    assert user_comment(tmp_path / f"b.{suffix}") == PROMPT


@pytest.mark.parametrize("block", [b"", b"Exif\0\0", b"II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x09"])
def test_blocks_that_say_nothing(block):
    assert exif.comment(block) == ""
    assert exif.strings(block) == {}
    made = exif.with_texts(block, {0x010F: "Maker"}, "Hm")
    assert made
    assert exif.comment(made) == "Hm"
    assert exif.strings(made) == {0x010F: "Maker"}


def test_strip_leaves_no_text(tmp_path):
    picture = imageio.read(png(tmp_path / "a.png", parameters=PROMPT, Title="secret"))
    for suffix in (*OTHERS, "png"):
        imageio.write(tmp_path / f"b.{suffix}", picture, strip=True)
        data = (tmp_path / f"b.{suffix}").read_bytes()
        assert b"secret" not in data
        assert "Steps".encode("utf-16-be") not in data
