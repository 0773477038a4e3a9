"""The restoring trunk: a low-quality picture's features, and the base picture that tokens add to.

Two SRVGGNetCompact networks of one shape, a mild and a strong denoiser; interpolating their tensors gives every
strength between (as the Real-ESRGAN project's slider does). An estimator looks at the input and tells which strength
suits the picture, and how much of the trunk's picture suits each part of it: a clean input keeps more of its plain
enlargement.

Shapes: B batch, H W pixels of ``lq``, F features, s scale, h w cells of CELL x CELL input pixels, K choices.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.imaging.resize import upscale_bicubic
from realsrt.models.srvgg import SRVGGConfig, SRVGGNetCompact

CELL = 16
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
SHARPNESS = 0.05
"""Costs this far apart are clearly different where shares are weighed against each other."""


@dataclass(frozen=True)
class EstimatorConfig:
    """``width``: of the hidden layers."""

    width: int = 64

    def build(self) -> "StrengthEstimator":
        return StrengthEstimator(self)


@dataclass(frozen=True)
class TrunkConfig:
    """Both ends have the shape of ``network``."""

    network: SRVGGConfig = SRVGGConfig()
    estimator: EstimatorConfig = EstimatorConfig()

    @property
    def features(self) -> int:
        """Channels of the features."""
        return self.network.channels

    def build(self) -> "Trunk":
        return Trunk(self)


class Amounts(NamedTuple):
    """``denoise``: strength for a whole picture, 0 (mild) to 1 (strong). ``share_hw``: how much of the trunk's picture
    over the bicubic enlargement each cell gets, 0 to 1."""

    denoise: float
    share_hw: Tensor


class StrengthEstimator(nn.Module):
    """From statistics of a picture's cells the costs of every choice of strength and share, for each cell: K =
    strengths x shares, the share fastest. A cell's costs follow from its own statistics and from the picture's mean."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(STATISTICS))
        self.register_buffer("deviation", torch.ones(STATISTICS))
        width = config.width
        self.net = nn.Sequential(
            nn.Conv2d(2 * STATISTICS, width, 1), nn.SiLU(),
            nn.Conv2d(width, width, 1), nn.SiLU(),
            nn.Conv2d(width, len(STRENGTHS) * len(SHARES), 1),
        )  # fmt: skip

    def forward(self, statistics_BShw: Tensor) -> Tensor:
        """What :func:`measure` found in a whole picture → costs (B,K,h,w), less is better."""
        known = (statistics_BShw.float() - self.mean[:, None, None]) / self.deviation[:, None, None]
        return self.net(torch.cat([known, known.mean((2, 3), keepdim=True).expand_as(known)], 1))


_QUANTILES = (0.1, 0.3, 0.5, 0.8, 0.95)
STATISTICS = 2 * (len(_QUANTILES) + 5) + 4
"""How many statistics a cell has."""


@torch.no_grad()
def measure(lq_BCHW: Tensor) -> Tensor:
    """Statistics of the cells of pictures (B,3,H,W) in [0,1] → (B,S,h,w), logarithms; cells at the lower and right
    border may be cut. At three scales: how much a pixel differs from what its neighbours foretell (the kernel of
    Immerkaer's noise estimate), by quantiles, so that noise in quiet places is told from detail; steps between
    neighbours; the same of colour; and how much of the steps lies on the borders of JPEG blocks. A cell looks
    :data:`MEASURED_AROUND` pixels beyond its own, so that parts of a picture give what the whole gives."""
    height, width = lq_BCHW.shape[-2:]
    lq_BCHW = F.pad(lq_BCHW, (0, -width % CELL, 0, -height % CELL), mode="replicate")
    red, green, blue = lq_BCHW.unbind(1)
    luma_BHW = 0.299 * red + 0.587 * green + 0.114 * blue
    found: list[Tensor] = []
    for scale in (1, 2, 4):
        gray, *colours = (
            F.avg_pool2d(plane[:, None], scale)[:, 0] if scale > 1 else plane
            for plane in (luma_BHW, red - luma_BHW, blue - luma_BHW)
        )
        noise = _unexpected(gray)
        found.append(_cells(noise, scale).mean(-1))
        if scale == 4:
            found.append(_middle(_cells(noise, scale)))
            continue
        ranked = _cells(noise, scale).sort(-1).values
        found += [ranked[..., int(q * ranked.shape[-1])] for q in _QUANTILES]
        found += [_cells(gray.diff(dim=axis, prepend=gray.narrow(axis, 0, 1)).abs(), scale).mean(-1) for axis in (1, 2)]
        found += [_middle(_cells(_unexpected(colour), scale)) for colour in colours]
    return torch.stack([*((part + 1e-3).log() for part in found), *_blockiness(luma_BHW)], 1)


MEASURED_AROUND = CELL
"""More than the kernels look beyond a cell, and a multiple of cells."""


def _unexpected(plane_BHW: Tensor) -> Tensor:
    """The absolute response of [1 -2 1] across and down, over 4; edges repeated."""
    for axis in (1, 2):
        first, last = plane_BHW.narrow(axis, 0, 1), plane_BHW.narrow(axis, plane_BHW.shape[axis] - 1, 1)
        step = torch.cat([first, plane_BHW, last], axis).diff(dim=axis)
        plane_BHW = step.diff(dim=axis) / 2
    return plane_BHW.abs()


def _middle(values: Tensor) -> Tensor:
    """The (lower) median along the last axis; by sorting, which can be exported, too."""
    return values.sort(-1).values[..., (values.shape[-1] - 1) // 2]


def _cells(plane_BHW: Tensor, scale: int) -> Tensor:
    """The pixels of each cell (B,h,w,n) of a plane that was shrunk by ``scale``."""
    side = CELL // scale
    return plane_BHW.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3).flatten(3)


def _blockiness(luma_BHW: Tensor) -> list[Tensor]:
    """How steps between pixels at multiples of 8 compare with all steps, across and down: two of (B,h,w)."""
    found = []
    for axis in (1, 2):
        step = luma_BHW.diff(dim=axis, prepend=luma_BHW.narrow(axis, 0, 1)).abs()
        borders = step.unflatten(axis, (-1, 8)).select(axis + 1, 0).repeat_interleave(8, axis)
        found.append((_cells(borders, 1).mean(-1) + 1e-3).log() - (_cells(step, 1).mean(-1) + 1e-3).log())
    return found


def choose(costs_Khw: Tensor, denoise: float | None = None) -> Amounts:
    """The amounts that costs of a picture's cells speak for: one strength for all of it (``denoise``, if given), and a
    share for each cell."""
    if denoise is None:
        costs = costs_Khw.float().unflatten(0, (len(STRENGTHS), len(SHARES)))
        denoise = STRENGTHS[int(costs.amin(1).mean((1, 2)).argmin())]
    return Amounts(denoise, weigh_shares(costs_Khw[None], denoise)[0])


def weigh_shares(costs_BKhw: Tensor, denoise: float) -> Tensor:
    """The share of each cell (B,h,w) at a strength: the mean of all shares, weighed by how little they cost."""
    costs = costs_BKhw.float().unflatten(1, (len(STRENGTHS), len(SHARES)))
    at = denoise * (len(STRENGTHS) - 1)
    low = min(int(at), len(STRENGTHS) - 2)
    weights_BShw = (-torch.lerp(costs[:, low], costs[:, low + 1], at - low) / SHARPNESS).softmax(1)
    return (weights_BShw * torch.tensor(SHARES, device=costs.device)[:, None, None]).sum(1)


def stretch(cells: Tensor, rows: Tensor, columns: Tensor, side: int) -> Tensor:
    """Maps of cells (...,h,w), linearly interpolated between the cells' centres, at pixels of these rows and columns
    where a cell has ``side`` pixels a side: (...,len(rows),len(columns)). It depends on nothing but the places."""

    def taps(places: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        at = ((places.to(torch.float32) + 0.5) / side - 0.5).clamp(0, count - 1)
        low = at.floor().long().clamp(max=max(0, count - 2))
        return low, (low + 1).clamp(max=count - 1), at - low

    top, bottom, down = taps(rows, cells.shape[-2])
    left, right, across = taps(columns, cells.shape[-1])
    lines = torch.lerp(cells.index_select(-2, top), cells.index_select(-2, bottom), down[:, None])
    return torch.lerp(lines.index_select(-1, left), lines.index_select(-1, right), across)


class Trunk(nn.Module):
    """Both ends and the estimator."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        self.mild = config.network.build()
        self.strong = config.network.build()
        self.estimator = config.estimator.build()
        self._between: dict[float, SRVGGNetCompact] = {}

    def network(self, denoise: float) -> SRVGGNetCompact:
        """The network of a strength: an end, or one interpolated between the ends. As many as STRENGTHS has between
        are kept, those last used, until weights are loaded or moved."""
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
        if len(self._between) > len(STRENGTHS) - 2:
            del self._between[next(iter(self._between))]
        return between

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._between.clear()
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args, **kwargs) -> Self:
        self._between.clear()
        return super()._apply(*args, **kwargs)

    def costs(self, lq_BCHW: Tensor) -> Tensor:
        """The estimator's costs (B,K,h,w) of pictures of any size, in float32 whatever is computed around it."""
        with torch.autocast(lq_BCHW.device.type, enabled=False):
            return self.estimator(measure(lq_BCHW.float()))

    def forward(self, lq_BCHW: Tensor, denoise: float | None = None) -> tuple[Tensor, Tensor]:
        """Features (B,F,H,W) and base pictures (B,3,sH,sW), not clamped, of pictures (B,3,H,W) in [0,1]; each gets its
        own amounts, or all the strength ``denoise``."""
        costs_BKhw = self.costs(lq_BCHW)
        if denoise is not None:
            return self._at(denoise, lq_BCHW, costs_BKhw)
        strengths = [choose(costs_Khw).denoise for costs_Khw in costs_BKhw.cpu()]
        (height, width), scale = lq_BCHW.shape[-2:], self.config.network.scale
        features = lq_BCHW.new_empty(len(lq_BCHW), self.config.features, height, width)
        base = lq_BCHW.new_empty(len(lq_BCHW), 3, height * scale, width * scale)
        for strength in sorted(set(strengths)):
            some = [index for index, own in enumerate(strengths) if own == strength]
            found = self._at(strength, lq_BCHW[some], costs_BKhw[some])
            features[some], base[some] = (part.to(features.dtype) for part in found)
        return features, base

    def _at(self, denoise: float, lq_BCHW: Tensor, costs_BKhw: Tensor) -> tuple[Tensor, Tensor]:
        network, scale = self.network(denoise), self.config.network.scale
        features = network.features(lq_BCHW)
        picture = network.picture(features, lq_BCHW)
        rows, columns = (torch.arange(side * scale, device=lq_BCHW.device) for side in lq_BCHW.shape[-2:])
        share_BHW = stretch(weigh_shares(costs_BKhw, denoise), rows, columns, CELL * scale)
        return features, mix(upscale_bicubic(lq_BCHW, scale), picture, share_BHW[:, None])


def mix(plain: Tensor, restored: Tensor, share: Tensor) -> Tensor:
    """The base picture: from the bicubic enlargement (share 0) to the trunk's picture (1)."""
    return torch.lerp(plain, restored, share.to(plain.dtype))
