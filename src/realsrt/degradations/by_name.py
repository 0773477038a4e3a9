"""Degraded images that follow from a name and a seed: what `realsrt degrade` writes and benchmarks measure on.

Shape suffixes: H W pixels, C channels.
"""

import hashlib

import torch
from torch import Tensor

from realsrt.degradations.apply import degrade
from realsrt.degradations.plans import DegradationConfig, Mixture


def named_rng(seed: int, name: str) -> torch.Generator:
    """The random numbers of one file: decided by the seed and the name alone."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def degrade_named(
    gt_HWC: Tensor, name: str, *, config: DegradationConfig | Mixture, seed: int = 0, scale: int = 4
) -> Tensor:
    """The low-quality image of a target (H,W,3) in [0,1] as uint8, (H // scale, W // scale, 3), by name and seed.

    Rows and columns beyond a multiple of `scale` are left out. `name` is the path below its folder, without extension.
    Raises ValueError for a side below `scale`.

    >>> from realsrt.degradations import LIGHT
    >>> degrade_named(torch.rand(70, 96, 3), "holiday/beach", config=LIGHT).shape
    torch.Size([17, 24, 3])
    """
    height, width = (side // scale * scale for side in gt_HWC.shape[:2])
    if not (height and width):
        raise ValueError(f"{gt_HWC.shape[1]}x{gt_HWC.shape[0]} is too small to shrink {scale} times")
    gt_BCHW = gt_HWC[:height, :width].permute(2, 0, 1)[None].contiguous()
    lq_BCHW = degrade(gt_BCHW, config=config, rng=named_rng(seed, name), scale=scale)
    return (lq_BCHW[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
