"""Metadata that exhausts: whatever a file holds, it is looked at within bounds of bytes, entries, depth and time; what
is beyond them is left out, which is said, and the picture is done."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from realsrt.errors import ImageError
from realsrt.io import image

PIXELS = (np.mgrid[0:16, 0:24][1][..., None] * np.array([5, 3, 2])).astype(np.uint8)
SECONDS, MEGABYTES = 5, 250  # of an attack; a picture of this size alone takes 0.1 s, and 90 MB with the libraries
HEIC = Path(__file__).parents[2] / "data" / "turned8.heic"
RDF = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:a="u:a"'
END = b"</rdf:RDF>"


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    data = pyvips.Image.new_from_array(PIXELS).copy(interpretation="srgb").pngsave_buffer(keep=0)
    more = b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return data[:33] + more + data[33:]


def tiff_of(rows: list[tuple[int, int, int, int]], tail: bytes = b"") -> bytes:
    """A sound TIFF whose first directory has more rows: (tag, type, count, value); `tail` begins at 4000."""
    data = bytearray(pyvips.Image.new_from_array(PIXELS).copy(interpretation="srgb").tiffsave_buffer())
    (first,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[first : first + 2])
    old = bytes(data[first + 2 : first + 2 + 12 * count])
    data = data.ljust(4000, b"\0")
    data += tail
    new = sorted([*(old[i : i + 12] for i in range(0, len(old), 12)), *(struct.pack("<HHII", *row) for row in rows)],
                 key=lambda row: struct.unpack("<H", row[:2]))  # fmt: skip
    data[4:8] = struct.pack("<I", len(data))
    return bytes(data) + struct.pack("<H", len(new)) + b"".join(new) + bytes(4)


def nested_exif() -> bytes:
    """1,000 pointers of 1,000 directories of 1,000 pointers."""
    directory = struct.pack("<H", 900) + struct.pack("<HHII", 0x8825, 4, 1, 4000) * 900 + bytes(4)
    return tiff_of([(0x8769, 4, 1, 4000)] * 900, directory * 2)


def overlapping_exif() -> bytes:
    """Directories that begin everywhere within one another."""
    row = struct.pack("<HHII", 0x9286, 2, 60_000, 4000)
    directory = struct.pack("<H", 900) + row * 900 + bytes(65_000)
    return tiff_of([(0x8769, 4, 1, 4000 + 12 * i) for i in range(900)], directory)


def texts(kind: bytes, count: int, size: int) -> bytes:
    packed = zlib.compress(b"x" * size, 9)
    middle = {b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0", b"tEXt": b"\0"}[kind]
    return png_of(*((kind, b"k%d" % i + middle + (packed if kind != b"tEXt" else b"x" * size)) for i in range(count)))


def xmp_of(packet: bytes) -> bytes:
    return png_of((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))


def jpeg_of(marker: int, body: bytes, count: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG")
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
    return file.getvalue()[:2] + segment * count + file.getvalue()[2:]


def between_scans(more: bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", progressive=True)
    place = file.getvalue().rindex(b"\xff\xc4")
    return file.getvalue()[:place] + more + file.getvalue()[place:]


def webp_of(kind: bytes, body: bytes) -> bytes:
    file = io.BytesIO()
    name = {b"EXIF": "exif", b"XMP ": "xmp", b"ICCP": "icc_profile"}[kind]
    Image.fromarray(PIXELS).save(file, "WEBP", **{name: b"<a/>"})
    data = bytearray(file.getvalue())
    place = data.rindex(kind)
    data[place : place + 12] = kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    data[4:8] = struct.pack("<I", len(data) - 8)
    return bytes(data)


ATTACKS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "EXIF pointers within one another": ("tif", nested_exif),
    "EXIF directories over one another": ("tif", overlapping_exif),
    "EXIF of many long values": ("tif", lambda: tiff_of([(0x8769, 4, 1, 4000)], struct.pack("<H", 999) + b"".join(
        struct.pack("<HHII", 0x9000 + i, 2, 59_000, 4000) for i in range(999)) + bytes(70_000))),
    "zTXt that inflates": ("png", lambda: texts(b"zTXt", 300, 4_000_000)),
    "zTXt beyond the limit": ("png", lambda: texts(b"zTXt", 100, 9_000_000)),
    "zTXt cut short": ("png", lambda: png_of(*((b"zTXt", b"k\0\0" + zlib.compress(b"x" * 4_000_000, 9)[:-30]),) * 900)),
    "iTXt that inflates": ("png", lambda: texts(b"iTXt", 300, 4_000_000)),
    "tEXt without end": ("png", lambda: texts(b"tEXt", 40_000, 5)),
    "XMP of 10 MB of attributes": ("png", lambda: xmp_of(
        RDF + b"".join(b' a:b%d=""' % i for i in range(700_000)) + b"/>" + END)),
    "XMP of processing instructions": ("png", lambda: xmp_of(RDF + b"/>" + b"<?a b?>" * 500_000 + END)),
    "XMP of comments": ("png", lambda: xmp_of(RDF + b"/>" + b"<!---->" * 500_000 + END)),
    "XMP of CDATA": ("png", lambda: xmp_of(
        RDF + b">" + b"<a:b><![CDATA[x]]>y</a:b>" * 150_000 + b"</rdf:Description>" + END)),
    "XMP of elements": ("png", lambda: xmp_of(RDF + b">" + b"<a:b/>" * 600_000 + b"</rdf:Description>" + END)),
    "XMP without bottom": ("png", lambda: xmp_of(b"<a>" * 900_000)),
    "XMP of entities": ("png", lambda: xmp_of(b'<!DOCTYPE x [<!ENTITY a0 "aaaaaaaaaa">' + b"".join(
        b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 10)) + b"]>" + RDF + b">&a9;" + END)),
    "XMP of namespaces": ("png", lambda: xmp_of(
        RDF + b"".join(b' xmlns:n%d="u:%d"' % (i, i) for i in range(40_000)) + b"/>" + END)),
    "XMP of 30 MB of text": ("png", lambda: xmp_of(RDF + b">" + b"x" * 30_000_000 + b"</rdf:Description>" + END)),
    "XMP in WebP": ("webp", lambda: webp_of(b"XMP ", RDF + b">" + b"<a:b/>" * 600_000 + b"</rdf:Description>" + END)),
    "EXIF of 20 MB in WebP": ("webp", lambda: webp_of(b"EXIF", b"Exif\0\0II*\0\x08\0\0\0" + b"\xff" * 20_000_000)),
    "ICC of 5 MB in WebP": ("webp", lambda: webp_of(b"ICCP", bytes(5_000_000))),
    "ICC that inflates": ("png", lambda: png_of((b"iCCP", b"a\0\0" + zlib.compress(bytes(200_000_000), 9)))),
    "EXIF chunks": ("png", lambda: png_of(*((b"eXIf", b"II*\0\x08\0\0\0" + b"\xff" * 60_000),) * 100)),
    "JPEG of segments": ("jpg", lambda: jpeg_of(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + RDF + b"/>" + END, 20_000)),
    "PNG of empty chunks": ("png", lambda: png_of(*((b"aaAa", b""),) * 2_000_000)),
    "JPEG of IPTC": ("jpg", lambda: jpeg_of(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5000, 100)),
    "JPEG of pictures": ("jpg", lambda: jpeg_of(
        0xE2, b"MPF\0MM\0*\0\0\0\x08\0\1\xb0\2\0\7\xff\xff\xff\xff\0\0\0\0" * 2000, 200)),
}  # fmt: skip


def pages(count: int, *, endless: bool = False) -> bytes:
    """A TIFF of one picture, and directories of one row after it."""
    data = bytearray(pyvips.Image.new_from_array(PIXELS).copy(interpretation="srgb").tiffsave_buffer())
    (first,) = struct.unpack("<I", data[4:8])
    rows = bytes(data[first : first + 2 + 12 * struct.unpack("<H", data[first : first + 2])[0]])
    starts = [first, *range(len(data), len(data) + (len(rows) + 4) * count, len(rows) + 4)]
    after = [*starts[1:], starts[1] if endless else 0]
    struct.pack_into("<I", data, first + len(rows), after[0])
    return bytes(data) + b"".join(rows + struct.pack("<I", place) for place in after[1:])


def boxes(count: int) -> bytes:
    """An AVIF of one picture, and empty boxes behind it."""
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "AVIF")
    return file.getvalue() + b"\0\0\0\x08free" * count


CROWDS = {
    "10,000 pages": ("tif", lambda: pages(20_000)),
    "10,000 pages, without end": ("tif", lambda: pages(3, endless=True)),
    "100,000 segments": ("jpg", lambda: jpeg_of(0xE1, b"", 200_000)),
    "100,000 segments, among its scans": ("jpg", lambda: between_scans(b"\xff\xe1\0\2" * 200_000)),
    "1,000 boxes": ("avif", lambda: boxes(2000)),
    "1,000 boxes, in HEIC": ("heic", lambda: HEIC.read_bytes() + boxes(2000)[-16_000:]),
}


@pytest.mark.parametrize("crowd", CROWDS)
def test_parts_without_number_are_refused(tmp_path, crowd):
    suffix, make = CROWDS[crowd]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(make())
    with pytest.raises(ImageError, match=f"has more than {crowd.partition(', ')[0]}"):
        image.header(path)


def test_some_pages_are_not(tmp_path):
    (tmp_path / "a.tif").write_bytes(pages(999))
    assert "only the first of its 1000 pages" in image.read(tmp_path / "a.tif").notices[0]


SAID = {
    "EXIF of many long values": "EXIF is left out", "EXIF of 20 MB in WebP": "EXIF of more than",
    "EXIF pointers within one another": "EXIF is left out", "ICC of 5 MB in WebP": "icc-profile-data of more than",
    "XMP of elements": "XMP is left out", "zTXt that inflates": "text entries are kept",
}  # fmt: skip

CHILD = """
import sys, time, pathlib
from realsrt.io import image
from realsrt.io.metadata.provenance import Provenance
start = time.perf_counter()
picture = image.read(sys.argv[1])
told = [*picture.notices, *image.write(sys.argv[2], picture, provenance=Provenance("test", "{}"))]
seconds = time.perf_counter() - start
peak = int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
print(picture.pixels.shape == (16, 24, 3), round(seconds, 2), peak, *told, sep="|")
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux' /proc")
@pytest.mark.parametrize("attack", ATTACKS)
def test_metadata_that_exhausts(tmp_path, attack):
    suffix, make = ATTACKS[attack]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(make())
    command = [sys.executable, "-c", CHILD, str(path), str(tmp_path / "out.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    whole, seconds, peak, *notices = done.stdout.strip().split("|")
    print(attack, path.stat().st_size, seconds, peak, notices)
    assert whole == "True"
    assert float(seconds) < SECONDS
    assert int(peak) < MEGABYTES
    assert SAID.get(attack, "") in "|".join(notices)
