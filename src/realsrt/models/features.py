"""SqueezeNet 1.1 as a frozen feature extractor, and the perceptual distance measured on its activations.

Shape suffixes: B batch, C channels, H W pixels.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.errors import UsageError

TAPS = ("conv1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9")
"""Layers that can be tapped, shallow to deep: the ones LPIPS uses for this network."""

LEAST_SIDE = 17
"""Pixels that images need on either side for all layers."""
_BGR_MEAN = (104.0, 117.0, 123.0)
# name: (input channels, squeeze channels, channels of each of the two expansions)
_FIRES = {
    "fire2": (64, 16, 64),
    "fire3": (128, 16, 64),
    "fire4": (128, 32, 128),
    "fire5": (256, 32, 128),
    "fire6": (256, 48, 192),
    "fire7": (384, 48, 192),
    "fire8": (384, 64, 256),
    "fire9": (512, 64, 256),
}
_POOL_BEFORE = ("fire2", "fire4", "fire6")


def check_taps(taps: Iterable[str]) -> None:
    """Raises UsageError for a layer that can't be tapped."""
    if unknown := [tap for tap in taps if tap not in TAPS]:
        raise UsageError(f"no such feature tap: {unknown[0]!r}; choose from {', '.join(TAPS)}")


class Fire(nn.Module):
    """Squeeze to few channels with a 1x1, expand with a 1x1 and a 3x3 side by side (SqueezeNet, section 3.2)."""

    def __init__(self, in_channels: int, squeeze_channels: int, expand_channels: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(in_channels, squeeze_channels, 1)
        self.expand1x1 = nn.Conv2d(squeeze_channels, expand_channels, 1)
        self.expand3x3 = nn.Conv2d(squeeze_channels, expand_channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        s_BCHW = F.relu(self.squeeze1x1(x_BCHW))
        return torch.cat((F.relu(self.expand1x1(s_BCHW)), F.relu(self.expand3x3(s_BCHW))), dim=1)


class SqueezeFeatures(nn.Module):
    """The convolutions of SqueezeNet 1.1 (arXiv:1602.07360), frozen; gradients still flow to the input.

    Its weights are random; `checkpoint.published.load_squeeze_features` reads trained ones.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        for name, channels in _FIRES.items():
            self.add_module(name, Fire(*channels))
        self.register_buffer("mean", torch.tensor(_BGR_MEAN).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, x_BCHW: Tensor, taps: Sequence[str] = TAPS) -> list[Tensor]:
        """Activations of the named layers, in the order of `taps`; layers deeper than the deepest tap are not run.

        x_BCHW: RGB in [0,1], sides of at least LEAST_SIDE.
        """
        found: dict[str, Tensor] = {}
        x_BCHW = F.relu(self.conv1(x_BCHW.flip(1) * 255.0 - self.mean))
        if "conv1" in taps:
            found["conv1"] = x_BCHW
        for name in _FIRES:
            if len(found) == len(set(taps)):
                break
            if name in _POOL_BEFORE:
                x_BCHW = F.max_pool2d(x_BCHW, 3, 2, ceil_mode=True)
            x_BCHW = self.get_submodule(name)(x_BCHW)
            if name in taps:
                found[name] = x_BCHW
        return [found[tap] for tap in taps]


def squeeze_distance(features: SqueezeFeatures, x_BCHW: Tensor, y_BCHW: Tensor, taps: Sequence[str] = TAPS) -> Tensor:
    """Perceptual distance per sample, (B,), 0 when equal, at most 4 a tap; differentiable in both images.

    At every position the feature vector is scaled to unit length; squared differences are summed over channels,
    averaged over positions and summed over taps with equal weight. x, y: RGB in [0,1], same shape. The construction
    is that of LPIPS (arXiv:1801.03924, section 3) without its learned weights: never report it as LPIPS.
    """
    return mean_distance(squeeze_maps(features, x_BCHW, y_BCHW, taps))


def mean_distance(maps: Sequence[Tensor]) -> Tensor:
    """The distance (B,) that maps (B,H,W) of all taps tell of."""
    distance_B = maps[0].new_zeros(len(maps[0]), dtype=torch.float32)
    for distance_BHW in maps:
        distance_B = distance_B + distance_BHW.mean((1, 2))
    return distance_B


def squeeze_maps(features: SqueezeFeatures, x_BCHW: Tensor, y_BCHW: Tensor, taps: Sequence[str] = TAPS) -> list[Tensor]:
    """What :func:`squeeze_distance` averages: for every tap the distance at each of its positions, (B,H,W)."""
    return squeeze_maps_to(features, y_BCHW, taps)(x_BCHW)


def squeeze_maps_to(
    features: SqueezeFeatures, y_BCHW: Tensor, taps: Sequence[str] = TAPS
) -> Callable[[Tensor], list[Tensor]]:
    """:func:`squeeze_maps` of many images against the same one, which is looked at once."""
    known = [unit(fy_BCHW) for fy_BCHW in features(y_BCHW, taps)]

    def maps(x_BCHW: Tensor) -> list[Tensor]:
        pairs = zip(features(x_BCHW, taps), known, strict=True)
        return [(unit(fx_BCHW) - fy_BCHW).square().sum(1) for fx_BCHW, fy_BCHW in pairs]

    return maps


def cell_means(maps: Sequence[Tensor], cells: tuple[int, int]) -> Tensor:
    """The sum (B,h,w) of maps (B,H,W) of any sizes, each averaged over a grid of h x w cells."""
    return sum((F.adaptive_avg_pool2d(one, cells) for one in maps), torch.zeros(1, device=maps[0].device))


def ranks(values_N: Tensor) -> Tensor:
    """The rank of each value among all, from 0, the least, to 1; equal ones in the order they stand."""
    return values_N.argsort(stable=True).argsort(stable=True) / max(1, len(values_N) - 1)


def unit(f_BCHW: Tensor) -> Tensor:
    """Activations, scaled to length 1 at every position."""
    f_BCHW = f_BCHW.float()
    # Activations are in the tens: the constant only keeps the gradient finite where everything is switched off.
    return f_BCHW * torch.rsqrt(f_BCHW.square().sum(1, keepdim=True) + 1e-6)
