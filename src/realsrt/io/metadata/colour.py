"""How a file means its colours where no ICC profile says so: code points of ITU-T H.273 (cICP of PNG, nclx of AVIF),
gAMA and cHRM of PNG. Each becomes an ICC profile, or, for HDR, stays a code point or becomes sRGB."""

import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyvips

from realsrt.io.metadata.png import before_pixels

_D65, _C, _DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)
_PRIMARIES = {  # H.273, table 2: white, red, green, blue, as x and y
    1: (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    4: (*_C, 0.670, 0.330, 0.210, 0.710, 0.140, 0.080),
    5: (*_D65, 0.640, 0.330, 0.290, 0.600, 0.150, 0.060),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (*_DCI, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
_NAMES = {1: "BT.709", 9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
SRGB, UNKNOWN, PQ, HLG = 13, 2, 16, 18  # transfers
HDR = {PQ: "PQ", HLG: "HLG"}
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # (a·x+b)^g from d on, c·x below: ICC's type 3
_BT709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES = {
    1: _BT709_CURVE, 6: _BT709_CURVE, 14: _BT709_CURVE, 15: _BT709_CURVE, 11: _BT709_CURVE,
    4: (2.2,), 5: (2.8,), 8: (1.0,), SRGB: _SRGB_CURVE, 17: (2.6,),
}  # fmt: skip
_NEAR = 0.005  # as far as a gamma or a place in the diagram may be from sRGB's to count as it
WHITE = 203  # cd/m², of diffuse white in HDR (ITU-R BT.2408)
_HLG_PEAK, _HLG_GAMMA = 1000, 1.2  # cd/m²; BT.2100, table 5
_ST2084 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
_SHARE = 99.95  # percent of the pixels: what the others hold of light counts as glints, and is white
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])


@dataclass(frozen=True)
class Signal:
    """What is said beside the pixels. `icc`: a profile that says the same, b"" where none is needed or can.
    `code`: primaries and transfer of H.273, None if it was said otherwise. `notice`: what cannot be kept."""

    icc: bytes = b""
    code: tuple[int, int] | None = None
    notice: str = ""


def of_code(primaries: int, transfer: int, *, gray: bool = False) -> Signal:
    """Of a code point. What is not specified counts as sRGB, as does BT.709 with the transfer of sRGB."""
    primaries = 1 if primaries == UNKNOWN else primaries
    transfer = SRGB if transfer == UNKNOWN else transfer
    known = primaries in _PRIMARIES and (transfer in _CURVES or transfer in HDR)
    if not known:
        return Signal(notice=f"its colour space (code points {primaries}/{transfer}) is not known; taken as sRGB")
    if transfer in HDR:
        return Signal(code=(primaries, transfer))
    if (primaries, transfer) == (1, SRGB):
        return Signal()
    name = f"{_NAMES.get(primaries, f'primaries {primaries}')}, transfer {transfer}"
    return Signal(profile(_PRIMARIES[primaries], _CURVES[transfer], name, gray=gray), (primaries, transfer))


def of_places(places: tuple[float, ...], gamma: float, transfer: int, *, gray: bool) -> Signal:
    """Of x and y of white, red, green and blue, and a gamma below 1 or, if 0, a transfer of H.273."""
    curve = (1 / gamma,) if gamma else _CURVES.get(transfer)
    if curve is None or len(places) != 8 or not _sane(list(places)) or not 0.2 <= curve[0] <= 5:
        return Signal(notice="its colour space is not known; taken as sRGB")
    return Signal(profile(places, curve, "Custom", gray=gray))


def corners(primaries: int) -> tuple[float, ...]:
    """x and y of red, green and blue of primaries of H.273."""
    return _PRIMARIES[primaries][2:]


def light_of(pixels: np.ndarray, code: tuple[int, int]) -> np.ndarray:
    """HWC samples of a code point as linear light, float32, 1 is white, by the primaries of BT.709: beyond them below 0
    or above 1. Alpha from 0 to 1."""
    count = 1 if pixels.shape[2] < 3 else 3
    curve = _CURVES[code[1]]
    levels = np.linspace(0, 1, np.iinfo(pixels.dtype).max + 1, dtype=np.float32)
    g, a, b, c, d = curve if len(curve) == 5 else (*curve, 1, 0, 1, 0)
    table = np.where(levels >= d, (a * levels + b) ** g, c * levels).astype(np.float32)
    light = table[pixels[..., :count]]
    if count == 3 and code[0] != 1:
        matrix = np.linalg.solve(_to_pcs(_PRIMARIES[1])[0], _to_pcs(_PRIMARIES[code[0]])[0])
        light = light @ matrix.T.astype(np.float32)
    return np.concatenate([light, levels[pixels[..., count:]]], axis=2)


def of_png(file: BinaryIO, *, gray: bool) -> Signal:
    """Of an open PNG file, by the precedence of its specification: cICP, iCCP, sRGB, gAMA with cHRM."""
    chunks = before_pixels(file)
    code = chunks.get(b"cICP", b"")
    if len(code) == 4:
        if code[2] == 0 and code[3] == 1:
            return of_code(code[0], code[1], gray=gray)
        return Signal(notice="its colour space is given for video levels, which is not known here; taken as sRGB")
    gamma = chunks.get(b"gAMA", b"")
    if {b"iCCP", b"sRGB"} & set(chunks) or not (gamma or b"cHRM" in chunks):
        return Signal()
    places = [
        number / 100_000 for (number,) in struct.iter_unpack(">I", chunks.get(b"cHRM", b"")[:32].ljust(32, b"\0"))
    ]
    primaries = tuple(places) if _sane(places) and not gray else _PRIMARIES[1]
    exponent = 100_000 / int.from_bytes(gamma, "big") if len(gamma) == 4 and any(gamma) else 2.2
    plain = abs(1 / exponent - 1 / 2.2) < _NEAR
    if plain and max(abs(a - b) for a, b in zip(primaries, _PRIMARIES[1], strict=True)) < _NEAR:
        return Signal()
    if not 0.2 <= exponent <= 5:
        return Signal(notice=f"its gamma (1/{exponent:g}) is out of range and left out; taken as sRGB")
    return Signal(profile(primaries, _SRGB_CURVE if plain and not gamma else (exponent,), "PNG cHRM, gAMA", gray=gray))


def _sane(places: list[float]) -> bool:
    matrix = np.array([[x, y, 1] for x, y in zip(places[2::2], places[3::2], strict=True)])
    return all(0 < place < 1 for place in places) and abs(np.linalg.det(matrix)) > 1e-3


def profile(primaries: tuple[float, ...], curve: tuple[float, ...], name: str, *, gray: bool = False) -> bytes:
    """An ICC profile (version 4, ISO 15076-1) of a matrix and one curve: a gamma, or type 3's g, a, b, c, d.

    primaries: x and y of white, red, green and blue.
    """
    to_pcs, adaptation = _to_pcs(primaries)
    kind = 0 if len(curve) == 1 else 3
    trc = b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + b"".join(map(_fixed, curve))
    tags = {b"desc": _text(name), b"cprt": _text("No copyright, use freely"), b"wtpt": _xyz(_D50)}
    tags[b"chad"] = b"sf32\0\0\0\0" + b"".join(map(_fixed, adaptation.flat))
    if gray:
        tags[b"kTRC"] = trc
    else:
        tags |= {b"%cXYZ" % colour: _xyz(column) for colour, column in zip(b"rgb", to_pcs.T, strict=True)}
        tags |= {b"%cTRC" % colour: trc for colour in b"rgb"}
    body, table, places = b"", b"", {}
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        if data not in places:
            places[data] = start + len(body)
            body += data + b"\0" * (-len(data) % 4)
        table += tag + struct.pack(">II", places[data], len(data))
    head = struct.pack(
        ">II4s4s4s4s6H4s", start + len(body), 0, b"\x04\x30\0\0", b"mntr", b"GRAY" if gray else b"RGB ", b"XYZ ",
        2026, 1, 1, 0, 0, 0, b"acsp",
    ) + b"\0" * 28 + b"".join(map(_fixed, _D50)) + b"\0" * 48  # fmt: skip
    return head + struct.pack(">I", len(tags)) + table + body


def stand_in(primaries: int) -> bytes:
    """A profile to be written where a code point is to take its place."""
    return profile(_PRIMARIES[primaries], _SRGB_CURVE, "")


def sound(icc: bytes) -> bytes:
    """An ICC profile of the length that it says, b"" if littlecms can make nothing of it."""
    icc = icc[: int.from_bytes(icc[:4], "big")]
    bands = {b"GRAY": 1, b"RGB ": 3, b"CMYK": 4}.get(icc[16:20])
    if bands is None or len(icc) < int.from_bytes(icc[:4], "big") or icc[36:40] != b"acsp":
        return b""
    pixel = pyvips.Image.black(1, 1, bands=bands).copy(interpretation={1: "b-w", 3: "srgb", 4: "cmyk"}[bands])
    pixel.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)  # pyright: ignore[reportArgumentType]
    try:
        pixel.icc_import(embedded=True).avg()
    except pyvips.Error:
        return b""
    return icc


def into(image: pyvips.Image, code: tuple[int, int], depth: int) -> pyvips.Image:
    """An image with an ICC profile in the colours of a code point without HDR, of 8 or 16 bit."""
    with tempfile.TemporaryDirectory() as folder:  # libvips takes profiles by file only
        path = Path(folder) / "to.icc"
        path.write_bytes(profile(_PRIMARIES[code[0]], _CURVES[code[1]], ""))
        return image.icc_transform(str(path), embedded=True, depth=depth)


def same_as(icc: bytes) -> tuple[int, int] | None:
    """The code point that says the same as an RGB profile, to a level of 8 bit: sRGB's, Display P3's or none."""
    cube = np.stack(np.meshgrid(*3 * [np.arange(0, 256, 51)]), axis=-1).reshape(1, -1, 3).astype(np.uint8)
    image = pyvips.Image.new_from_array(cube).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)  # pyright: ignore[reportArgumentType]
    for code in ((1, SRGB), (12, SRGB)):
        if np.abs(into(image, code, 8).numpy().astype(int) - cube).max() <= 1:
            return code
    return None


def _to_pcs(primaries: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(matrix from linear RGB to XYZ relative to D50, the adaptation in it)"""
    white, *colours = (
        np.array([x / y, 1, (1 - x - y) / y]) for x, y in zip(primaries[::2], primaries[1::2], strict=True)
    )
    matrix = np.stack(colours, axis=1)
    matrix = matrix * np.linalg.solve(matrix, white)
    cones = _BRADFORD @ white
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / cones) @ _BRADFORD
    return adaptation @ matrix, adaptation


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65536))


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _text(text: str) -> bytes:
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", 2 * len(text), 28) + text.encode("utf-16-be")


def to_srgb(image: pyvips.Image, code: tuple[int, int], bits: int) -> tuple[pyvips.Image, float]:
    """An image of 8 or 16 bit and a code point with an HDR transfer as sRGB of 8 or 16 `bits`, and the cd/m² up to
    which it shows light; alpha is passed on.

    Shown as on a display whose white is diffuse white, WHITE cd/m²; where there is brighter light, it is brought down
    by the roll-off of BT.2390, and darker light a little with it, the nearer to white the more.
    """
    primaries, transfer = code
    levels = 256 if image.format == "uchar" else 65536
    codes = np.linspace(0, 1, levels)
    alpha = image[image.bands - 1] if image.bands in (2, 4) else None
    colour = image[0 : image.bands - 1] if alpha is not None else image
    light = colour.maplut(_lut((_pq(codes) if transfer == PQ else _hlg(codes)).astype(np.float32)))
    matrix, _ = _to_pcs(_PRIMARIES[primaries])
    if transfer == HLG:
        luminance = light if light.bands == 1 else light.recomb(_matrix(_luminance(primaries)))
        light = light * (luminance ** (_HLG_GAMMA - 1)) * (_HLG_PEAK / WHITE)
    brightest = light[0].bandrank([light[1], light[2]], index=2) if light.bands == 3 else light
    fine = ((brightest * (WHITE / 10_000)) ** 0.25 * 65535).rint().cast("ushort")
    peak = 10_000 / WHITE * (fine.percent(_SHARE) / 65535) ** 4
    if peak > 1:
        light = light * fine.maplut(_lut(_roll_off(10_000 / WHITE * np.linspace(0, 1, 65536) ** 4, peak)))
    if light.bands == 3:
        light = light.recomb(_matrix(np.linalg.inv(_to_pcs(_PRIMARIES[1])[0]) @ matrix))
    fine = (light * 65535).rint().cast("ushort")
    linear = np.linspace(0, 1, 65536)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    top, dtype, kind = (255, np.uint8, "uchar") if bits == 8 else (65535, np.uint16, "ushort")
    done = fine.maplut(_lut(np.rint(encoded * top).astype(dtype)))
    if alpha is not None:
        done = done.bandjoin((alpha * (top / (levels - 1))).rint().cast(kind))
    gray, rgb = ("b-w", "srgb") if bits == 8 else ("grey16", "rgb16")
    return done.copy(interpretation=rgb if done.bands > 2 else gray), peak * WHITE


def _roll_off(light: np.ndarray, peak: float) -> np.ndarray:
    """What light, in units of diffuse white, is multiplied by so that `peak` becomes white (BT.2390, section 5.4.1)."""
    top = _to_pq(peak)
    code, white = np.minimum(_to_pq(light) / top, 1), _to_pq(1.0) / top
    knee = 1.5 * white - 0.5
    t = np.clip((code - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * white
    new = _pq(np.where(code < knee, code, spline) * top)
    return np.where(code < knee, 1, new / np.maximum(light, 1e-6)).astype(np.float32)


def _luminance(primaries: int) -> np.ndarray:
    x, y = _PRIMARIES[primaries][::2], _PRIMARIES[primaries][1::2]
    white, *colours = (np.array([a / b, 1, (1 - a - b) / b]) for a, b in zip(x, y, strict=True))
    return np.linalg.solve(np.stack(colours, axis=1), white)[None]


def _matrix(rows: np.ndarray) -> pyvips.Image:
    return pyvips.Image.new_from_array(rows.tolist())


def _lut(values: np.ndarray) -> pyvips.Image:
    return pyvips.Image.new_from_array(values[None])


def _pq(code: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084's light, in units of diffuse white."""
    m1, m2, c1, c2, c3 = _ST2084
    root = code ** (1 / m2)
    return (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) * 10_000 / WHITE


def _to_pq(light: np.ndarray | float) -> np.ndarray:
    """The inverse of `_pq`."""
    m1, m2, c1, c2, c3 = _ST2084
    root = (np.asarray(light) * WHITE / 10_000) ** m1
    return ((c1 + c2 * root) / (1 + c3 * root)) ** m2


def _hlg(code: np.ndarray) -> np.ndarray:
    """The scene's light of BT.2100's HLG, from 0 to 1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
