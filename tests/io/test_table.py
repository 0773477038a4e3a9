"""Every cell of the table of docs/files.md: a picture that says all of it is written, and the file asked of Pillow
(and, where installed, exiftool)."""

import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from realsrt.errors import ImageError
from realsrt.io import image as imageio
from realsrt.io.formats import supported_formats
from realsrt.io.metadata import colour
from realsrt.io.picture import Picture
from support.decoded import opened
from support.phones import GAIN_MAP, MOTION, ULTRA_HDR, VIDEO, coded, packet, pixels, with_mpf

DOCS = Path(__file__).parents[2] / "docs" / "files.md"
SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "TIFF": "tif", "AVIF": "avif", "JPEG XL": "jxl"}
BLOB = pyvips.GValue.blob_type
SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
exiftool = shutil.which("exiftool")


def written(folder: Path, suffix: str, picture: Picture) -> tuple[Path, str]:
    """The file, and ", notice" if one was given."""
    path = folder / f"out.{suffix}"
    return path, ", notice" if imageio.write(path, picture) else ""


def content(path: Path) -> bytes:
    """A file's bytes, and what PNG has packed among them."""
    texts = getattr(opened(path), "text", {})
    return path.read_bytes() + b"".join(f"{keyword}\0{text}".encode() for keyword, text in texts.items())


def said(path: Path, *tags: str) -> list[str]:
    """What exiftool finds under these names."""
    if not exiftool:
        pytest.skip("exiftool is missing (Debian: libimage-exiftool-perl)")
    command = [str(exiftool), "-s", "-s", "-s", *(f"-{tag}" for tag in tags), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def depth(folder: Path, suffix: str) -> str:
    deep = (np.arange(24 * 40 * 3).reshape(24, 40, 3) * 22).astype(np.uint16)
    path, notice = written(folder, suffix, Picture(deep))
    if not notice:
        off = np.abs(imageio.read(path).pixels.astype(float) - deep).mean() / 257
        assert off < 2 if suffix == "jxl" else off == 0
    return f"{12 if suffix == 'avif' else imageio.read(path).depth} bit{notice}" if notice else "kept"


def floats(folder: Path, suffix: str) -> str:
    path, notice = written(folder, suffix, Picture(np.linspace(0, 1, 24 * 40 * 3, dtype=np.float32).reshape(24, 40, 3)))
    bits = imageio.read(path).depth
    return "kept" if bits == 32 else f"{12 if suffix == 'avif' else bits} bit{notice}"


def alpha(folder: Path, suffix: str) -> str:
    through = np.dstack([pixels(), np.full((24, 40), 128, np.uint8)])
    if suffix == "jpg":
        with pytest.raises(ImageError, match="transparency"):
            written(folder, suffix, Picture(through))
        return "refused"
    path, notice = written(folder, suffix, Picture(through))
    image = opened(path)
    assert abs(np.asarray(image.convert("RGBA"))[..., 3].mean() - 128) < 2
    return f"kept{notice}"


def full_alpha(folder: Path, suffix: str) -> str:
    path, notice = written(folder, suffix, Picture(np.dstack([pixels(), np.full((24, 40), 255, np.uint8)])))
    image = opened(path)
    if image.mode == "RGBA":
        assert np.asarray(image)[..., 3].min() == 255
    return f"{'kept' if image.mode == 'RGBA' else 'left out'}{notice}"


def profile_of(gray: bool) -> Callable[[Path, str], str]:
    def check(folder: Path, suffix: str) -> str:
        icc = colour.profile(SRGB, (1.8,), "Gamma 1.8", gray=gray)
        picture = Picture(pixels()[..., :1] if gray else pixels(), {"icc-profile-data": (BLOB, icc)})
        path, notice = written(folder, suffix, picture)
        if suffix == "jxl":
            return f"as code points{notice}" if imageio.read(path).code else f"as sRGB{notice}"
        return f"kept{notice}" if opened(path).info.get("icc_profile") == icc else f"as sRGB{notice}"

    return check


def code(transfer: int) -> Callable[[Path, str], str]:
    def check(folder: Path, suffix: str) -> str:
        fields = {"cicp": (BLOB, bytes([9, transfer]))}
        if transfer not in colour.HDR:
            fields["icc-profile-data"] = (BLOB, colour.of_code(9, transfer).icc)
        path, notice = written(folder, suffix, Picture(pixels(), fields))
        said = b"cICP\x09" in path.read_bytes() or b"colrnclx\0\x09" in path.read_bytes()
        if said or (suffix == "jxl" and imageio.read(path).code == (9, {14: 1}.get(transfer, transfer))):
            return f"kept{notice}"
        image = opened(path)
        return f"{'as ICC profile' if image.info.get('icc_profile') else 'as sRGB'}{notice}"

    return check


def gamma(folder: Path, suffix: str) -> str:
    data = pyvips.Image.new_from_array(pixels()).copy(interpretation="srgb").pngsave_buffer()
    body = b"gAMA" + struct.pack(">I", 100_000)
    chunk = struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body))
    (folder / "in.png").write_bytes(data[:33] + chunk + data[33:])
    path, notice = written(folder, suffix, imageio.read(folder / "in.png"))
    if suffix == "jxl":
        return f"{'as code points' if imageio.read(path).code else 'lost'}{notice}"
    return f"{'as ICC profile' if opened(path).info.get('icc_profile') else 'lost'}{notice}"


def photo(folder: Path, **more) -> Picture:
    """With EXIF, turned, of 300 px an inch."""
    block = Image.Exif()
    block[0x010F], block[0x0112], block[0x011A], block[0x011B], block[0x0128] = "Maker", 6, 300.0, 300.0, 2
    (folder / "in.jpg").write_bytes(coded(**more, exif=block, dpi=(300, 300)))
    return imageio.read(folder / "in.jpg")


def exif(folder: Path, suffix: str) -> str:
    path, notice = written(folder, suffix, photo(folder))
    image = opened(path)
    return f"{'kept' if image.getexif().get(0x010F) == 'Maker' else 'lost'}{notice}"


def orientation(folder: Path, suffix: str) -> str:
    path, notice = written(folder, suffix, photo(folder))
    image = opened(path)
    assert image.size == (24, 40)
    return f"{'applied, reset' if image.getexif().get(0x0112, 1) == 1 else 'twice'}{notice}"


def density(folder: Path, suffix: str) -> str:
    path, notice = written(folder, suffix, photo(folder))
    image = opened(path)
    if "dpi" in image.info and round(image.info["dpi"][0]) == 300 and suffix != "webp":
        return f"kept{notice}"
    return f"{'in EXIF' if image.getexif().get(0x011A) == 300 else 'lost'}{notice}"


def xmp(folder: Path, suffix: str) -> str:
    path, notice = written(folder, suffix, photo(folder, xmp=packet('dc:format="image/jpeg"')))
    return f"{'kept' if b'dc:format' in content(path) else 'lost'}{notice}"


def panorama(folder: Path, suffix: str) -> str:
    picture = photo(folder, xmp=packet('GPano:FullPanoWidthPixels="24"'))
    larger = picture.with_pixels(picture.rgb_float().repeat(2, 0).repeat(2, 1))
    path, notice = written(folder, suffix, larger)
    right = b'FullPanoWidthPixels="48"' in content(path)
    return f"{'multiplied' if right else 'stale'}{notice}"


def iptc(folder: Path, suffix: str) -> str:
    path, notice = written(folder, suffix, Picture(pixels(), {"iptc-data": (BLOB, b"\x1c\x02\x69\0\x08Headline")}))
    return f"{'kept' if said(path, 'IPTC:Headline') == ['Headline'] else 'left out'}{notice}"


def text(keyword: str) -> Callable[[Path, str], str]:
    def check(folder: Path, suffix: str) -> str:
        fields = {f"png-comment-0-{keyword}": (pyvips.GValue.gstr_type, "Some text")}
        path, notice = written(folder, suffix, Picture(pixels(), fields))
        data = content(path)
        places = {
            "kept": f"{keyword}\0Some text".encode(), "in XMP": b">Some text<",
            "in EXIF": "Some text".encode("utf-16-be"),
        }  # fmt: skip
        found = [place for place, there in places.items() if there in data]
        return f"{found[0] if found else 'left out'}{notice}"

    return check


def behind(data: bytes) -> Callable[[Path, str], str]:
    """What lies behind a JPEG's picture; and that nothing announces it any more."""

    def check(folder: Path, suffix: str) -> str:
        (folder / "in.jpg").write_bytes(data)
        picture = imageio.read(folder / "in.jpg")
        assert len(picture.notices) == 1
        path, notice = written(folder, suffix, picture)
        assert notice
        assert b"hdrgm:Version" not in content(path)
        assert b"GCamera:M" not in content(path)
        return f"left out{notice}"

    return check


CHECKS = {
    "16 bit": depth, "float": floats, "alpha": alpha, "alpha, full everywhere": full_alpha,
    "ICC profile": profile_of(gray=False), "ICC profile of gray": profile_of(gray=True),
    "code points (`cICP`, nclx)": code(14), "the same, of PQ and HLG": code(16), "`gAMA`, `cHRM`": gamma,
    "EXIF, GPS": exif, "orientation": orientation, "density": density, "XMP": xmp, "panorama's sizes": panorama,
    "IPTC": iptc, "PNG text: title, author, …": text("Title"), "PNG text: generation parameters": text("parameters"),
    "PNG text: other": text("Disclaimer"), "gain map": behind(with_mpf(coded(ULTRA_HDR), GAIN_MAP)),
    "motion photo's video": behind(coded(MOTION) + VIDEO),
}  # fmt: skip


def table() -> dict[str, dict[str, str]]:
    lines = DOCS.read_text("utf-8").split("## What becomes of what", 1)[1].split("\n##", 1)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


TABLE = table()


def test_the_table_has_all_rows_and_columns():
    assert list(TABLE) == list(CHECKS)
    assert all(list(row) == list(SUFFIXES) for row in TABLE.values())


@pytest.mark.parametrize("format", SUFFIXES)
@pytest.mark.parametrize("row", CHECKS)
def test_a_cell(tmp_path, row, format):
    if format not in supported_formats()["write"]:
        pytest.skip(f"{format} cannot be written here")
    assert CHECKS[row](tmp_path, SUFFIXES[format]) == TABLE.get(row, {}).get(format)
