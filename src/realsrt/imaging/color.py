"""Colour: keep the output's colours those of the input, and gray what was gray."""

import torch
from torch import Tensor
from torch.nn import functional as F

from realsrt.imaging.luma import luma_of

ADAIN_EPS = 1e-5  # added to the variances (the authors' value)
WAVELET_LEVELS = 5
COARSE_REACH = 2**WAVELET_LEVELS - 1  # pixels that far away count


def adain(image: Tensor, reference: Tensor) -> Tensor:
    """Give each channel of `image` (B,C,H,W) the mean and standard deviation of `reference` (B,C,h,w), any size.

    Unbiased variance plus 1e-5, as the paper's colour correction of a window by its low-quality window. Not clamped.
    """
    mean, std = _moments(image)
    target_mean, target_std = _moments(reference)
    return (image - mean) / std * target_std + target_mean


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(-2, -1), keepdim=True, correction=1)
    return mean, (variance + ADAIN_EPS).sqrt()


def wavelet(image: Tensor, reference: Tensor, levels: int = WAVELET_LEVELS) -> Tensor:
    """Replace the coarse colours of `image` by those of `reference`, both (...,C,H,W) of the same size; details stay.
    Not clamped.

    The coarse part is what `levels` à-trous smoothings leave. As smoothing is linear, only the difference is smoothed.
    Works channel by channel to keep memory modest.
    """
    if image.shape != reference.shape:
        raise ValueError(f"sizes differ: {tuple(image.shape)} and {tuple(reference.shape)}")
    out = image.clone(memory_format=torch.contiguous_format)
    for plane, target in zip(out.flatten(0, -3), reference.flatten(0, -3), strict=True):
        plane += coarse(target - plane, levels)
    return out


def coarse(plane: Tensor, levels: int = WAVELET_LEVELS) -> Tensor:
    """Low frequencies of a plane (H,W), or of several (N,H,W): the taps 1/4, 1/2, 1/4 along both axes at distances 1,
    2, 4, …; edges repeat."""
    for level in range(levels):
        reach = 2**level
        plane = _smooth(plane, reach).mT
        plane = _smooth(plane, reach).mT
    return plane


def _smooth(plane: Tensor, reach: int) -> Tensor:
    width = plane.shape[-1]
    padded = F.pad(plane.reshape(-1, *plane.shape[-2:]), (reach, reach), mode="replicate").view(*plane.shape[:-1], -1)
    out = padded[..., :width] + padded[..., 2 * reach :]
    return out.mul_(0.25).add_(plane, alpha=0.5)


def luma(rgb: Tensor) -> Tensor:
    """BT.601 luma (...,1,H,W) of gamma-encoded RGB (...,3,H,W), same range; equal channels give back their value."""
    return luma_of(*rgb.unbind(-3)).unsqueeze(-3)


def fill_transparent(rgb: Tensor, alpha: Tensor) -> Tensor:
    """Give fully transparent pixels the colour of the visible pixels around them: rgb (3,H,W), alpha (H,W) in [0,1] →
    (3,H,W).

    Pixels with alpha > 0 keep their colour. The rest take alpha-weighted means from ever coarser halvings of the
    image, so the result depends on no invisible colour. An image without a visible pixel becomes black.
    """
    weight = alpha.clamp(0, 1)[None]
    if bool((weight > 0).all()):
        return rgb
    return torch.where(weight > 0, rgb, _pull(torch.where(weight > 0, rgb, 0) * weight, weight))


def _pull(premultiplied: Tensor, weight: Tensor) -> Tensor:
    """Colours of every pixel from premultiplied colours and their weights: own mean where there is weight, else the
    coarser level's."""
    own = premultiplied / weight.clamp_min(1e-30)
    height, width = weight.shape[-2:]
    if bool((weight > 0).all()) or max(height, width) == 1:
        return own * (weight > 0)
    pad = (0, width % 2, 0, height % 2)
    half = [F.avg_pool2d(F.pad(x, pad)[None], 2)[0] for x in (premultiplied, weight)]
    below = F.interpolate(_pull(*half)[None], scale_factor=2, mode="bilinear", align_corners=False)[
        0, :, :height, :width
    ]
    return torch.where(weight > 0, own, below)
