"""SRVGGNetCompact: the compact restoring network of the Real-ESRGAN project, and the trunk of ``small``.

Shapes: B batch, C channels, H W pixels of ``lq``, s scale.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class SRVGGConfig:
    """``convs``: convolutions between the first and the last. The published networks have the defaults."""

    channels: int = 64
    convs: int = 32
    scale: int = 4

    @property
    def reach(self) -> int:
        """How far, in input pixels, a pixel of the output looks."""
        return self.convs + 2

    def build(self) -> "SRVGGNetCompact":
        return SRVGGNetCompact(self)


class PReLU(nn.PReLU):
    """In the precision of its input, which autocast may have halved."""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape out."""
        return F.prelu(input, self.weight.to(input.dtype))


class SRVGGNetCompact(nn.Module):
    """3x3 convolutions at the input's resolution, PReLU between them, pixel shuffle, plus the nearest enlargement.

    Tensors are named as in the published files.
    """

    def __init__(self, config: SRVGGConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), PReLU(width)]
        for _ in range(config.convs):
            layers += [nn.Conv2d(width, width, 3, padding=1), PReLU(width)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 3 * config.scale**2, 3, padding=1))

    def features(self, lq_BCHW: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1] → the last hidden map (B,C,H,W)."""
        return self.body[:-1](lq_BCHW)

    def image(self, features_BCHW: Tensor, lq_BCHW: Tensor) -> Tensor:
        """The last hidden map and the input → (B,3,sH,sW), not clamped."""
        scale = self.config.scale
        nearest = F.interpolate(lq_BCHW, scale_factor=float(scale), mode="nearest")
        return F.pixel_shuffle(self.body[-1](features_BCHW), scale) + nearest

    def forward(self, lq_BCHW: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1] → (B,3,sH,sW), not clamped."""
        return self.image(self.features(lq_BCHW), lq_BCHW)
