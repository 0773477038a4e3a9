"""The conditional controlling module: steers decoding with the low-quality input (paper, "Conditional control").

Shapes: B batch, D latent channels, h w token grid, H W pixels of the enlarged input.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.models.guide import Guide
from realsrt.models.tokenizer import Encoder, VQGANConfig
from realsrt.nn.blocks import PlainResidualBlock, ResidualBlock, SpatialAttention


@dataclass(frozen=True)
class EncoderControlConfig:
    """The paper's: a trainable copy of the tokenizer's encoder on the enlarged input, fused with the latents."""

    tokenizer: VQGANConfig

    def build(self) -> "EncoderControl":
        return EncoderControl(self)


@dataclass(frozen=True)
class FeatureControlConfig:
    """Ours for small models: the same fusion on features that exist already, folded to the token grid.
    ``fine_blocks``: residual blocks of a second path that corrects the features a conditional decoder reads on the
    input's grid; 0 leaves it out."""

    features: int = 64
    latent: int = 96
    width: int = 96
    blocks: int = 2
    fold: int = 2
    fine_blocks: int = 0

    def build(self) -> "FeatureControl":
        return FeatureControl(self)


def _zero_conv(cin: int, cout: int) -> nn.Conv2d:
    """A 1x1 convolution that starts at zero."""
    conv = nn.Conv2d(cin, cout, 1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


class EncoderControl(nn.Module):
    """cat(z, E'(up)) → residual block → attention → residual block → 1x1 conv that starts at zero."""

    def __init__(self, config: EncoderControlConfig) -> None:
        super().__init__()
        dim = config.tokenizer.quantizer.dim
        self.encoder = Encoder(config.tokenizer)
        self.fuse_in = ResidualBlock(dim * 2, dim * 2)
        self.fuse_attn = SpatialAttention(dim * 2)
        self.fuse_out = ResidualBlock(dim * 2, dim * 2)
        self.zero_out = _zero_conv(dim * 2, dim)

    def forward(self, z_BDhw: Tensor, guide: Guide) -> Tensor:
        """The residual (B, D, h, w) to add to the latents."""
        fused = torch.cat([z_BDhw, self.encoder(guide.up)], dim=1)
        return self.zero_out(self.fuse_out(self.fuse_attn(self.fuse_in(fused))))

    def steer(self, z_BDhw: Tensor, guide: Guide, fidelity: float | Tensor) -> tuple[Tensor, Guide]:
        """Latents and guide as the decoder shall read them."""
        return z_BDhw + fidelity * self(z_BDhw, guide), guide


class FeatureControl(nn.Module):
    """cat(z, folded features) → 1x1 conv → residual blocks → 1x1 conv that starts at zero."""

    def __init__(self, config: FeatureControlConfig) -> None:
        super().__init__()
        self.fold = config.fold
        self.fuse_in = nn.Conv2d(config.latent + config.features * config.fold**2, config.width, 1)
        self.blocks = nn.Sequential(*(PlainResidualBlock(config.width) for _ in range(config.blocks)))
        self.zero_out = _zero_conv(config.width, config.latent)
        self.fine = None
        if config.fine_blocks:
            zero = _zero_conv(config.features, config.features)
            self.fine = nn.Sequential(*(PlainResidualBlock(config.features) for _ in range(config.fine_blocks)), zero)

    def forward(self, z_BDhw: Tensor, guide: Guide) -> Tensor:
        """The residual (B, D, h, w) to add to the latents."""
        if guide.features is None:
            raise ValueError("this control module needs a guide with features")
        features = F.pixel_unshuffle(guide.features, self.fold)
        return self.zero_out(self.blocks(F.silu(self.fuse_in(torch.cat([z_BDhw, features], dim=1)))))

    def steer(self, z_BDhw: Tensor, guide: Guide, fidelity: float | Tensor) -> tuple[Tensor, Guide]:
        """Latents and guide as the decoder shall read them."""
        z_BDhw = z_BDhw + fidelity * self(z_BDhw, guide)
        if self.fine is not None:
            assert guide.features is not None
            guide = replace(guide, features=guide.features + fidelity * self.fine(guide.features))
        return z_BDhw, guide
