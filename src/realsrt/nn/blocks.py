"""Convolutional blocks. Shapes: B batch, C channels, H W pixels."""

import torch.nn.functional as F
from torch import Tensor, nn


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm as VQGANs use it: 32 groups (or fewer where channels are fewer), eps 1e-6."""
    return nn.GroupNorm(min(32, channels), channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """GN, swish, conv3x3, twice, plus identity; a biased 1x1 conv on the identity where widths differ (VQGAN)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, in, H, W) → (B, out, H, W)."""
        hidden = self.conv1(F.silu(self.norm1(x_BCHW)))
        return self.shortcut(x_BCHW) + self.conv2(F.silu(self.norm2(hidden)))


class PlainResidualBlock(nn.Module):
    """conv3x3, swish, conv3x3, plus identity, without a norm: what it computes does not depend on the window's
    edges or statistics beyond its reach, so windows agree where they overlap. Starts near the identity."""

    def __init__(self, channels: int, init_scale: float = 0.1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2.weight.data.mul_(init_scale)
        nn.init.zeros_(self.conv2.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same shape out."""
        return x_BCHW + self.conv2(F.silu(self.conv1(x_BCHW)))


class SpatialAttention(nn.Module):
    """Single-head attention over all positions of a map: GN, 1x1 q, k, v, softmax(qk/√C), 1x1 out, plus identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same shape out."""
        normed = self.norm(x_BCHW)
        q, k, v = (layer(normed).flatten(2).transpose(1, 2).unsqueeze(1) for layer in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v)
        return x_BCHW + self.proj_out(attended.squeeze(1).transpose(1, 2).reshape(x_BCHW.shape))


class Downsample(nn.Module):
    """Stride-2 conv3x3 on input padded by one zero row and column at the bottom and right."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H/2, W/2)."""
        return self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest x2, then conv3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))
