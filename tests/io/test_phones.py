"""What phones and their programs write: gain maps, motion photos, several pictures, HEIC."""

import struct
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from realsrt.errors import ImageError
from realsrt.io import formats, opening
from realsrt.io import image as imageio
from realsrt.io.metadata import jpeg
from realsrt.io.metadata.xmp import Resized
from realsrt.io.picture import Picture
from support.phones import GAIN_MAP, MOTION, ULTRA_HDR, VIDEO, coded, packet, pixels, with_mpf


def placed(tmp_path: Path, data: bytes, name: str = "a.jpg") -> Path:
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (with_mpf(coded(ULTRA_HDR), GAIN_MAP), "gain map"),
        (coded(ULTRA_HDR) + GAIN_MAP, "gain map"),
        (with_mpf(coded(), coded()), "first of its pictures"),
        (coded(MOTION) + VIDEO, "video"),
        (with_mpf(coded(), coded(), kind=0x010002), None),  # a preview of itself
        (with_mpf(coded(ULTRA_HDR), b""), None),  # cut off on its way
        (coded() + bytes(100), None),
    ],
)
def test_what_lies_behind_a_picture_is_left_out_and_said(tmp_path, data, word):
    path = placed(tmp_path, data)
    picture = imageio.read(path)
    assert imageio.header(path).format == "JPEG"
    assert np.abs(picture.pixels.astype(int) - pixels()).mean() < 3
    assert len(picture.notices) == (word is not None)
    assert all(str(word) in notice for notice in picture.notices)


@pytest.mark.parametrize("behind, word", [(GAIN_MAP, "gain map"), (VIDEO, "video"), (b"", None)])
def test_a_large_jpeg_is_looked_through_too(tmp_path, monkeypatch, behind, word):
    """What would fill the memory is mapped."""
    monkeypatch.setattr(opening, "_READ", 100)
    path = placed(tmp_path, coded(ULTRA_HDR if word == "gain map" else MOTION) + behind)
    notices = imageio.read(path).notices
    assert [word in notice for notice in notices] == ([True] if word else [])
    if not word:
        path.write_bytes(path.read_bytes()[:-2])
        with pytest.raises(ImageError, match="cut short"):
            imageio.read(path)
    crowded = coded()[:2] + b"\xff\xfe\0\2" * (jpeg.SEGMENTS + 1) + coded()[2:]
    with pytest.raises(ImageError, match="segments"):
        imageio.read(placed(tmp_path, crowded))


def test_a_new_loader_takes_no_known_format_away(tmp_path):
    """libvips itself would give an Ultra HDR file to a loader of its own."""
    path = placed(tmp_path, with_mpf(coded(ULTRA_HDR), GAIN_MAP))
    theirs = pyvips.Image.new_from_file(str(path)).get("vips-loader")
    if theirs == "jpegload":
        pytest.skip("this libvips has no loader for Ultra HDR")
    assert imageio.read(path).pixels.shape == (24, 40, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_nothing_announces_what_is_gone(tmp_path, suffix):
    for number, xmp in enumerate((ULTRA_HDR, MOTION)):
        picture = imageio.read(placed(tmp_path, coded(xmp), f"{number}.jpg"))
        notices = imageio.write(tmp_path / f"out{number}.{suffix}", picture)
        assert "no longer announces" in notices[0]
        after = bytes(imageio.read(tmp_path / f"out{number}.{suffix}").metadata["xmp-data"][1])
        assert not any(word in after for word in (b"hdrgm:V", b"Directory", b"MotionPhoto", b"MicroVideo", b"GainMap"))
        assert b"image/jpeg" in after
        assert not imageio.write(tmp_path / "again.png", imageio.read(tmp_path / f"out{number}.{suffix}"))


def test_data_that_is_in_the_packet_itself_stays(tmp_path):
    xmp = packet('xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" GDepth:Near="1" GDepth:Data="abc"')
    imageio.write(tmp_path / "out.png", imageio.read(placed(tmp_path, coded(xmp))))
    assert b"GDepth:Data" in bytes(imageio.read(tmp_path / "out.png").metadata["xmp-data"][1])


def test_a_panorama_keeps_its_angle(tmp_path):
    xmp = packet(
        'GPano:CroppedAreaImageWidthPixels="40" GPano:CroppedAreaTopPixels="7"',
        "<GPano:FullPanoWidthPixels>80</GPano:FullPanoWidthPixels><GPano:FullPanoHeightPixels>x</GPano:FullPanoHeightPixels>",
    )
    picture = imageio.read(placed(tmp_path, coded(xmp)))
    larger = picture.with_pixels(picture.rgb_float().repeat(4, 0).repeat(4, 1))
    assert "panorama in its XMP are multiplied" in imageio.write(tmp_path / "out.jpg", larger)[0]
    after = bytes(imageio.read(tmp_path / "out.jpg").metadata["xmp-data"][1])
    for wanted in (b'WidthPixels="160"', b'TopPixels="28"', b"<GPano:FullPanoWidthPixels>320<", b">x<"):
        assert wanted in after, wanted


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("attributes", [True, False])
def test_faces_are_where_they_were(tmp_path, orientation, attributes):
    """Regions are places in the picture before it is turned (as it lies in the file)."""
    names = (
        'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" '
        'xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#"'
    )
    area, size = {"x": 0.25, "y": 0.125, "w": 0.1, "h": 0.2}, {"w": 40, "h": 24}

    def struct_of(kind: str, prefix: str, values: dict) -> str:
        if attributes:
            fields = " ".join(f'{prefix}:{k}="{v}"' for k, v in values.items())
            return f"<mwg-rs:{kind} {fields}/>"
        inside = "".join(f"<{prefix}:{k}>{v}</{prefix}:{k}>" for k, v in values.items())
        return f'<mwg-rs:{kind} rdf:parseType="Resource">{inside}</mwg-rs:{kind}>'

    xmp = packet(names, (
        f'<mwg-rs:Regions rdf:parseType="Resource">{struct_of("AppliedToDimensions", "stDim", size)}<mwg-rs:RegionList>'
        f'<rdf:Bag><rdf:li rdf:parseType="Resource">{struct_of("Area", "stArea", area)}</rdf:li></rdf:Bag>'
        "</mwg-rs:RegionList></mwg-rs:Regions>"
    ))  # fmt: skip
    array = np.zeros((24, 40, 3), np.uint8)
    array[3, 10] = 255  # where the area's middle is
    image = pyvips.Image.new_from_array(array).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    image.set_type(pyvips.GValue.blob_type, "xmp-data", xmp)
    image.pngsave(str(tmp_path / "in.png"))
    picture = imageio.read(tmp_path / "in.png")
    larger = picture.with_pixels(picture.rgb_float().repeat(2, 0).repeat(2, 1))
    imageio.write(tmp_path / "out.png", larger)
    text = bytes(imageio.read(tmp_path / "out.png").metadata["xmp-data"][1]).decode()

    def number(prefix: str, name: str) -> float:
        rest = text.split(f"{prefix}:{name}", 1)[1]
        return float(rest[2:].split('"')[0] if attributes else rest[1:].split("<")[0])

    height, width = larger.pixels.shape[:2]
    assert (number("stDim", "w"), number("stDim", "h")) == (width, height)
    x, y = number("stArea", "x") * width, number("stArea", "y") * height
    assert larger.pixels[max(0, int(y) - 1) : int(y) + 2, max(0, int(x) - 1) : int(x) + 2].max() == 255
    assert (number("stArea", "w") == 0.2) == (orientation >= 5)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_last_bytes_is_complete(tmp_path, progressive):
    whole = coded(progressive=progressive)
    expected = imageio.read(placed(tmp_path, whole)).pixels
    for cut in (1, 2):
        picture = imageio.read(placed(tmp_path, whole[:-cut]))
        np.testing.assert_array_equal(picture.pixels, expected)
        assert "last bytes are missing" in picture.notices[0]
    for cut in (20, len(whole) // 3):
        with pytest.raises(ImageError, match="damaged or cut short"):
            imageio.read(placed(tmp_path, whole[:-cut]))


def test_a_progressive_jpeg_without_its_last_scan_is_not_complete(tmp_path):
    whole = coded(progressive=True)
    assert jpeg.walk(whole[:-2]).only_end_missing
    cut = whole[: whole.rindex(b"\xff\xda")]
    assert not jpeg.walk(cut).only_end_missing
    with pytest.raises(ImageError, match="damaged or cut short"):
        imageio.read(placed(tmp_path, cut))


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xff\xd8\xff", b"\xff\xd8\xff\xc0\0\x02", b"\xff\xd8\xff\xda\0\x03\xff"]
)
def test_odd_structures_end_the_walk(data):
    assert not jpeg.walk(data).only_end_missing
    assert jpeg.left_out(data, jpeg.walk(data)) == ()


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_that_is_full_everywhere_counts_as_none(tmp_path, suffix, dtype):
    full = np.iinfo(dtype).max
    array = np.concatenate([pixels(), np.full((24, 40, 1), 255, np.uint8)], axis=2).astype(dtype) * (full // 255)
    if suffix == "webp" and dtype == np.uint16:
        pytest.skip("WebP has 8 bit")
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    pyvips.Image.new_from_array(array).copy(interpretation="srgb" if full == 255 else "rgb16").write_to_file(
        str(tmp_path / f"in.{suffix}"), **options
    )
    picture = imageio.read(tmp_path / f"in.{suffix}")
    imageio.write(tmp_path / "out.jpg", picture)
    assert imageio.read(tmp_path / "out.jpg").pixels.shape == (24, 40, 3)
    if picture.has_alpha:  # libvips drops it from some
        assert not imageio.is_transparent(tmp_path / f"in.{suffix}")
        array[0, 0, 3] -= 1
        with pytest.raises(ImageError, match="transparency"):
            imageio.write(tmp_path / "no.jpg", Picture(array))


RAW_HEADS = {
    "a.cr2": b"II*\0\x10\0\0\0CR\2\0", "a.orf": b"IIRO\x08\0\0\0", "a.rw2": b"IIU\0\x18\0\0\0",
    "a.raf": b"FUJIFILMCCD-RAW 0201", "a.cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
}  # fmt: skip


def sensor(order: str, below: bool) -> bytes:
    """A TIFF whose first directory, or one below it, holds a colour filter array (as DNG, NEF and ARW have it)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    cfa = struct.pack(order + "HHIHH", 0x0106, 3, 1, 32803, 0)
    if not below:
        return head + struct.pack(order + "H", 1) + cfa + bytes(4)
    first = struct.pack(order + "HHIHH", 0x0106, 3, 1, 2, 0) + struct.pack(order + "HHII", 0x014A, 13, 1, 38)
    return head + struct.pack(order + "H", 2) + first + bytes(4) + struct.pack(order + "H", 1) + cfa + bytes(4)


@pytest.mark.parametrize(
    ("name", "data"),
    [*RAW_HEADS.items(), *((f"a{o}{b}.dng", sensor(o, b)) for o in "<>" for b in (False, True))],
)
def test_raw_files_say_what_to_do(tmp_path, name, data):
    with pytest.raises(ImageError, match=r"raw file; develop it first"):
        imageio.read(placed(tmp_path, data + bytes(100), name))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"BM" + bytes(60), "format BMP, which is not read here; save it as PNG"),
        (b"8BPS" + bytes(60), "format PSD, which is not read here; save it as PNG"),
        (b"%PDF-1.7" + bytes(60), "format PDF, which is not read here; save it as PNG"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "is a video"),
        (b"\x76\x2f\x31\x01" + bytes(60), "format OpenEXR"),
        (b"\xff\x0a" + bytes(60), "JPEG XL"),
    ],
)
def test_known_files_that_are_not_read_say_what_to_do(tmp_path, data, words):
    if "JPEG XL" in words and "JPEG XL" in formats.supported_formats()["read"]:
        pytest.skip("this libvips reads JPEG XL")
    with pytest.raises(ImageError, match=words):
        imageio.read(placed(tmp_path, data, "a.png"))


@pytest.mark.parametrize("bits", [10, 12])
def test_white_of_10_and_12_bit_is_white(tmp_path, bits):
    """libheif moves its numbers up, so that the greatest is 65472 or 65520."""
    array = np.full((16, 16, 4), 65535, np.uint16)
    array[:8, :, :3] = 30_000
    image = pyvips.Image.new_from_array(array).copy(interpretation="rgb16")
    image.heifsave(str(tmp_path / "a.avif"), compression="av1", bitdepth=bits, lossless=True)
    picture = imageio.read(tmp_path / "a.avif")
    assert picture.pixels[12, 8].tolist() == [65535] * 4
    assert np.abs(picture.pixels[:6, :, :3].astype(int) - 30_000).max() < 2**17 / 2**bits
    assert picture.opaque
    assert not imageio.is_transparent(tmp_path / "a.avif")
    assert picture.file_depth == bits
    (told,) = imageio.write(tmp_path / "a.webp", picture)
    assert f"{bits}-bit samples are rounded to 8 bit in WebP (kept by PNG, TIFF, AVIF" in told
    assert imageio.write(tmp_path / "b.avif", picture) == ()  # of 12 bit, which holds them


HEIC = Path(__file__).parents[1] / "data"


@pytest.mark.skipif(not formats.heif_library(), reason="HEIC needs the extra heic (pi-heif)")
@pytest.mark.parametrize("bits", [8, 10])
def test_heic_is_read_and_turned_once(bits):
    """Red at the upper left, as shown; turned by irot, and by EXIF too, which is then said already."""
    picture = imageio.read(HEIC / f"turned{bits}.heic")
    assert picture.pixels.shape == (48, 32, 3)
    assert picture.depth == (8 if bits == 8 else 16)
    assert picture.file_depth == (None if bits == 8 else bits)
    assert imageio.header(HEIC / f"turned{bits}.heic").width == 32
    red, green, blue = picture.rgb_float()[8, 8]
    assert red > 0.9 > 0.2 > max(green, blue)
    assert "Somebody" in str(picture.metadata["exif-ifd0-Artist"][1])


def test_heic_without_its_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("realsrt.io.opening.heif_library", lambda: "")
    try:
        assert imageio.read(HEIC / "turned8.heic").pixels.shape == (48, 32, 3)
    except ImageError as error:
        message = str(error)
        assert "pip install '.[heic]'" in message


@pytest.mark.skipif(not formats.heif_library(), reason="HEIC needs the extra heic (pi-heif)")
def test_damaged_heic_is_refused(tmp_path):
    data = (HEIC / "turned8.heic").read_bytes()
    for cut in (30, 200, len(data) - 40):
        with pytest.raises(ImageError) as caught:
            imageio.read(placed(tmp_path, data[:cut], "a.heic"))
        assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="above the limit"):
        imageio.read(HEIC / "turned8.heic", max_pixels=100)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_the_subject_is_where_it_was(tmp_path, orientation, suffix):
    """EXIF's SubjectArea: pixels of the picture as it lies in the file."""
    block = Image.Exif()
    block[0x010F], block[0x0112] = "Maker", orientation
    block.get_ifd(0x8769).update({0x9214: (10, 3, 6, 4), 0xA214: (10, 3)})
    array = np.zeros((24, 40, 3), np.uint8)
    array[2:5, 9:12] = 255
    (tmp_path / "in.jpg").write_bytes(coded(array=array, exif=block))
    picture = imageio.read(tmp_path / "in.jpg")
    larger = picture.with_pixels(picture.rgb_float().repeat(4, 0).repeat(4, 1))
    imageio.write(tmp_path / f"out.{suffix}", larger)
    with Image.open(tmp_path / f"out.{suffix}") as image:
        found = image.getexif().get_ifd(0x8769)
    x, y, width, height = found[0x9214]
    assert (width, height) == ((24, 16) if orientation < 5 else (16, 24))
    assert tuple(found[0xA214]) == (x, y)
    assert larger.pixels[min(y, larger.height - 1), min(x, larger.width - 1)].min() > 128


def test_a_subject_beyond_16_bit_is_left_out():
    assert Resized(70_000, 10, (700, 10)).area([690, 5]) == []
