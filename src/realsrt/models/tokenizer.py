"""The paper's image tokenizer: a VQGAN without attention, downsampling 8 (paper, preliminaries).

Shapes: B batch, H W pixels, D code dimension, h = H/8, w = W/8 token grid.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from realsrt.models.guide import Guide
from realsrt.models.quantizer import Quantized, QuantizerConfig
from realsrt.nn.blocks import Downsample, ResidualBlock, Upsample, group_norm


@dataclass(frozen=True)
class VQGANConfig:
    """Widths of the encoder's levels, first to last; the decoder mirrors them. Downsampling is 2^(levels−1)."""

    widths: tuple[int, ...] = (128, 128, 256, 256)
    blocks: int = 2
    quantizer: QuantizerConfig = QuantizerConfig()

    @property
    def downsampling(self) -> int:
        return 2 ** (len(self.widths) - 1)

    def build(self) -> "VQGAN":
        return VQGAN(self)


class Encoder(nn.Module):
    """Picture → latent map, before ``quant_conv``."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        widths, dim = config.widths, config.quantizer.dim
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        channels = widths[0]
        for level, width in enumerate(widths):
            for _ in range(config.blocks):
                layers.append(ResidualBlock(channels, width))
                channels = width
            if level < len(widths) - 1:
                layers.append(Downsample(channels))
        layers += [ResidualBlock(channels, channels) for _ in range(2)]
        layers += [group_norm(channels), nn.SiLU(), nn.Conv2d(channels, dim, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0,1] → (B, D, h, w)."""
        return self.layers(image_BCHW)


class Decoder(nn.Module):
    """Latent map, after ``post_quant_conv`` → image. No output activation."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        widths, dim = config.widths[::-1], config.quantizer.dim
        channels = widths[0]
        layers: list[nn.Module] = [nn.Conv2d(dim, channels, 3, padding=1)]
        layers += [ResidualBlock(channels, channels) for _ in range(2)]
        for level, width in enumerate(widths):
            for _ in range(config.blocks):
                layers.append(ResidualBlock(channels, width))
                channels = width
            if level < len(widths) - 1:
                layers.append(Upsample(channels))
        layers += [group_norm(channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    @property
    def last_layer(self) -> Tensor:
        """The weight that adaptive GAN weights are measured at in tokenizer training."""
        weight = self.layers[-1].weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, z_BDhw: Tensor) -> Tensor:
        """(B, D, h, w) → (B, 3, H, W), around [0,1]."""
        return self.layers(z_BDhw)


class VQGAN(nn.Module):
    """Encoder, quantiser, decoder. A guide is accepted everywhere and ignored: these tokens hold the whole image."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.quantizer.dim
        self.encoder = Encoder(config)
        self.quant_conv = nn.Conv2d(dim, dim, 1)
        self.quantizer = config.quantizer.build()
        self.post_quant_conv = nn.Conv2d(dim, dim, 1)
        self.decoder = Decoder(config)

    def encode(self, image_BCHW: Tensor, guide: Guide | None = None) -> Tensor:
        """Token ids (B, h, w) of images (B, 3, H, W) in [0,1]."""
        return self.quantizer.encode(self.quant_conv(self.encoder(image_BCHW)))

    def quantize(self, image_BCHW: Tensor, guide: Guide | None = None, rng: torch.Generator | None = None) -> Quantized:
        """As :meth:`encode`, differentiable, learning the codebook in training mode."""
        return self.quantizer(self.quant_conv(self.encoder(image_BCHW)), rng)

    def lookup(self, ids_Bhw: Tensor) -> Tensor:
        """Latents (B, D, h, w) of ids, ready for :meth:`decode`."""
        return self.post_quant_conv(self.quantizer.lookup(ids_Bhw))

    def decode(self, z_BDhw: Tensor, guide: Guide | None = None) -> Tensor:
        """Images (B, 3, H, W) of latents, not clamped."""
        return self.decoder(z_BDhw)
