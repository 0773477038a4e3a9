"""Resampling: the bicubic x4 of the method, and the filters that degradations draw from.

Shape suffixes: B batch, C channels, H W pixels.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.nn.device import to_device

Mode = Literal["area", "bilinear", "bicubic", "lanczos"]


def upscale_bicubic(x_BCHW: Tensor, scale: int) -> Tensor:
    """Enlarge `scale` times by bicubic interpolation (a = -0.75, pixel areas aligned), not clamped."""
    return F.interpolate(x_BCHW, scale_factor=scale, mode="bicubic", align_corners=False)


def resize(x_BCHW: Tensor, size: tuple[int, int], mode: Mode, *, antialias: bool = False) -> Tensor:
    """Resample to `size` (height, width), not clamped.

    With `antialias` the filter widens when shrinking, as in Pillow; without it bilinear and bicubic look at 2 and 4
    pixels however far they shrink. `area` averages what a pixel covers, so it ignores the flag. `lanczos` has 3 lobes.
    """
    if tuple(x_BCHW.shape[2:]) == tuple(size):
        return x_BCHW
    if mode == "area":
        return F.interpolate(x_BCHW, size=size, mode="area")
    if mode == "lanczos":
        rows, columns = (
            to_device(_lanczos_weights(n_in, n_out, antialias).to(x_BCHW.dtype), x_BCHW.device)
            for n_in, n_out in zip(x_BCHW.shape[2:], size, strict=True)
        )
        return rows @ x_BCHW @ columns.T
    return F.interpolate(x_BCHW, size=size, mode=mode, align_corners=False, antialias=antialias)


def resize_each(
    images: Sequence[Tensor], sizes: Sequence[tuple[int, int]], modes: Sequence[Mode], antialias: Sequence[bool]
) -> list[Tensor]:
    """`resize` for pictures (1,C,H,W) of different sizes, those that agree in everything in one call."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault((tuple(image.shape[2:]), tuple(sizes[i]), modes[i], antialias[i]), []).append(i)
    out = list(images)
    for first, *rest in groups.values():
        together = torch.cat([images[i] for i in (first, *rest)]) if rest else images[first]
        resized = resize(together, sizes[first], modes[first], antialias=antialias[first]).split(1)
        for i, image in zip((first, *rest), resized, strict=True):
            out[i] = image
    return out


def stack_padded(images: Sequence[Tensor], *, mode: str) -> Tensor:
    """Pictures (1,C,H,W) of different sizes as one batch, filled up at the right and bottom by a mode of F.pad."""
    height, width = (max(image.shape[axis] for image in images) for axis in (2, 3))
    return torch.cat([F.pad(i, (0, width - i.shape[3], 0, height - i.shape[2]), mode=mode) for i in images])


def unstack(x_BCHW: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    """A batch back to pictures (1,C,height,width), cut to their sizes."""
    return [image[:, :, :h, :w] for image, (h, w) in zip(x_BCHW.split(1), sizes, strict=True)]


def _lanczos_weights(n_in: int, n_out: int, antialias: bool) -> Tensor:
    """(n_out, n_in) matrix whose rows sum to 1: Lanczos windows, cut and renormalised at the borders."""
    step = n_in / n_out
    width = max(step, 1.0) if antialias else 1.0
    centre = (torch.arange(n_out, dtype=torch.float64) + 0.5) * step - 0.5
    distance = (torch.arange(n_in, dtype=torch.float64) - centre[:, None]) / width
    weight = torch.where(distance.abs() < 3, torch.sinc(distance) * torch.sinc(distance / 3), 0.0)
    return weight / weight.sum(1, keepdim=True)
