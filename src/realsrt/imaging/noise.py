"""Sensor-like noise with one strength a sample: Gaussian and Poisson, coloured or gray.

Shape suffixes: B batch, C channels, H W pixels. Source: Real-ESRGAN (arXiv:2107.10833), appendix.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from realsrt.imaging.resize import stack_padded, unstack
from realsrt.nn.device import to_device

_LUMA = (0.2989, 0.5870, 0.1140)  # BT.601 as Real-ESRGAN rounds it: its noise is reproduced


def add_noise(
    images: Sequence[Tensor],
    poisson: Sequence[bool],
    strength: Sequence[float],
    gray: Sequence[bool],
    rngs: Sequence[torch.Generator],
) -> list[Tensor]:
    """Add normal or (`poisson`) shot noise to images (1,3,H,W) in [0,1] of any sizes, and clamp to [0,1]; `gray`: the
    same noise in all channels, shot noise that of the luma. Generators live on the images' device.

    `strength` is a sigma in 8-bit levels for normal noise; it multiplies the deviation of shot noise, where white has
    as many photons as the image has distinct levels, rounded up to a power of two. Only the draws are made one by one,
    so that each follows from its own generator; all else is done in one go.
    """
    x_BCHW = stack_padded(images, mode="replicate")
    poisson_B, gray_B = torch.tensor(poisson), torch.tensor(gray)
    strength_B = torch.where(poisson_B, torch.tensor(strength), torch.tensor(strength) / 255.0)
    poisson_B, gray_B, strength_B = (to_device(v, x_BCHW.device) for v in (poisson_B, gray_B, strength_B))
    clean_BCHW, photons_B111 = _light(x_BCHW, gray_B)
    rate_BCHW, noise_BCHW = clean_BCHW * photons_B111, torch.zeros_like(x_BCHW)
    for i, (image, rng) in enumerate(zip(images, rngs, strict=True)):
        here = (slice(i, i + 1), slice(None), slice(image.shape[2]), slice(image.shape[3]))
        if poisson[i]:
            noise_BCHW[here] = torch.poisson(rate_BCHW[here].contiguous(), generator=rng)
        else:
            noise_BCHW[here] = torch.randn(image.shape, generator=rng, device=image.device, dtype=image.dtype)
    is_poisson_B111 = _column(poisson_B, x_BCHW).bool()
    noise_BCHW = torch.where(is_poisson_B111, noise_BCHW / photons_B111 - clean_BCHW, noise_BCHW)
    noise_BCHW = torch.where(_column(gray_B, x_BCHW).bool(), noise_BCHW[:, :1], noise_BCHW)
    noisy_BCHW = (x_BCHW + noise_BCHW * _column(strength_B, x_BCHW)).clamp(0, 1)
    return unstack(noisy_BCHW, [image.shape[2:] for image in images])


def _light(x_BCHW: Tensor, gray_B: Tensor) -> tuple[Tensor, Tensor]:
    """What shot noise starts from: clean values on 8-bit levels (luma where gray), and the photons of white."""
    weight_C11 = to_device(torch.tensor(_LUMA, dtype=x_BCHW.dtype), x_BCHW.device).view(3, 1, 1)
    luma_B1HW = (x_BCHW * weight_C11).sum(1, keepdim=True)
    clean_BCHW = torch.where(_column(gray_B, x_BCHW).bool(), luma_B1HW, x_BCHW)
    level_BCHW = (clean_BCHW.clamp(0, 1) * 255.0).round()
    level_BL = level_BCHW.flatten(1).long()
    seen_BV = level_BCHW.new_zeros(len(x_BCHW), 256).scatter_(1, level_BL, 1.0)  # no wait for the device
    photons_B111 = torch.exp2(torch.ceil(torch.log2(seen_BV.sum(1)))).view(-1, 1, 1, 1)
    return level_BCHW / 255.0, photons_B111


def _column(value_B: Tensor, x_BCHW: Tensor) -> Tensor:
    return to_device(value_B.to(x_BCHW.dtype), x_BCHW.device).view(-1, 1, 1, 1)
