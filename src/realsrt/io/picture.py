"""A picture in memory, with the numbers and the kind that its file had.

`rgb_float` and `alpha_float` show it as a model wants it; `with_pixels` puts a result back into the same kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from realsrt.errors import ImageError
from realsrt.imaging.luma import luma_of

TOLERATED = 0.01  # how far outside [0,1] a float picture may stray (resampling overshoots); it is clamped


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright. `pixels` is HWC, uint8/uint16/float32, C = gray 1, gray+alpha 2, RGB 3, RGB+alpha 4.

    `metadata` maps libvips' field names to (type, value): ICC profile, EXIF, XMP, IPTC; "cicp" is added to them, the
    primaries and transfer of ITU-T H.273 as 2 bytes. `density` is px/mm (x, y). `notices` are one-line remarks for the
    user, such as pages left out. `size_before`: upright width and height that the file had, whatever the pixels are
    now; `orientation`: of EXIF, that was undone; `format`, as `identify` names it, and `file_depth`, bits a sample, are
    of the file, where these are known.
    """

    pixels: np.ndarray
    metadata: Mapping[str, tuple[int, Any]] = field(default_factory=dict)
    density: tuple[float, float] = (1.0, 1.0)
    notices: tuple[str, ...] = ()
    source: Path | None = None
    size_before: tuple[int, int] | None = None
    orientation: int = 1
    format: str = ""
    file_depth: int | None = None

    @classmethod
    def from_array(cls, array: np.ndarray) -> "Picture":
        """A picture of a HW or HWC array: uint8, uint16, or floats in [0,1], of any byte order; where nothing is to be
        converted it shares the array's memory. Raises ImageError for anything else."""
        array = np.asarray(array)
        array = array[..., None] if array.ndim == 2 else array
        if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
            raise ImageError(f"array of shape {array.shape} is not a picture: give HW, or HWC with 1 to 4 channels")
        if 0 in array.shape:
            raise ImageError(f"an empty array is not a picture: {array.shape[1]}x{array.shape[0]} pixels")
        dtype = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
        if dtype not in (np.float32, np.uint8, np.uint16):
            raise ImageError(f"array of {array.dtype} is not a picture: give uint8, uint16 or floats in [0,1]")
        check_floats(array)
        return cls(np.ascontiguousarray(array, dtype))

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def gray(self) -> bool:
        return self.pixels.shape[2] < 3

    @property
    def has_alpha(self) -> bool:
        return self.pixels.shape[2] in (2, 4)

    @property
    def depth(self) -> int:
        """Bits a sample: 8, 16, or 32 for float."""
        return self.pixels.dtype.itemsize * 8

    @property
    def icc(self) -> bytes | None:
        return self.metadata["icc-profile-data"][1] if "icc-profile-data" in self.metadata else None

    @property
    def exif(self) -> bytes | None:
        return self.metadata["exif-data"][1] if "exif-data" in self.metadata else None

    @property
    def code(self) -> tuple[int, int] | None:
        """Primaries and transfer of ITU-T H.273, where the file says them."""
        return tuple(self.metadata["cicp"][1]) if "cicp" in self.metadata else None

    @property
    def opaque(self) -> bool:
        """Whether nothing shows through: there is no alpha, or it is full everywhere."""
        if not self.has_alpha:
            return True
        full = 1.0 if self.pixels.dtype.kind == "f" else np.iinfo(self.pixels.dtype).max
        return bool(self.pixels[..., -1].min() >= full)

    def without_alpha(self) -> "Picture":
        """The colours alone."""
        return replace(self, pixels=self.pixels[..., :-1]) if self.has_alpha else self

    def rgb_float(self) -> np.ndarray:
        """Colour as HW3 float32 in [0,1]; gray is repeated, alpha left out."""
        colour = to_float(self.pixels[..., :1] if self.gray else self.pixels[..., :3])
        return np.repeat(colour, 3, axis=2) if self.gray else colour

    def alpha_float(self) -> np.ndarray | None:
        """Alpha as HW float32 in [0,1], 1 = opaque, or None."""
        return to_float(self.pixels[..., -1]) if self.has_alpha else None

    def with_pixels(self, rgb: np.ndarray, alpha: np.ndarray | None = None) -> "Picture":
        """This picture's kind and metadata around new pixels: `rgb` HW3 and `alpha` HW, floats in [0,1], any size.

        Clamps, and rounds to nearest. Gray takes Rec. 601 luma. Raises ImageError on NaN or a missing or odd alpha.
        """
        if self.has_alpha != (alpha is not None) or (alpha is not None and alpha.shape != rgb.shape[:2]):
            raise ImageError("the new alpha must be there exactly when the picture has one, and be of the new size")
        if rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ImageError(f"new pixels must be HW3, not {rgb.shape}")
        colour = luma_of(*np.split(rgb, 3, axis=2)) if self.gray else rgb
        parts = [colour, *([] if alpha is None else [alpha[..., None]])]
        pixels = np.concatenate(parts, axis=2, dtype=np.float32) if len(parts) > 1 else parts[0]
        return replace(self, pixels=from_float(pixels, self.pixels.dtype))


def check_floats(samples: np.ndarray, told: str = "") -> None:
    """Raises ImageError, `told` before its words, for floats that are not finite or, beyond TOLERATED, outside [0,1]:
    they would be clamped without a word."""
    if samples.dtype.kind != "f":
        return
    low, high = float(samples.min()), float(samples.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError(f"{told}there are values that are not finite (NaN or infinity); mend them first")
    if low < -TOLERATED or high > 1 + TOLERATED:
        raise ImageError(f"{told}floats go from 0 to 1, these from {low:g} to {high:g}; scale them first")


def to_float(samples: np.ndarray) -> np.ndarray:
    """uint8, uint16 or float samples as float32 in [0,1]; floats are clamped, NaN becomes 0."""
    if samples.dtype.kind == "f":
        return np.clip(np.nan_to_num(samples, nan=0.0), 0.0, 1.0).astype(np.float32)
    return samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)


def to_whole(samples: np.ndarray) -> np.ndarray:
    """Samples as whole numbers, which is what colours can be transformed in: floats as 16 bit."""
    return from_float(to_float(samples), np.uint16) if samples.dtype.kind == "f" else samples


def from_float(samples: np.ndarray, dtype: Any) -> np.ndarray:
    """Samples in [0,1] as `dtype`, clamped and rounded to nearest. Raises ImageError on NaN or infinity."""
    if not np.isfinite(samples).all():
        raise ImageError("the result has pixels that are not numbers (NaN or infinite): try --precision fp32")
    samples = np.clip(samples, 0.0, 1.0, dtype=np.float32)
    if np.dtype(dtype).kind == "f":
        return np.ascontiguousarray(samples)
    return np.ascontiguousarray(np.rint(samples * np.float32(np.iinfo(dtype).max)).astype(dtype))
