"""A conditional tokenizer: its tokens hold only what the base image lacks (residual tokens, as in TVQ&RAP). The
encoder reads target, base and the trunk's features; the decoder adds its image, nothing before it has learned, to the
base. All of it works on the low-quality grid or coarser, so that a token costs little.

Shapes: B batch, H W target pixels, h w token grid (H/8 W/8, or H/16 W/16), D code dimension, F channels of what is
known (the trunk's features and the base's detail) at H/4 × W/4.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.imaging.resize import resize, upscale_bicubic
from realsrt.models.guide import Guide
from realsrt.models.quantizer import Quantized, QuantizerConfig
from realsrt.nn.blocks import PlainResidualBlock


@dataclass(frozen=True)
class ResidualTokenizerConfig:
    """``features`` must equal the trunk's channels. ``tokens``, what they hold: "residual", target minus base, seen
    beside what is known; "texture", what plain bicubic shrinking takes from the target, whatever the input is; "plain",
    the whole target, and the decoder sees tokens alone (the paper's idea at this size, for comparison). ``token_fold``:
    side of a token in low-quality pixels, 2 (downsampling 8) or 4 (16). ``start``: scale of the decoder's last layer
    before it learns; at 0 an untrained model is its trunk."""

    features: int = 64
    encoder_width: int = 64
    token_width: int = 96
    body_width: int = 56
    encoder_blocks: int = 2
    token_blocks: int = 2
    body_blocks: int = 5
    scale: int = 4
    tokens: Literal["residual", "texture", "plain"] = "residual"
    token_fold: Literal[2, 4] = 2
    start: float = 0.0
    quantizer: QuantizerConfig = QuantizerConfig(512, 32, normalize=True, decay=0.97, restart_below=0.3)

    @property
    def downsampling(self) -> int:
        return self.token_fold * self.scale

    @property
    def known(self) -> int:
        """Channels of what is known beside the tokens: features, and the base's detail on the low-quality grid."""
        return self.features + 3 * self.scale**2

    @property
    def level_widths(self) -> tuple[int, ...]:
        """Widths of the levels coarser than the low-quality grid, fine to coarse; the last is the tokens'."""
        return (self.token_width,) if self.token_fold == 2 else (self.token_width // 2, self.token_width)

    def build(self) -> "ResidualTokenizer":
        return ResidualTokenizer(self)


class ResidualEncoder(nn.Module):
    """(target − base, what is known) → latent map. Needed for training only."""

    def __init__(self, config: ResidualTokenizerConfig) -> None:
        super().__init__()
        self.scale = config.scale
        width, wide = config.encoder_width, config.level_widths[0]
        self.stem = nn.Conv2d(3 * config.scale**2 + config.known, width, 3, padding=1)
        self.fine = nn.Sequential(*(PlainResidualBlock(width) for _ in range(config.encoder_blocks)))
        self.down = nn.Conv2d(width, wide, 4, stride=2, padding=1)
        self.coarse = nn.Sequential(*(PlainResidualBlock(wide) for _ in range(config.encoder_blocks)))
        self.coarser = nn.Sequential()
        for fine, coarse in pairwise(config.level_widths):
            self.coarser.extend([nn.Conv2d(fine, coarse, 4, stride=2, padding=1), nn.SiLU()])
            self.coarser.extend(PlainResidualBlock(coarse) for _ in range(config.encoder_blocks))
        self.out = nn.Conv2d(config.token_width, config.quantizer.dim, 1)

    def forward(self, residual_BCHW: Tensor, known_BFHW: Tensor) -> Tensor:
        """(B,3,H,W), (B,F,H/4,W/4) → (B,D,h,w)."""
        folded = F.pixel_unshuffle(residual_BCHW, self.scale)
        hidden = self.fine(self.stem(torch.cat([folded, known_BFHW], dim=1)))
        return self.out(self.coarser(self.coarse(F.silu(self.down(hidden)))))


class ResidualDecoder(nn.Module):
    """Latents and what is known → what the image has beyond its base; nothing before it has learned."""

    def __init__(self, config: ResidualTokenizerConfig) -> None:
        super().__init__()
        wide, width = config.token_width, config.body_width
        self.token_blocks = nn.Sequential(*(PlainResidualBlock(wide) for _ in range(config.token_blocks)))
        self.finer = nn.Sequential()
        for fine, coarse in pairwise(config.level_widths):
            self.finer.extend([nn.Conv2d(coarse, fine * 4, 1), nn.PixelShuffle(2), PlainResidualBlock(fine)])
        self.up = nn.Conv2d(config.level_widths[0], width * 4, 1)
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
        tokens = F.pixel_shuffle(self.up(self.finer(self.token_blocks(z_BDhw))), 2)
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
        if self.config.tokens == "residual":
            return self.encoder(image_BCHW - up, known)
        base = torch.full_like(image_BCHW, 0.5)
        if self.config.tokens == "texture":
            small = (image_BCHW.shape[2] // self.config.scale, image_BCHW.shape[3] // self.config.scale)
            base = upscale_bicubic(resize(image_BCHW, small, "bicubic", antialias=True), self.config.scale)
        return self.encoder(image_BCHW - base, torch.zeros_like(known))

    def encode(self, image_BCHW: Tensor, guide: Guide | None = None) -> Tensor:
        """Token ids (B, h, w) of what images (B, 3, H, W) in [0,1] hold beyond their guide."""
        return self.quantizer.encode(self._latent(image_BCHW, guide))

    def quantize(self, image_BCHW: Tensor, guide: Guide | None = None, rng: torch.Generator | None = None) -> Quantized:
        """As :meth:`encode`, differentiable, learning the codebook in training mode."""
        return self.quantizer(self._latent(image_BCHW, guide), rng)

    def lookup(self, ids_Bhw: Tensor) -> Tensor:
        """Latents (B, token_width, h, w) of ids, ready for :meth:`decode`."""
        return self.post(self.quantizer.lookup(ids_Bhw))

    def post(self, code_BDhw: Tensor) -> Tensor:
        """Codes → latents the decoder reads."""
        return self.post_quant_conv(code_BDhw)

    def decode(self, z_BDhw: Tensor, guide: Guide | None = None) -> Tensor:
        """Images (B, 3, H, W) of latents, not clamped."""
        up, known = self._known(guide)
        if self.config.tokens == "plain":
            return 0.5 + self.decoder(z_BDhw, torch.zeros_like(known))
        return up + self.decoder(z_BDhw, known)
