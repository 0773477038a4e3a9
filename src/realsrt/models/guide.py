"""What is known from the low-quality image, computed once a window: the guide of prediction and decoding.

Shapes: B batch, H W pixels of ``lq``, s scale, F features, N tokens.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Guide:
    """``lq`` (B,3,H,W); ``up`` what decoding starts from, not clamped: the trunk's base image, or the bicubic
    enlargement where there is no trunk; ``features`` (B,F,H,W) of the trunk, or None; ``ids`` (B,N): tokens of ``up``,
    or None where the model conditions on features."""

    lq: Tensor
    up: Tensor
    features: Tensor | None = None
    ids: Tensor | None = None


class Ground(NamedTuple):
    """What a trunk found in whole images, cut into windows: ``features`` (B,F,H,W) and ``base`` (B,3,sH,sW)."""

    features: Tensor
    base: Tensor

    def some(self, cut: slice) -> "Ground":
        """These windows of the batch."""
        return Ground(self.features[cut], self.base[cut])


def tokens_from_map(features_BFHW: Tensor, factor: int) -> Tensor:
    """Fold ``factor``×``factor`` positions into channels and flatten: (B,F,H,W) → (B, HW/factor², F·factor²)."""
    folded = F.pixel_unshuffle(features_BFHW, factor) if factor > 1 else features_BFHW
    return folded.flatten(2).transpose(1, 2).contiguous()
