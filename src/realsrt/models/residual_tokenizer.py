"""A conditional tokenizer: its tokens hold only what the base image lacks (residual tokens, as in TVQ&RAP). The
encoder reads target, base and the trunk's features; the decoder adds its image, nothing before it has learned, to the
base. All of it works on the low-quality grid or coarser, so that a token costs little.

Shapes: B batch, H W target pixels, h w token grid (H/8 W/8), D code dimension, F channels of what is known (the trunk's
features and the base's detail) at H/4 × W/4.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.models.guide import Guide
from realsrt.models.quantizer import Quantized, QuantizerConfig
from realsrt.nn.blocks import PlainResidualBlock


@dataclass(frozen=True)
class ResidualTokenizerConfig:
    """``features`` must equal the trunk's channels. ``start``: scale of the decoder's last layer before it learns; at 0
    an untrained model is its trunk."""

    features: int = 64
    encoder_width: int = 64
    token_width: int = 96
    body_width: int = 56
    encoder_blocks: int = 2
    token_blocks: int = 2
    body_blocks: int = 5
    scale: int = 4
    start: float = 0.0
    quantizer: QuantizerConfig = QuantizerConfig(512, 32, normalize=True, decay=0.97, restart_below=0.3)

    @property
    def downsampling(self) -> int:
        return 2 * self.scale

    @property
    def known(self) -> int:
        """Channels of what is known beside the tokens: features, and the base's detail on the low-quality grid."""
        return self.features + 3 * self.scale**2

    def build(self) -> "ResidualTokenizer":
        return ResidualTokenizer(self)


class ResidualEncoder(nn.Module):
    """(target − base, what is known) → latent map. Needed for training only."""

    def __init__(self, config: ResidualTokenizerConfig) -> None:
        super().__init__()
        self.scale = config.scale
        width, wide = config.encoder_width, config.token_width
        self.stem = nn.Conv2d(3 * config.scale**2 + config.known, width, 3, padding=1)
        self.fine = nn.Sequential(*(PlainResidualBlock(width) for _ in range(config.encoder_blocks)))
        self.down = nn.Conv2d(width, wide, 4, stride=2, padding=1)
        self.coarse = nn.Sequential(*(PlainResidualBlock(wide) for _ in range(config.encoder_blocks)))
        self.out = nn.Conv2d(wide, config.quantizer.dim, 1)

    def forward(self, residual_BCHW: Tensor, known_BFHW: Tensor) -> Tensor:
        """(B,3,H,W), (B,F,H/4,W/4) → (B,D,h,w)."""
        folded = F.pixel_unshuffle(residual_BCHW, self.scale)
        hidden = self.fine(self.stem(torch.cat([folded, known_BFHW], dim=1)))
        return self.out(self.coarse(F.silu(self.down(hidden))))


class ResidualDecoder(nn.Module):
    """Latents and what is known → what the image has beyond its base; nothing before it has learned."""

    def __init__(self, config: ResidualTokenizerConfig) -> None:
        super().__init__()
        wide, width = config.token_width, config.body_width
        self.token_blocks = nn.Sequential(*(PlainResidualBlock(wide) for _ in range(config.token_blocks)))
        self.up = nn.Conv2d(wide, width * 4, 1)
        self.join = nn.Conv2d(width + config.known, width, 3, padding=1)
        self.body = nn.Sequential(*(PlainResidualBlock(width) for _ in range(config.body_blocks)))
        half = max(width // 2, 16)
        self.to_half = nn.Conv2d(width, half * 4, 3, padding=1)
        self.refine = PlainResidualBlock(half)
        self.to_full = nn.Conv2d(half, 3 * 4, 3, padding=1)
        self.to_full.weight.data.mul_(config.start)
        nn.init.zeros_(self.to_full.bias)  # pyright: ignore[reportArgumentType]

    @property
    def last_layer(self) -> Tensor:
        """The weight that adaptive GAN weights are measured at."""
        return self.to_full.weight

    def forward(self, z_BDhw: Tensor, known_BFHW: Tensor) -> Tensor:
        """(B,wide,h,w), (B,F,H/4,W/4) → (B,3,H,W), a residual around 0."""
        tokens = F.pixel_shuffle(self.up(self.token_blocks(z_BDhw)), 2)
        hidden = self.body(self.join(torch.cat([tokens, known_BFHW], dim=1)))
        refined = self.refine(F.pixel_shuffle(self.to_half(hidden), 2))
        return F.pixel_shuffle(self.to_full(F.silu(refined)), 2)


class ResidualTokenizer(nn.Module):
    """Same contract as the paper's tokenizer; every call needs the guide of the same windows."""

    def __init__(self, config: ResidualTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ResidualEncoder(config)
        self.quantizer = config.quantizer.build()
        self.post_quant_conv = nn.Conv2d(config.quantizer.dim, config.token_width, 3, padding=1)
        self.decoder = ResidualDecoder(config)

    def _known(self, guide: Guide | None) -> tuple[Tensor, Tensor]:
        """The base, and what is known on the low-quality grid: features, and the base minus the input's pixels."""
        if guide is None or guide.features is None:
            raise ValueError("this tokenizer needs the guide (with features) of the same windows")
        scale = self.config.scale
        detail = F.pixel_unshuffle(guide.up, scale) - guide.lq.repeat_interleave(scale**2, 1)
        return guide.up, torch.cat([guide.features, detail], 1)

    def _latent(self, image_BCHW: Tensor, guide: Guide | None) -> Tensor:
        up, known = self._known(guide)
        return self.encoder(image_BCHW - up, known)

    def encode(self, image_BCHW: Tensor, guide: Guide | None = None) -> Tensor:
        """Token ids (B, h, w) of what images (B, 3, H, W) in [0,1] hold beyond their guide."""
        return self.quantizer.encode(self._latent(image_BCHW, guide))

    def quantize(self, image_BCHW: Tensor, guide: Guide | None = None, rng: torch.Generator | None = None) -> Quantized:
        """As :meth:`encode`, differentiable, learning the codebook in training mode."""
        return self.quantizer(self._latent(image_BCHW, guide), rng)

    def lookup(self, ids_Bhw: Tensor) -> Tensor:
        """Latents (B, token_width, h, w) of ids, ready for :meth:`decode`."""
        return self.post_quant_conv(self.quantizer.lookup(ids_Bhw))

    def decode(self, z_BDhw: Tensor, guide: Guide | None = None) -> Tensor:
        """Images (B, 3, H, W) of latents, not clamped."""
        up, known = self._known(guide)
        return up + self.decoder(z_BDhw, known)
