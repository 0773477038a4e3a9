"""Sensor-like noise with one strength a sample: Gaussian and Poisson, coloured or gray.

Shape suffixes: B batch, C channels, H W pixels. Source: Real-ESRGAN (arXiv:2107.10833), appendix.
"""

import torch
from torch import Tensor

_LUMA = (0.2989, 0.5870, 0.1140)


def add_gaussian_noise(x_BCHW: Tensor, sigma_B: Tensor | float, gray_B: Tensor | bool, rng: torch.Generator) -> Tensor:
    """Add normal noise and clamp to [0,1]. sigma in 8-bit levels; gray: the same noise in all channels.

    x in [0,1]; `rng` lives on x's device.
    """
    noise_BCHW = torch.randn(x_BCHW.shape, generator=rng, device=x_BCHW.device, dtype=x_BCHW.dtype)
    return _add(x_BCHW, noise_BCHW, _column(sigma_B, x_BCHW) / 255.0, gray_B)


def add_poisson_noise(x_BCHW: Tensor, scale_B: Tensor | float, gray_B: Tensor | bool, rng: torch.Generator) -> Tensor:
    """Add shot noise and clamp to [0,1]. scale multiplies the deviation; gray: the noise of the luma, in all channels.

    A pixel's photon count is its 8-bit value in units of 1/levels, levels being the number of distinct values in the
    sample, rounded up to a power of two. x: RGB in [0,1]; `rng` lives on x's device.
    """
    luma_B1HW = (x_BCHW * x_BCHW.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    clean_BCHW = torch.where(_column(gray_B, x_BCHW).bool(), luma_B1HW, x_BCHW)
    level_BCHW = (clean_BCHW.clamp(0, 1) * 255.0).round()
    levels_B111 = torch.stack([_distinct(level_CHW) for level_CHW in level_BCHW]).view(-1, 1, 1, 1)
    photons = torch.exp2(torch.ceil(torch.log2(levels_B111)))
    clean_BCHW = level_BCHW / 255.0
    noise_BCHW = torch.poisson(clean_BCHW * photons, generator=rng) / photons - clean_BCHW
    return _add(x_BCHW, noise_BCHW, _column(scale_B, x_BCHW), gray_B)


def _distinct(level_CHW: Tensor) -> Tensor:
    """How many of the 256 levels occur, as a float scalar; no wait for the device."""
    return level_CHW.new_zeros(256).index_fill_(0, level_CHW.flatten().long(), 1.0).sum()


def _add(x_BCHW: Tensor, noise_BCHW: Tensor, strength_B111: Tensor, gray_B: Tensor | bool) -> Tensor:
    noise_BCHW = torch.where(_column(gray_B, x_BCHW).bool(), noise_BCHW[:, :1], noise_BCHW)
    return (x_BCHW + noise_BCHW * strength_B111).clamp(0, 1)


def _column(value_B: Tensor | float, x_BCHW: Tensor) -> Tensor:
    return torch.as_tensor(value_B, device=x_BCHW.device).to(x_BCHW.dtype).view(-1, 1, 1, 1)
