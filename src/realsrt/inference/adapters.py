"""The kinds of image people hold in Python: in as planes of floats, out as the kind that came in."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsrt.errors import ImageError
from realsrt.imaging.color import luma
from realsrt.io.picture import TOLERATED, Picture


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


def to_planes(image: Any) -> tuple[list[Planes] | list[Pixels], Restore]:
    """A path, imageio.Picture, PIL image, HW or HWC array (uint8, uint16 or float in [0,1]; 1-4 channels) or BCHW
    tensor (1, 3 or 4 channels, uint8 or float in [0,1]) → its images, and the function that makes the same kind of
    the results.

    A path comes back as a Picture. Raises ImageError for anything else, an empty image, or values that are not finite
    or far outside [0,1].
    """
    if isinstance(image, str | os.PathLike):
        from realsrt.io import image as imageio

        image = imageio.read(image)
    if isinstance(image, Tensor):
        return _from_tensor(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(image, pil.Image):
        return _from_pil(image)
    if hasattr(image, "rgb_float") and hasattr(image, "with_pixels"):
        return _from_file_image(image)
    kind = type(image).__name__
    raise ImageError(f"cannot take a {kind} as an image; give a path, PIL image, HWC array or BCHW tensor")


def _planes(hwc: np.ndarray, *, is_float: bool) -> Planes:
    """(H,W,1-4) float32 → Planes, checked."""
    if 0 in hwc.shape:
        raise ImageError(f"the image is empty: {hwc.shape[1]}x{hwc.shape[0]}")
    if is_float:
        low, high = float(hwc.min()), float(hwc.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ImageError("the image has values that are not finite (NaN or infinity)")
        if low < -TOLERATED or high > 1 + TOLERATED:
            raise ImageError(f"float images go from 0 to 1, this one from {low:g} to {high:g}; divide it first")
        hwc = hwc.clip(0, 1)
    chw = torch.from_numpy(np.ascontiguousarray(hwc.transpose(2, 0, 1)))
    color, alpha = (chw[:-1], chw[-1:]) if len(chw) in (2, 4) else (chw, None)
    return Planes(color.expand(3, -1, -1), alpha)


def _from_file_image(image: Any) -> tuple[list[Planes] | list[Pixels], Restore]:
    def pack(results: list[Planes]) -> Any:
        out = results[0]
        return image.with_pixels(to_hwc(out.rgb), None if out.alpha is None else to_hwc(out.alpha)[:, :, 0])

    if image.pixels.dtype.kind == "u" and not image.has_alpha and image.pixels.size:
        return [Pixels(image.pixels)], pack
    alpha = image.alpha_float()
    rgb = image.rgb_float()
    return [_planes(rgb if alpha is None else np.dstack([rgb, alpha]), is_float=True)], pack


def _from_array(array: np.ndarray) -> tuple[list[Planes], Restore]:
    peak = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(array.dtype.newbyteorder("="))
    if peak is None and array.dtype.kind != "f":
        raise ImageError(f"cannot take an array of {array.dtype}; give uint8, uint16 or floats from 0 to 1")
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        raise ImageError(f"expected an array of height, width and 1 to 4 channels, got shape {array.shape}")
    floats = (array if array.ndim == 3 else array[:, :, None]).astype(np.float32)
    planes = _planes(floats / np.float32(peak) if peak else floats, is_float=not peak)

    def pack(results: list[Planes]) -> np.ndarray:
        channels = array.shape[2] if array.ndim == 3 else 1
        out = to_hwc(_channels(results[0], channels))
        out = (out * peak).round().astype(array.dtype) if peak else out.astype(array.dtype)
        return out if array.ndim == 3 else out[:, :, 0]

    return [planes], pack


def _from_tensor(tensor: Tensor) -> tuple[list[Planes], Restore]:
    if tensor.ndim != 4 or tensor.shape[1] not in (1, 3, 4) or len(tensor) == 0:
        raise ImageError(
            f"expected a tensor of shape batch, 1, 3 or 4 channels, height, width; got {tuple(tensor.shape)}"
        )
    if not (tensor.is_floating_point() or tensor.dtype == torch.uint8):
        raise ImageError(f"cannot take a tensor of {tensor.dtype}; give uint8 or floats from 0 to 1")
    scale = 255 if tensor.dtype == torch.uint8 else 1
    arrays = (tensor.detach().to("cpu", torch.float32) / scale).permute(0, 2, 3, 1).numpy()
    planes = [_planes(hwc, is_float=scale == 1) for hwc in arrays]

    def pack(results: list[Planes]) -> Tensor:
        out = torch.stack([_channels(result, tensor.shape[1]) for result in results])
        out = (out * scale).round() if scale > 1 else out
        return out.to(tensor.device, tensor.dtype)

    return planes, pack


def _from_pil(image: Any) -> tuple[list[Planes], Restore]:
    """Upright by its EXIF tag. Bilevel becomes gray, palettes and other colour spaces RGB(A), 16-bit gray stays; ICC
    profile kept."""
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        array = np.asarray(upright)
        if array.min() < 0 or array.max() > 65535:
            raise ImageError(
                f"a PIL image of mode {upright.mode} with values outside 0…65535 is not a 16-bit gray image"
            )
        array, mode = array.astype(np.uint16), None
    elif upright.mode == "F":
        array, mode = np.asarray(upright), None
    else:
        clear = "transparency" in upright.info
        mode = {"L": "L", "LA": "LA", "1": "L", "RGBA": "RGBA", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}.get(
            upright.mode, "RGB"
        )
        mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode) if clear else mode
        array = np.asarray(upright.convert("RGBA").convert("LA") if clear and mode == "LA" else upright.convert(mode))
    planes, back = _from_array(array)

    def pack(results: list[Planes]) -> Any:
        out = Image.fromarray(back(results))
        if mode is not None and out.mode != mode:
            out = out.convert(mode)
        if "icc_profile" in image.info:
            out.info["icc_profile"] = image.info["icc_profile"]
        return out

    return planes, pack


def to_picture(image: Any) -> Picture:
    """An image of any kind that `to_planes` takes, but a path, as a Picture with the same numbers.

    Raises ImageError for a batch of several.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, Tensor):
        if len(image) != 1:
            raise ImageError(f"this is a batch of {len(image)} images; take them one by one")
        array = to_hwc(image[0].detach().cpu())
        return Picture.from_array(array.clip(0, 1) if array.dtype.kind == "f" else array)
    return Picture.from_array(np.asarray(image))


def pasted(image: Any, crop: Any, where: tuple[slice, slice], mask_hw: Tensor) -> Any:
    """A copy of `image` with `crop`, of the same kind, at these rows and columns where the mask (h,w) is True."""
    if isinstance(image, Tensor):
        out = image.detach().clone()
        out[:, :, *where] = torch.where(mask_hw.to(out.device), crop, out[:, :, *where])
        return out
    whole, part = (np.array(x.pixels if hasattr(x, "pixels") else x) for x in (image, crop))
    mask = mask_hw.numpy()
    whole[where] = np.where(mask[:, :, None] if whole.ndim == 3 else mask, part, whole[where])
    if isinstance(image, np.ndarray):
        return whole
    if hasattr(image, "pixels"):
        return replace(image, pixels=whole)
    from PIL import Image

    out = Image.fromarray(whole)
    out.info.update(image.info)
    return out


def _channels(planes: Planes, count: int) -> Tensor:
    color = luma(planes.rgb) if count <= 2 else planes.rgb
    if count % 2:
        return color
    assert planes.alpha is not None
    return torch.cat([color, planes.alpha])


def to_hwc(chw: Tensor) -> np.ndarray:
    """(C,H,W) → (H,W,C), in memory of its own."""
    return np.ascontiguousarray(chw.permute(1, 2, 0).numpy())
