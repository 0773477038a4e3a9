"""What is known from the low-quality picture, computed once a window: the guide of prediction and decoding.

Shapes: B batch, H W pixels of ``lq``, s scale, F features, N tokens.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.imaging.resize import upscale_bicubic
from realsrt.nn.blocks import PlainResidualBlock


@dataclass(frozen=True)
class Guide:
    """``lq`` (B,3,H,W); ``up`` its bicubic enlargement, not clamped; ``features`` (B,F,H,W) of the low-quality
    encoder, or None; ``ids`` (B,N): tokens of ``up``, or None where the model conditions on features."""

    lq: Tensor
    up: Tensor
    features: Tensor | None = None
    ids: Tensor | None = None


@dataclass(frozen=True)
class LQEncoderConfig:
    """An encoder of the low-quality picture on its own grid."""

    channels: int = 48
    blocks: int = 6

    def build(self) -> "LQEncoder":
        return LQEncoder(self)


class LQEncoder(nn.Module):
    """conv3x3, then residual blocks, all at the input's resolution: run once and used by every part."""

    def __init__(self, config: LQEncoderConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, config.channels, 3, padding=1)
        self.blocks = nn.Sequential(*(PlainResidualBlock(config.channels) for _ in range(config.blocks)))

    def forward(self, lq_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0,1] → (B, F, H, W)."""
        return self.blocks(self.stem(lq_BCHW - 0.5))


def enlarge(lq_BCHW: Tensor, scale: int) -> Tensor:
    """The bicubic enlargement every model starts from (align_corners=False, not clamped)."""
    return upscale_bicubic(lq_BCHW, scale)


def tokens_from_map(features_BFHW: Tensor, factor: int) -> Tensor:
    """Fold ``factor``×``factor`` positions into channels and flatten: (B,F,H,W) → (B, HW/factor², F·factor²)."""
    folded = F.pixel_unshuffle(features_BFHW, factor) if factor > 1 else features_BFHW
    return folded.flatten(2).transpose(1, 2).contiguous()
