"""RRDBNet: the large network of the Real-ESRGAN project; a teacher, a peer, and the deep network of a trunk.

Shapes: B batch, H W pixels of ``lq``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.nn.device import autocast_dtype

# Pixels and rows that are computed at once, at the least, where nothing is learned: what lies between stays small, and
# in the cache.
_BAND, _BAND_ROWS = 2**16, 64
_BLOCK_REACH = 5  # how far a dense block looks
_IMAGE_REACH = 2  # how far, in input pixels, the enlarging part looks


@dataclass(frozen=True)
class RRDBConfig:
    """The published x4plus network has the defaults."""

    channels: int = 64
    blocks: int = 23
    growth: int = 32

    @property
    def scale(self) -> int:
        """Pixels of the output's side over the input's."""
        return 4

    @property
    def reach(self) -> int:
        """How far, in input pixels, a pixel of the output looks."""
        return 15 * self.blocks + 4

    def build(self) -> "RRDBNet":
        return RRDBNet(self)


def _in_bands(
    make: Callable[[Tensor], Tensor], x_BCHW: Tensor, high: int, reach: int, scale: int, out: Tensor | None = None
) -> Tensor:
    """What ``make`` gives (B,C,sH,sW), of ``high`` rows at a time with ``reach`` more above and below; in ``out``, if
    given."""
    rows = x_BCHW.shape[2]
    for top in range(0, rows, high):
        first, bottom = max(0, top - reach), min(rows, top + high)
        band = make(x_BCHW[:, :, first : bottom + reach])
        if out is None:  # one place for all bands: to join them in the end would take them twice
            shape = (*band.shape[:2], rows * scale, band.shape[3])
            out = torch.empty(shape, dtype=band.dtype, device=band.device, memory_format=torch.channels_last)
        out[:, :, top * scale : bottom * scale] = band[:, :, (top - first) * scale : (bottom - first) * scale]
    assert out is not None
    return out


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each reading all before it; a fifth of the last is added to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        for number in range(1, 5):
            setattr(self, f"conv{number}", nn.Conv2d(channels + (number - 1) * growth, growth, 3, padding=1))
        self.conv5 = nn.Conv2d(channels + 4 * growth, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor, out: Tensor | None = None) -> Tensor:
        """Same shape out. The sum keeps the precision of ``x_BCHW`` where convolutions compute at half of it. ``out``:
        where the result may be written."""
        high = max(_BAND_ROWS, _BAND // x_BCHW.shape[3])
        if torch.is_grad_enabled() or x_BCHW.shape[2] <= high + 2 * _BLOCK_REACH:
            return self._dense(x_BCHW)
        return _in_bands(self._dense, x_BCHW, high, _BLOCK_REACH, 1, out)

    def _dense(self, x_BCHW: Tensor) -> Tensor:
        seen = [lowered(x_BCHW)]
        for number in range(1, 5):
            seen.append(F.leaky_relu(getattr(self, f"conv{number}")(torch.cat(seen, 1)), 0.2))
        return x_BCHW + 0.2 * self.conv5(torch.cat(seen, 1))


def lowered(x: Tensor) -> Tensor:
    """As a convolution would see it under autocast: once, in place of once for each that reads it."""
    return x.to(autocast_dtype(x.device) or x.dtype)


class RRDB(nn.Module):
    """Three dense blocks; a fifth of what they give is added to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(channels, growth)
        self.rdb2 = DenseBlock(channels, growth)
        self.rdb3 = DenseBlock(channels, growth)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same shape out."""
        return x_BCHW + 0.2 * self.rdb3(self.rdb2(self.rdb1(x_BCHW)))

    def into(self, x_BCHW: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """As :meth:`forward`, where nothing is learned, in the memory of ``first`` and by way of that of ``second``."""
        hidden = self.rdb3(self.rdb2(self.rdb1(x_BCHW, first), second), first)
        return hidden.mul_(0.2).add_(x_BCHW)


class RRDBNet(nn.Module):
    """Residual-in-residual dense blocks at the input's resolution, then x2 twice. Tensors are named as in the published
    file."""

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(width, config.growth) for _ in range(config.blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, lq_BCHW: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1] → (B,3,4H,4W), not clamped."""
        hidden = self.conv_first(lq_BCHW).to(lq_BCHW.dtype)
        if torch.is_grad_enabled():
            return self.image(hidden + self.conv_body(self.body(hidden)))
        if hidden.device.type == "cpu":
            x = self._body_in_place(hidden)
        else:
            x = self.body(hidden)
        hidden = hidden + self.conv_body(x)
        return _in_bands(self.image, hidden, _BAND_ROWS, _IMAGE_REACH, self.config.scale)

    def _body_in_place(self, hidden_BCHW: Tensor) -> Tensor:
        """What the body makes, in memory that is used again: asking for it anew takes longer than reading it."""
        x, free, second = hidden_BCHW, torch.empty_like(hidden_BCHW), torch.empty_like(hidden_BCHW)
        for block in self.body:
            made = block.into(x, free, second)  # pyright: ignore[reportCallIssue]
            x, free = made, torch.empty_like(x) if x is hidden_BCHW else x  # the first is read again afterwards
        return x

    def image(self, hidden_BCHW: Tensor) -> Tensor:
        """What the body found (B,C,H,W) → (B,3,4H,4W), not clamped; under autocast, too, in single precision: half of
        it has fewer levels than an image."""
        hidden = hidden_BCHW
        for conv in (self.conv_up1, self.conv_up2):
            hidden = F.leaky_relu(conv(F.interpolate(hidden, scale_factor=2.0, mode="nearest")), 0.2)
        hidden = F.leaky_relu(self.conv_hr(hidden), 0.2)
        if autocast_dtype(hidden.device) is None:
            return self.conv_last(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            if torch.is_grad_enabled():
                return self.conv_last(hidden.float())
            return _in_bands(self._last, hidden, _BAND_ROWS, 1, 1)

    def _last(self, hidden_BCHW: Tensor) -> Tensor:
        return self.conv_last(hidden_BCHW.float())
