"""The blur kernels of Real-ESRGAN, and filtering with one kernel a sample.

Shape suffixes: B batch, C channels, H W pixels, k kernel side. Source of the kernel family: Real-ESRGAN
(arXiv:2107.10833, section 3.1 and appendix) and BSRGAN (arXiv:2103.14006).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.imaging.resize import stack_padded, unstack
from realsrt.imaging.tiling import mirror_index
from realsrt.nn.device import to_device

KERNEL_SIZE = 21
"""Side of every kernel array; smaller kernels are centred in it, zero around."""


def bell_kernels(
    size_B: Tensor, sigma_x_B: Tensor, sigma_y_B: Tensor, angle_B: Tensor, beta_B: Tensor, plateau_B: Tensor
) -> Tensor:
    """Bell-shaped kernels (B,21,21), non-negative, each summing to 1.

    With q the squared Mahalanobis distance from the centre: exp(-q^beta / 2), a Gaussian when beta is 1, or
    1 / (1 + q^beta) where `plateau_B` is True. size: odd side in pixels, up to 21; sigma in pixels, along axes turned
    by `angle` radians (equal sigmas give an isotropic kernel).
    """
    y_kk, x_kk = _grid(sigma_x_B)
    size_B11, sigma_x_B11, sigma_y_B11, angle_B11, beta_B11, plateau_B11 = (
        value.view(-1, 1, 1) for value in (size_B, sigma_x_B, sigma_y_B, angle_B, beta_B, plateau_B)
    )
    along_Bkk = x_kk * angle_B11.cos() + y_kk * angle_B11.sin()
    across_Bkk = y_kk * angle_B11.cos() - x_kk * angle_B11.sin()
    q_Bkk = ((along_Bkk / sigma_x_B11).square() + (across_Bkk / sigma_y_B11).square()).pow(beta_B11)
    kernel_Bkk = torch.where(plateau_B11, 1 / (1 + q_Bkk), torch.exp(-0.5 * q_Bkk))
    return _crop_and_normalise(kernel_Bkk, x_kk, y_kk, size_B11)


def sinc_kernels(size_B: Tensor, cutoff_B: Tensor) -> Tensor:
    """Circular low-pass kernels (B,21,21), each summing to 1, with negative lobes (they ring, on purpose).

    size: odd side in pixels, up to 21; cutoff in radians a pixel, in (0, pi]. The ideal filter's impulse response
    cutoff * J1(cutoff * r) / (2 pi r), cut to the square.
    """
    y_kk, x_kk = _grid(cutoff_B)
    size_B11, cutoff_B11 = size_B.view(-1, 1, 1), cutoff_B.view(-1, 1, 1)
    radius_kk = torch.hypot(x_kk, y_kk)
    safe_kk = radius_kk.clamp(min=0.5)
    kernel_Bkk = cutoff_B11 * torch.special.bessel_j1(cutoff_B11 * safe_kk) / (2 * math.pi * safe_kk)
    kernel_Bkk = torch.where(radius_kk == 0, cutoff_B11.square() / (4 * math.pi), kernel_Bkk)
    return _crop_and_normalise(kernel_Bkk, x_kk, y_kk, size_B11)


def _grid(like: Tensor) -> tuple[Tensor, Tensor]:
    axis_k = torch.arange(KERNEL_SIZE, device=like.device, dtype=like.dtype) - KERNEL_SIZE // 2
    y_kk, x_kk = torch.meshgrid(axis_k, axis_k, indexing="ij")
    return y_kk, x_kk


def _crop_and_normalise(kernel_Bkk: Tensor, x_kk: Tensor, y_kk: Tensor, size_B11: Tensor) -> Tensor:
    inside_Bkk = torch.maximum(x_kk.abs(), y_kk.abs()) <= size_B11 // 2
    kernel_Bkk = kernel_Bkk * inside_Bkk
    return kernel_Bkk / kernel_Bkk.sum((1, 2), keepdim=True)


def reflect_pad(x_BCHW: Tensor, pad: int) -> Tensor:
    """Mirror the image outwards by `pad` pixels on every side, edge pixel not repeated; any size, even 1x1."""
    height, width = x_BCHW.shape[2:]
    if pad < min(height, width):
        return F.pad(x_BCHW, (pad,) * 4, mode="reflect")
    rows, columns = (to_device(mirror_index(-pad, n + pad, n), x_BCHW.device) for n in (height, width))
    return x_BCHW[:, :, rows[:, None], columns]


def filter_valid(x_BCHW: Tensor, kernel_Bkk: Tensor) -> Tensor:
    """Filter every sample with its own kernel where the kernel fits: (B, C, H-k+1, W-k+1)."""
    batch, channels, height, width = x_BCHW.shape
    weight = to_device(kernel_Bkk.to(x_BCHW.dtype), x_BCHW.device).repeat_interleave(channels, dim=0).unsqueeze(1)
    out = F.conv2d(x_BCHW.reshape(1, batch * channels, height, width), weight, groups=batch * channels)
    return out.view(batch, channels, *out.shape[2:])


def filter_each(images: Sequence[Tensor], kernel_Bkk: Tensor) -> list[Tensor]:
    """Filter images (1,C,H,W) of any sizes, one kernel of odd side (B,k,k) each, mirrored at the borders, in one
    convolution; same shapes out."""
    centre, used_k = kernel_Bkk.shape[-1] // 2, (kernel_Bkk != 0).any(0).any(0)
    reach = max(centre - int(used_k.int().argmax()), 1)  # to the farthest weight of any kernel
    kernel_Bkk = kernel_Bkk[:, centre - reach : centre + reach + 1, centre - reach : centre + reach + 1]
    padded = stack_padded([reflect_pad(image, reach) for image in images], mode="constant")
    return unstack(filter_valid(padded, kernel_Bkk), [image.shape[2:] for image in images])
