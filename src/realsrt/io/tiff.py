"""Colours of TIFF files that libvips would take for RGB: YCbCr becomes RGB here, what is not known is refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from realsrt.errors import ImageError
from realsrt.io.metadata import exif

import pyvips  # isort: skip - after formats, which tells libvips to be quiet

_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANES, _SAMPLE_FORMAT = 0x0102, 0x0103, 0x0106, 0x0115, 0x011C, 0x0153
_LUMA, _SUBSAMPLING, _BLACK_WHITE = 0x0211, 0x0212, 0x0214
_TAGS = {
    _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANES, _SAMPLE_FORMAT, _LUMA, _SUBSAMPLING, _BLACK_WHITE,
}  # fmt: skip
_SOUND = {_BITS: {8}, _SAMPLES: {3}, _PLANES: {1}, _SAMPLE_FORMAT: {1, 4}}  # of YCbCr; libvips mixes up its planes
_YCBCR, _LOGLUV = 6, 32845
_TAKEN = {0, 1, 2, 3, 4, 5, _YCBCR, 8}  # gray, RGB, palette, mask, CMYK, CIELab: libvips knows what they are
_NAMES: dict[float, str] = {9: "ICCLab", 10: "ITULab", 32844: "LogL", _LOGLUV: "LogLuv"}
_GIVE_RGB = {6, 7, 33003, 33004, 33005, 34712, 50001, 50002}  # JPEG, JPEG 2000, WebP, JPEG XL: their decoders do
_GIVE_XYZ = {34676, 34677}  # SGI's compressions of LogLuv


@dataclass(frozen=True)
class YCbCr:
    """How to get RGB: coefficients of R, G, B in luma, and of Y, Cb, Cr the codes of black and white (TIFF 6.0,
    section 21; by default BT.601 of full range)."""

    luma: tuple[float, ...] = (0.299, 0.587, 0.114)
    black_white: tuple[float, ...] = (0, 255, 128, 255, 128, 255)

    @property
    def sound(self) -> bool:
        """Whether there is a way back."""
        luma, codes = np.array(self.luma), np.array(self.black_white)
        if luma.size != 3 or codes.size != 6:
            return False
        shares = bool(luma.min() > 0 and abs(luma.sum() - 1) < 0.01)
        return shares and bool(codes.min() >= 0 and codes.max() <= 255 and (codes[1::2] - codes[::2]).min() >= 1)

    def rgb(self, image: pyvips.Image) -> pyvips.Image:
        """An image of Y, Cb, Cr in 8 bits as RGB, computed when its pixels are."""
        (red, green, blue), codes = self.luma, np.array(self.black_white)
        to_red, to_blue = 2 - 2 * red, 2 - 2 * blue
        ways = [[1, 0, to_red], [1, -blue * to_blue / green, -red * to_red / green], [1, to_blue, 0]]
        matrix = np.array(ways) * [255, 127, 127] / (codes[1::2] - codes[::2])
        mixed = image.recomb(pyvips.Image.new_from_array(matrix.tolist())) - (matrix @ codes[::2]).tolist()
        return mixed.rint().cast("uchar").copy(interpretation="srgb")


def colours(path: Path, file: BinaryIO) -> YCbCr | None:
    """What libvips leaves to be done for RGB with an open TIFF or BigTIFF file; None: nothing. Raises ImageError."""
    tags = exif.numbers(file, _TAGS)
    kind, compression = (tags.get(tag, (1,))[0] for tag in (_PHOTOMETRIC, _COMPRESSION))
    if kind not in _TAKEN and not (kind == _LOGLUV and compression in _GIVE_XYZ):
        raise _unsupported(path, f"colours stored as {_NAMES.get(kind, f'photometric {kind:.0f}')}")
    if kind != _YCBCR or compression in _GIVE_RGB:
        return None
    if not all(set(tags.get(tag, (1,))) <= sound for tag, sound in _SOUND.items()):
        raise _unsupported(path, "YCbCr other than three interleaved samples of 8 bit")
    if tags.get(_SUBSAMPLING) != (1, 1):
        return None  # libtiff makes it RGB
    found = YCbCr(tags.get(_LUMA, YCbCr.luma), tags.get(_BLACK_WHITE, YCbCr.black_white))
    if not found.sound:
        raise _unsupported(path, "YCbCr whose coefficients or range make no sense")
    return found


def _unsupported(path: Path, what: str) -> ImageError:
    return ImageError(f"{path}: holds what cannot be read here ({what}); convert it first")
