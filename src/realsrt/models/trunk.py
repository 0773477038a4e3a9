"""The restoring trunk: a low-quality image's features, and the base image that tokens add to.

Two SRVGGNetCompact networks of one shape, a mild and a strong denoiser; interpolating their tensors gives every
strength between (as the Real-ESRGAN project's slider does). An estimator looks at pieces of the input, through the
first half of the strong network, and tells which strength suits the image, how much of the trunk's image over the
bicubic enlargement (a clean input keeps more of its plain enlargement), and which way it is restored: whole, or
reduced, where the networks see the input at two thirds of its side, because a badly degraded one holds no more, and
what is left of its faults is then small enough for them to mend; and either by the network of the strength or by a deep
one, several times larger.

Shapes: B batch, H W pixels of ``lq``, F features, s scale, S statistics or shares, M strengths, W ways, K choices (ways
x strengths x shares, the share fastest).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.imaging.color import coarse
from realsrt.imaging.resize import Taps, upscale_bicubic
from realsrt.models.rrdbnet import RRDBConfig, RRDBNet
from realsrt.models.srvgg import SRVGGConfig, SRVGGNetCompact

STRENGTHS = (0.0, 0.5, 1.0)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
REDUCED = 2 / 3
"""Side of what the networks see of a reduced input."""
CHOICES = (-1, len(STRENGTHS), len(SHARES))
"""Of the estimator's costs, ways first: two, or four where the trunk has a deep network."""
SHARPNESS = 0.05
"""Costs this far apart are clearly different where shares are weighed against each other."""
PIECE = 64
"""Side of what the estimator looks at."""


@dataclass(frozen=True)
class EstimatorConfig:
    """``width``: of the hidden layer. ``after``: convolutions of the strong network that an input passes before its
    statistics are taken (all, where it has fewer)."""

    width: int = 48
    after: int = 19


@dataclass(frozen=True)
class TrunkConfig:
    """Both ends have the shape of ``network``. ``deep``: the network of the deep ways; None leaves them out."""

    network: SRVGGConfig = SRVGGConfig()
    estimator: EstimatorConfig = EstimatorConfig()
    deep: RRDBConfig | None = None

    @property
    def features(self) -> int:
        """Channels of the features."""
        return self.network.channels

    def build(self) -> "Trunk":
        return Trunk(self)


class Way(IntEnum):
    """How an image is restored: by what the networks see, and which. The deep ways are the less deep, the less
    strength: at none they are WHOLE."""

    WHOLE = 0
    REDUCED = 1
    DEEP_REDUCED = 2
    DEEP = 3

    @property
    def deep(self) -> bool:
        """By the deep network."""
        return self >= Way.DEEP_REDUCED

    @property
    def reduced(self) -> bool:
        """What is seen is smaller than the input."""
        return self in (Way.REDUCED, Way.DEEP_REDUCED)


class Amounts(NamedTuple):
    """``denoise``: strength, 0 (mild) to 1 (strong). ``share``: how much of the trunk's image over the bicubic
    enlargement, 0 to 1. ``way``: how that image is made."""

    denoise: float
    share: float
    way: Way = Way.WHOLE


class Variation(NamedTuple):
    """Other amounts than an image's own, on an ellipse around them: ``turn``, where on it, 0 to 1; ``size``, how far
    from its middle, 1 being the whole way between the strengths, and six tenths of the trunk's image."""

    turn: float
    size: float


class StrengthEstimator(nn.Module):
    """From statistics of an image the costs of every choice."""

    def __init__(self, statistics: int, width: int, ways: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("deviation", torch.ones(statistics))
        choices = ways * len(STRENGTHS) * len(SHARES)
        self.net = nn.Sequential(nn.Linear(statistics, width), nn.SiLU(), nn.Linear(width, choices))

    def forward(self, statistics_BS: Tensor) -> Tensor:
        """What :meth:`Trunk.look` found → costs (B,K), less is better."""
        return self.net((statistics_BS - self.mean) / self.deviation)


def pieces(height: int, width: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the squares of PIECE pixels a side that stand for an image of H x W, spread evenly: one where
    it is no larger, else two by two, three by three where both sides have more than six times as many."""

    def places(side: int) -> list[slice]:
        count = 1 if side <= PIECE else 2 if side <= 6 * PIECE else 3
        first = [round(number * (side - PIECE) / max(1, count - 1)) for number in range(count)]
        return [slice(max(0, at), max(0, at) + min(PIECE, side)) for at in first]

    return [(rows, columns) for rows in places(height) for columns in places(width)]


def choose(costs_K: Tensor, denoise: float | None = None, *, deep: bool = True) -> Amounts:
    """The amounts that an image's costs speak for; of strength ``denoise``, if given. ``deep``: the deep ways may be
    among them, if the costs tell of them."""
    costs_WMS = costs_K.detach().float().unflatten(0, CHOICES)[: len(Way) if deep else Way.DEEP_REDUCED]
    if denoise is None:
        way, strength = divmod(int(costs_WMS.amin(2).argmin()), len(STRENGTHS))
        denoise = STRENGTHS[strength]
    else:
        way = int(_at_strength(costs_WMS, denoise).amin(1).argmin())
    share = float(weigh_shares(costs_WMS[way, None], denoise))
    return Amounts(denoise, share, Way.WHOLE if denoise == 0 and Way(way).deep else Way(way))


def _at_strength(costs_BMS: Tensor, denoise: float) -> Tensor:
    """The costs (B,S) at a strength, interpolated between those that are known."""
    at = denoise * (len(STRENGTHS) - 1)
    low = min(int(at), len(STRENGTHS) - 2)
    return torch.lerp(costs_BMS[:, low], costs_BMS[:, low + 1], at - low)


def vary(costs_K: Tensor, own: Amounts, variation: Variation, *, deep: bool = True) -> Amounts:
    """Amounts beside an image's own; ``deep`` as for :func:`choose`. Near an end of the strengths, half of the ellipse
    is left. Shares above 1 go beyond the trunk's image: crisper than it. The middle is a little crisper than the
    estimator's own share, because squeeze distance forgives that more than softness. Where the deep network restores an
    image, half of the way to the mild end differs as much."""
    reach = variation.size / 2 if own.way.deep else variation.size
    turn = 2 * variation.turn
    if own.denoise > 1 - reach / 2:
        turn = 0.5 + variation.turn
    elif own.denoise < reach / 2:
        turn = 1.5 + variation.turn
    denoise = min(1.0, max(0.0, own.denoise + reach * math.cos(math.pi * turn)))
    change = reach * (0.2 + 0.6 * math.sin(math.pi * turn))
    there = choose(costs_K, denoise, deep=deep)
    return there._replace(share=max(0.0, there.share + change))


def weigh_shares(costs_BMS: Tensor, denoise: float) -> Tensor:
    """The share of each image (B,) at a strength: the mean of all shares, weighed by how little they cost."""
    weights_BS = (-_at_strength(costs_BMS.float(), denoise) / SHARPNESS).softmax(1)
    return (weights_BS * torch.tensor(SHARES, device=costs_BMS.device)).sum(1)


class Reduction:
    """Rows or columns of an image, reduced for the networks and enlarged again: any part for itself."""

    def __init__(self, side: int, scale: int) -> None:
        self.side = max(1, round(side * REDUCED))
        self.down = Taps(side, self.side, "bicubic")
        self.up = Taps(self.side * scale, side * scale, "bicubic")


def seen_reduced(lq_BCHW: Tensor, scale: int, see: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``see`` makes of images (B,3,H,W) reduced, at the size (B,3,sH,sW) that it would have of them whole."""
    rows, columns = (Reduction(side, scale) for side in lq_BCHW.shape[-2:])
    small = columns.down.along(rows.down.along(lq_BCHW, 2), 3).clamp(0, 1)
    image = see(small.contiguous(memory_format=torch.channels_last))
    return columns.up.along(rows.up.along(image.to(lq_BCHW.dtype), 2), 3)


class Trunk(nn.Module):
    """Both ends, the estimator, and the deep network, if there is one."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        self.mild = config.network.build()
        self.strong = config.network.build()
        self.deep = config.deep.build() if config.deep else None
        ways = len(Way) if self.deep else Way.DEEP_REDUCED
        self.estimator = StrengthEstimator(2 * config.features, config.estimator.width, ways)
        self._between: dict[float, SRVGGNetCompact] = {}

    def network(self, denoise: float) -> SRVGGNetCompact:
        """The network of a strength: an end, or one interpolated between the ends. The three last used are kept, until
        weights are loaded or moved."""
        if not 0 < denoise < 1:
            return self.strong if denoise >= 1 else self.mild
        between = self._between.pop(denoise, None)
        if between is None:
            between = copy.deepcopy(self.mild)
            with torch.no_grad():
                for own, other in zip(between.parameters(), self.strong.parameters(), strict=True):
                    own.lerp_(other, denoise)
            between.requires_grad_(False)
        self._between[denoise] = between
        if len(self._between) > 3:
            del self._between[next(iter(self._between))]
        return between

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._between.clear()
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args, **kwargs) -> Self:
        self._between.clear()
        return super()._apply(*args, **kwargs)

    @torch.no_grad()
    def look(self, lq_BCHW: Tensor) -> Tensor:
        """Statistics (B,S) of images (B,3,H,W) in [0,1]: mean and logarithm of the deviation of every channel in the
        middle of the strong network; float32 whatever is computed around it."""
        convs = min(self.config.estimator.after, self.config.network.convs + 1)
        with torch.autocast(lq_BCHW.device.type, enabled=False):
            hidden_BCN = self.strong.body[: 2 * convs](lq_BCHW.float()).flatten(2)
            return torch.cat([hidden_BCN.mean(2), (hidden_BCN.std(2, correction=0) + 1e-3).log()], 1)

    def costs(self, lq_BCHW: Tensor) -> Tensor:
        """The estimator's costs (B,K) of images of any size, by their :func:`pieces`."""
        found = [self.look(lq_BCHW[:, :, rows, columns]) for rows, columns in pieces(*lq_BCHW.shape[-2:])]
        return self.costs_of(found)

    def costs_of(self, looks: list[Tensor]) -> Tensor:
        """The estimator's costs (B,K) of what was found in the pieces of images."""
        return self.estimator(torch.stack(looks).mean(0))

    def forward(self, lq_BCHW: Tensor, denoise: float | None = None, *, deep: bool = True) -> tuple[Tensor, Tensor]:
        """Features (B,F,H,W) and base images (B,3,sH,sW), not clamped, of images (B,3,H,W) in [0,1]; each gets its
        own amounts, or all the strength ``denoise``; ``deep`` as for :func:`choose`."""
        amounts = [choose(costs_K, denoise, deep=deep) for costs_K in self.costs(lq_BCHW).cpu()]
        (height, width), scale = lq_BCHW.shape[-2:], self.config.network.scale
        features = lq_BCHW.new_empty(len(lq_BCHW), self.config.features, height, width)
        base = lq_BCHW.new_empty(len(lq_BCHW), 3, height * scale, width * scale)
        for strength, way in sorted({(own.denoise, own.way) for own in amounts}):
            some = [index for index, own in enumerate(amounts) if (own.denoise, own.way) == (strength, way)]
            shares = lq_BCHW.new_tensor([amounts[index].share for index in some])[:, None, None, None]
            hidden, restored = self.restore(lq_BCHW[some], strength, way)
            features[some] = hidden.to(features.dtype)
            base[some] = mix(upscale_bicubic(lq_BCHW[some], scale), restored, shares).to(base.dtype)
        return features, base

    def restore(self, lq_BCHW: Tensor, denoise: float, way: Way) -> tuple[Tensor, Tensor]:
        """Features (B,F,H,W), always of the whole input, and the image (B,3,sH,sW) of one way."""
        network = self.network(denoise)
        features = network.features(lq_BCHW)
        if way == Way.WHOLE or (way.deep and denoise == 0):
            return features, network.image(features, lq_BCHW)
        see = partial(self.see, denoise=denoise, way=way)
        image = seen_reduced(lq_BCHW, self.config.network.scale, see) if way.reduced else see(lq_BCHW)
        if way.deep and denoise < 1:
            image = torch.lerp(network.image(features, lq_BCHW), image, denoise)
        return features, image

    def seeing(self, denoise: float, way: Way) -> SRVGGNetCompact | RRDBNet:
        """The network of a way."""
        if not way.deep:
            return self.network(denoise)
        assert self.deep is not None
        return self.deep

    def see(self, seen_BCHW: Tensor, denoise: float, way: Way) -> Tensor:
        """The image (B,3,sH,sW) that a way's network makes of what it is shown (B,3,H,W). The deep one darkens by four
        levels of 255 on average: its coarse colours are put back to those that it was shown."""
        image = self.seeing(denoise, way)(seen_BCHW)
        if not way.deep:
            return image
        image, scale = image.float(), self.config.network.scale
        lost = seen_BCHW.float() - F.avg_pool2d(image, scale)
        shift = coarse(lost.flatten(0, 1)).view_as(lost)
        return (image + upscale_bicubic(shift, scale)).to(seen_BCHW.dtype)

    def at(self, denoise: float, lq_BCHW: Tensor, costs_BK: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, of one strength, by costs that were estimated before; always the whole way."""
        features, restored = self.restore(lq_BCHW, denoise, Way.WHOLE)
        share_B111 = weigh_shares(costs_BK.unflatten(1, CHOICES)[:, 0], denoise)[:, None, None, None]
        return features, mix(upscale_bicubic(lq_BCHW, self.config.network.scale), restored, share_B111)


def mix(plain: Tensor, restored: Tensor, share: Tensor | float) -> Tensor:
    """The base image: from the bicubic enlargement (share 0) to the trunk's image (1)."""
    return torch.lerp(plain, restored, share.to(plain.dtype) if isinstance(share, Tensor) else share)
