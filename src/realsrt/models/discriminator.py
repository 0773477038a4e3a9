"""Discriminators for the adversarial losses. Shapes: B batch, H W pixels."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from realsrt.models.features import SqueezeFeatures

PROJECTED_TAPS = {"conv1": 64, "fire3": 128, "fire5": 256, "fire9": 512}
"""The layers, and their channels, that a projected discriminator looks at."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """ "patch": PatchGAN of ``layers`` stride-2 levels with BatchNorm (the paper: 3 layers of 64). "patch_sn": the same
    with spectral norm. "unet": U-Net with spectral norm, a logit a pixel (Real-ESRGAN). "projected": small heads on
    frozen features, which know what to look at before the first step (Projected GANs, arXiv:2111.01007)."""

    kind: Literal["patch", "patch_sn", "unet", "projected"] = "patch"
    width: int = 64
    layers: int = 3

    def build(self, features: SqueezeFeatures | None = None) -> nn.Module:
        """The network, untrained. Raises ValueError for a projected one without features."""
        if self.kind == "projected":
            if features is None:
                raise ValueError("a projected discriminator needs features")
            return ProjectedDiscriminator(features, self.width)
        if self.kind == "unet":
            return UNetDiscriminator(self.width)
        return PatchDiscriminator(self.width, self.layers, spectral=self.kind == "patch_sn")


class PatchDiscriminator(nn.Module):
    """pix2pix's PatchGAN: conv4x4 stride 2 with leaky relu, doubling widths, one logit a patch."""

    def __init__(self, width: int, layers: int, *, spectral: bool) -> None:
        super().__init__()

        def conv(cin: int, cout: int, stride: int) -> list[nn.Module]:
            layer = nn.Conv2d(cin, cout, 4, stride=stride, padding=1, bias=spectral)
            return [spectral_norm(layer)] if spectral else [layer, nn.BatchNorm2d(cout)]

        stack: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels = width
        for level in range(1, layers + 1):
            wider = width * min(2**level, 8)
            stack += [*conv(channels, wider, 2 if level < layers else 1), nn.LeakyReLU(0.2)]
            channels = wider
        last = nn.Conv2d(channels, 1, 4, padding=1)
        self.layers = nn.Sequential(*stack, spectral_norm(last) if spectral else last)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) → logits (B, 1, ~H/2^layers, ~W/2^layers): high = real."""
        return self.layers(image_BCHW)


class UNetDiscriminator(nn.Module):
    """Three levels down and up with skips, spectral norm, one logit a pixel. H and W must be multiples of 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        widths = [width, width * 2, width * 4, width * 8]
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False)) for a, b in pairwise(widths)
        )
        self.up = nn.ModuleList(spectral_norm(nn.Conv2d(b, a, 3, padding=1, bias=False)) for a, b in pairwise(widths))
        self.tail = nn.ModuleList(spectral_norm(nn.Conv2d(width, width, 3, padding=1, bias=False)) for _ in range(2))
        self.out = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) → logits (B, 1, H, W): high = real."""
        skips = [F.leaky_relu(self.stem(image_BCHW), 0.2)]
        for layer in self.down:
            skips.append(F.leaky_relu(layer(skips[-1]), 0.2))
        hidden = skips.pop()
        for layer in reversed(self.up):
            hidden = F.interpolate(hidden, scale_factor=2.0, mode="bilinear", align_corners=False)
            hidden = F.leaky_relu(layer(hidden), 0.2) + skips.pop()
        for layer in self.tail:
            hidden = F.leaky_relu(layer(hidden), 0.2)
        return self.out(hidden)


class ProjectedDiscriminator(nn.Module):
    """A head of three convolutions with spectral norm on each of four layers of a frozen network. Sides of at least
    17 px."""

    def __init__(self, features: SqueezeFeatures, width: int) -> None:
        super().__init__()
        self.features = features

        def conv(cin: int, cout: int) -> nn.Module:
            return spectral_norm(nn.Conv2d(cin, cout, 3, padding=1))

        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, channels, affine=False),
                conv(channels, width * 2),
                nn.LeakyReLU(0.2),
                conv(width * 2, width * 2),
                nn.LeakyReLU(0.2),
                conv(width * 2, 1),
            )
            for channels in PROJECTED_TAPS.values()
        )

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0,1] → logits (B, 4, ~H/2, ~W/2), a channel a head, those of deeper layers repeated over the
        pixels they speak of: high = real."""
        maps = self.features(image_BCHW, tuple(PROJECTED_TAPS))
        logits = [head(one) for head, one in zip(self.heads, maps, strict=True)]
        return torch.cat([F.interpolate(one, logits[0].shape[-2:]) for one in logits], 1)
