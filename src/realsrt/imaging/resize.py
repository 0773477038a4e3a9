"""Resampling: the bicubic x4 of the method, and the filters that degradations draw from.

Shape suffixes: B batch, C channels, H W pixels.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

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
            _lanczos_weights(n_in, n_out, antialias).to(x_BCHW)
            for n_in, n_out in zip(x_BCHW.shape[2:], size, strict=True)
        )
        return rows @ x_BCHW @ columns.T
    return F.interpolate(x_BCHW, size=size, mode=mode, align_corners=False, antialias=antialias)


def _lanczos_weights(n_in: int, n_out: int, antialias: bool) -> Tensor:
    """(n_out, n_in) matrix whose rows sum to 1: Lanczos windows, cut and renormalised at the borders."""
    step = n_in / n_out
    width = max(step, 1.0) if antialias else 1.0
    centre = (torch.arange(n_out, dtype=torch.float64) + 0.5) * step - 0.5
    distance = (torch.arange(n_in, dtype=torch.float64) - centre[:, None]) / width
    weight = torch.where(distance.abs() < 3, torch.sinc(distance) * torch.sinc(distance / 3), 0.0)
    return weight / weight.sum(1, keepdim=True)
