"""What phones write, put together byte by byte: more pictures, gain maps, videos, XMP that announces them."""

import io
import struct

import numpy as np
from PIL import Image

RDF = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
END = "</rdf:RDF></x:xmpmeta>"
NAMES = (
    ' xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
    ' xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
    ' xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"'
)


def pixels(height: int = 24, width: int = 40) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([5 * x, 8 * y, 90 + 0 * x], axis=2).astype(np.uint8)


def packet(attributes: str, inside: str = "") -> bytes:
    return f'{RDF}<rdf:Description rdf:about=""{NAMES} {attributes}>{inside}</rdf:Description>{END}'.encode()


def coded(xmp: bytes | None = None, array: np.ndarray | None = None, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels() if array is None else array).save(
        file, "JPEG", quality=92, **({"xmp": xmp} if xmp else {}), **options
    )
    return file.getvalue()


def with_mpf(first: bytes, second: bytes, kind: int = 0) -> bytes:
    """Two pictures in one file, as the CIPA's DC-007 has it."""

    def segment(total: int, offset: int) -> bytes:
        rows = struct.pack(">IIIHH", 0x030000, total, 0, 0, 0) + struct.pack(">IIIHH", kind, len(second), offset, 0, 0)
        tags = struct.pack(">HHI4s", 0xB000, 7, 4, b"0100") + struct.pack(">HHII", 0xB001, 4, 1, 2)
        tags += struct.pack(">HHII", 0xB002, 7, 32, 50) + struct.pack(">I", 0)
        body = b"MPF\0MM\0*\0\0\0\x08" + struct.pack(">H", 3) + tags + rows
        return b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body

    place = 2
    while first[place + 1] in (0xE0, 0xE1):
        place += 2 + int.from_bytes(first[place + 2 : place + 4], "big")
    total = len(first) + len(segment(0, 0))
    return first[:place] + segment(total, total - place - 8) + first[place:] + second


GAIN_MAP = coded(
    packet(
        'hdrgm:Version="1.0" hdrgm:GainMapMin="0" hdrgm:GainMapMax="2.3" hdrgm:Gamma="1" hdrgm:OffsetSDR="0.015625" '
        'hdrgm:OffsetHDR="0.015625" hdrgm:HDRCapacityMin="0" hdrgm:HDRCapacityMax="2.3" '
        'hdrgm:BaseRenditionIsHDR="False"'
    ),
    pixels(12, 20)[..., 0].copy(),
)
DIRECTORY = (
    '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" '
    'Item:Mime="image/jpeg"/></rdf:li><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" '
    f'Item:Mime="image/jpeg" Item:Length="{len(GAIN_MAP)}"/></rdf:li></rdf:Seq></Container:Directory>'
)
ULTRA_HDR = packet('hdrgm:Version="1.0" dc:format="image/jpeg"', DIRECTORY)
MOTION = packet('GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="4024" dc:format="image/jpeg"', DIRECTORY)
VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(500)
