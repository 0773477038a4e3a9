"""The kinds of image people hold in Python: in as planes of floats, out as the kind that came in."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsrt.errors import ImageError, first_line
from realsrt.io.picture import Picture


@dataclass(frozen=True)
class Planes:
    """One image: rgb (3,H,W) and alpha (1,H,W) or None, float32 in [0,1] on the CPU; gray images have equal
    channels."""

    rgb: Tensor
    alpha: Tensor | None = None

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.rgb.shape[-2], self.rgb.shape[-1]

    @cached_property
    def gray(self) -> bool:
        """All channels are equal."""
        red, green, blue = self.rgb
        return torch.equal(red, green) and torch.equal(green, blue)

    def pick(self, rows: Tensor, columns: Tensor) -> Tensor:
        """These rows and columns of the colour, (3,h,w) float32."""
        return self.rgb.index_select(-2, rows).index_select(-1, columns)


@dataclass(frozen=True)
class Pixels:
    """The same for opaque images of whole numbers: what is looked at becomes floats when it is looked at.

    hwc: uint8 or uint16, one channel or three; may be a map of a file.
    """

    hwc: np.ndarray
    alpha = None

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.hwc.shape[0], self.hwc.shape[1]

    @cached_property
    def gray(self) -> bool:
        """All channels are equal."""
        parts = (self.hwc[first : first + 64] for first in range(0, len(self.hwc), 64))  # the first tells of most
        return all(bool((part[:, :, :1] == part).all()) for part in parts)

    def pick(self, rows: Tensor, columns: Tensor) -> Tensor:
        """These rows and columns of the colour, (3,h,w) float32 in [0,1]."""
        picked = self.hwc[rows.numpy()[:, None], columns.numpy()]
        floats = picked.astype(np.float32) / np.float32(np.iinfo(self.hwc.dtype).max)
        return torch.from_numpy(floats).permute(2, 0, 1).expand(3, -1, -1).contiguous()


Restore = Callable[[list[Planes]], Any]
_Back = Callable[[list[Picture]], Any]


def to_planes(image: Any) -> tuple[list[Planes | Pixels], Restore]:
    """A path, imageio.Picture, PIL image, HW or HWC array (uint8, uint16 or float in [0,1]; 1-4 channels) or BCHW
    tensor (1, 3 or 4 channels, uint8 or float in [0,1]) → its images, and the function that makes the same kind of
    the results.

    A path comes back as a Picture. Raises ImageError for anything else, an empty image, or values that are not finite
    or far outside [0,1].
    """
    pictures, back = _pictures(image)

    def restore(results: list[Planes]) -> Any:
        made = []
        for picture, out in zip(pictures, results, strict=True):
            alpha = None if out.alpha is None else out.alpha[0].numpy()
            made.append(picture.with_pixels(to_hwc(out.rgb), alpha))
        return back(made)

    return [_planes(picture) for picture in pictures], restore


def to_picture(image: Any) -> Picture:
    """An image of any kind that `to_planes` takes as a Picture with the same numbers, and the profile of a PIL image.

    Raises ImageError as that does, and for a batch of several.
    """
    pictures, _ = _pictures(image)
    if len(pictures) != 1:
        raise ImageError(f"this is a batch of {len(pictures)} images; take them one by one")
    return pictures[0]


def pasted(image: Any, crop: Any, where: tuple[slice, slice], mask_hw: Tensor) -> Any:
    """A copy of `image` with `crop`, of the same kind, at these rows and columns where the mask (h,w) is True."""
    [whole], back = _pictures(image)
    pixels = whole.pixels.copy()
    pixels[where] = np.where(mask_hw.numpy()[:, :, None], to_picture(crop).pixels, pixels[where])
    return back([replace(whole, pixels=pixels)])


def _planes(picture: Picture) -> Planes | Pixels:
    if picture.pixels.dtype.kind == "u" and not picture.has_alpha:
        return Pixels(picture.pixels)
    rgb, alpha = picture.rgb_float().transpose(2, 0, 1), picture.alpha_float()
    return Planes(torch.from_numpy(np.ascontiguousarray(rgb)), None if alpha is None else torch.from_numpy(alpha)[None])


def _pictures(image: Any) -> tuple[list[Picture], _Back]:
    """The same numbers as Pictures, sharing no memory with what the caller may write to, and the function that makes
    the kind of `image` of others."""
    if isinstance(image, str | os.PathLike):
        from realsrt.io import image as imageio

        return [imageio.read(image)], itemgetter(0)
    if isinstance(image, Picture):
        return [replace(image, pixels=Picture.from_array(image.pixels).pixels)], itemgetter(0)
    if isinstance(image, Tensor):
        return _of_tensor(image)
    if isinstance(image, np.ndarray):
        return [Picture.from_array(image.copy())], lambda made: _array(made[0], image)
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(image, pil.Image):
        return _of_pil(image)
    kind = type(image).__name__
    raise ImageError(f"cannot take a {kind} as an image; give a path, PIL image, HWC array or BCHW tensor")


def _array(picture: Picture, like: np.ndarray) -> np.ndarray:
    return (picture.pixels if like.ndim == 3 else picture.pixels[:, :, 0]).astype(like.dtype, copy=False)


def _of_tensor(tensor: Tensor) -> tuple[list[Picture], _Back]:
    if tensor.ndim != 4 or tensor.shape[1] not in (1, 3, 4) or len(tensor) == 0:
        raise ImageError(
            f"expected a tensor of shape batch, 1, 3 or 4 channels, height, width; got {tuple(tensor.shape)}"
        )
    if tensor.layout != torch.strided or tensor.is_meta:
        raise ImageError("cannot take a sparse tensor, or one without numbers; give a dense one")
    if not (tensor.is_floating_point() or tensor.dtype == torch.uint8):
        raise ImageError(f"cannot take a tensor of {tensor.dtype}; give uint8 or floats from 0 to 1")
    kind = torch.float32 if tensor.is_floating_point() else torch.uint8  # NumPy has no bfloat16
    arrays = tensor.detach().to("cpu", kind).resolve_neg().permute(0, 2, 3, 1).numpy()

    def back(made: list[Picture]) -> Tensor:
        hwc = torch.from_numpy(np.stack([picture.pixels for picture in made]))
        return hwc.to(tensor.device, tensor.dtype).permute(0, 3, 1, 2).contiguous()

    return [Picture.from_array(hwc.copy()) for hwc in arrays], back


def _of_pil(image: Any) -> tuple[list[Picture], _Back]:
    """Upright by its EXIF tag. Bilevel becomes gray, palettes and other colour spaces RGB(A), 16-bit gray stays. The
    ICC profile is kept, but where its colour space is left: CMYK becomes sRGB as CMYK files do."""
    import pyvips
    from PIL import Image, ImageOps

    if 0 in image.size:
        raise ImageError(f"the image is empty: {image.width}x{image.height}")
    try:
        image.load()
    except Exception as problem:  # Pillow raises whatever damage leads to
        raise ImageError(f"the PIL image can't be decoded ({first_line(problem)}); open the file anew") from problem
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:  # EXIF that is no EXIF turns nothing
        upright = image
    icc = image.info.get("icc_profile") or b""
    if upright.mode.startswith("I"):
        array = np.asarray(upright)
        if array.min() < 0 or array.max() > 65535:
            raise ImageError(
                f"a PIL image of mode {upright.mode} with values outside 0…65535 is not a 16-bit gray image"
            )
        array = array.astype(np.uint16)
    elif upright.mode == "F":
        array = np.array(upright)
    elif upright.mode == "CMYK":
        inks = pyvips.Image.new_from_array(np.asarray(upright)).copy(interpretation="cmyk")
        inks.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)  # pyright: ignore[reportArgumentType]
        colours = inks.icc_transform("srgb", embedded=True, input_profile="cmyk")
        array, icc = colours.numpy(), icc and colours.get("icc-profile-data")
    else:
        clear = "transparency" in upright.info
        mode = {"L": "L", "LA": "LA", "1": "L", "RGBA": "RGBA", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}.get(
            upright.mode, "RGB"
        )
        mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode) if clear else mode
        icc = b"" if upright.mode == "LAB" else icc
        array = np.array(upright.convert("RGBA").convert("LA") if clear and mode == "LA" else upright.convert(mode))

    def back(made: list[Picture]) -> Any:
        out = Image.fromarray(_array(made[0], array))
        if icc:
            out.info["icc_profile"] = icc
        return out

    metadata = {"icc-profile-data": (pyvips.GValue.blob_type, icc)} if icc else {}
    return [replace(Picture.from_array(array), metadata=metadata)], back


def to_hwc(chw: Tensor) -> np.ndarray:
    """(C,H,W) → (H,W,C), in memory of its own."""
    return np.ascontiguousarray(chw.permute(1, 2, 0).numpy())
