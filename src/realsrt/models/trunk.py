"""The restoring trunk: a low-quality picture's features, and the base picture that tokens add to.

Two SRVGGNetCompact networks of one shape, a mild and a strong denoiser; interpolating their tensors gives every
strength between (as the Real-ESRGAN project's slider does). An estimator looks at the input and tells which strength
suits the picture, and how much of the trunk's picture suits each part of it: a clean input keeps more of its plain
enlargement.

Shapes: B batch, H W pixels of ``lq``, F features, s scale, h w cells of CELL x CELL input pixels, K choices.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.imaging.resize import upscale_bicubic
from realsrt.models.srvgg import SRVGGConfig, SRVGGNetCompact

CELL = 16
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_LEAST_ENERGY = 1e-6
_SHARPNESS = 0.05
"""Costs this far apart are clearly different where shares are weighed against each other."""


@dataclass(frozen=True)
class EstimatorConfig:
    """``width``: filters of a bank. A multiple of 16: then the CPU computes a pixel the same way wherever it lies, and
    pieces give the bytes of the whole."""

    width: int = 32

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
    """Costs of every choice of strength and share, for each cell: K = strengths x shares.

    A bank of learned filters at two scales; of each, the energy in a cell and that in its quietest part (the noise that
    is left where nothing is to be seen), as logarithms; and how much of the steps between pixels lies on the borders of
    JPEG blocks. Then a few convolutions from cell to cell. All of it of bounded reach, so that parts of a picture give
    what the whole gives."""

    reach = 3 * CELL
    """No cell depends on pixels further away than this from its border."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        width, wide = config.width, 2 * config.width
        self.fine = nn.Conv2d(3, width, 5, padding=2, bias=False)
        self.coarse = nn.Conv2d(3, width, 5, padding=2, bias=False)
        self.net = nn.Sequential(
            nn.Conv2d(4 * width + 2, wide, 1), nn.SiLU(),
            nn.Conv2d(wide, wide, 3, padding=1), nn.SiLU(),
            nn.Conv2d(wide, wide, 3, padding=1), nn.SiLU(),
            nn.Conv2d(wide, len(STRENGTHS) * len(SHARES), 1),
        )  # fmt: skip
        for bank in (self.fine, self.coarse):  # most filters see no flat colour
            bank.weight.data[4:] -= bank.weight.data[4:].mean((1, 2, 3), keepdim=True)

    def forward(self, lq_BCHW: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1], sides multiples of CELL → costs (B,K,h,w), less is better."""
        halved = F.avg_pool2d(lq_BCHW, 2)
        measured = [*_energies(self.fine(lq_BCHW), 4), *_energies(self.coarse(halved), 2), _blockiness(lq_BCHW)]
        return self.net(torch.cat(measured, 1))


def _energies(filtered_BCHW: Tensor, part: int) -> tuple[Tensor, Tensor]:
    """Logarithms of the mean energy of each cell, and of its quietest ``part`` x ``part`` pixels."""
    parts = F.avg_pool2d(filtered_BCHW.square(), part)
    mean, least = F.avg_pool2d(parts, 4), -F.max_pool2d(-parts, 4)
    return ((mean + _LEAST_ENERGY).log() + 6) / 3, ((least + _LEAST_ENERGY).log() + 6) / 3


def _blockiness(lq_BCHW: Tensor) -> Tensor:
    """How steps between pixels at multiples of 8 compare with all steps, across and down, in each cell: (B,2,h,w)."""
    found = []
    for axis in (2, 3):
        step = lq_BCHW.diff(dim=axis, prepend=lq_BCHW.narrow(axis, 0, 1)).abs().mean(1)
        at_borders = step.unflatten(axis - 1, (-1, 8)).select(axis, 0).repeat_interleave(8, axis - 1)
        pair = F.avg_pool2d(torch.stack([at_borders, step], 1), CELL)
        found.append(((pair[:, 0] + 1e-3) / (pair[:, 1] + 1e-3)).log())
    return torch.stack(found, 1)


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
    weights_BShw = (-torch.lerp(costs[:, low], costs[:, low + 1], at - low) / _SHARPNESS).softmax(1)
    return torch.einsum("bshw,s->bhw", weights_BShw, torch.tensor(SHARES, device=costs.device))


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
        self._between: tuple[tuple[float, torch.device], SRVGGNetCompact] | None = None

    def network(self, denoise: float) -> SRVGGNetCompact:
        """The network of a strength: an end, or one interpolated between the ends (the last one is kept)."""
        if not 0 < denoise < 1:
            return self.strong if denoise >= 1 else self.mild
        key = denoise, next(self.mild.parameters()).device
        if self._between is None or self._between[0] != key:
            between = copy.deepcopy(self.mild)
            with torch.no_grad():
                for own, other in zip(between.parameters(), self.strong.parameters(), strict=True):
                    own.lerp_(other, denoise)
            self._between = key, between.requires_grad_(False)
        return self._between[1]

    def costs(self, lq_BCHW: Tensor) -> Tensor:
        """The estimator's costs (B,K,h,w) of pictures of any size; cells at the lower and right border may be cut."""
        height, width = lq_BCHW.shape[-2:]
        return self.estimator(F.pad(lq_BCHW, (0, -width % CELL, 0, -height % CELL), mode="replicate"))

    def forward(self, lq_BCHW: Tensor, denoise: float | None = None) -> tuple[Tensor, Tensor]:
        """Features (B,F,H,W) and base pictures (B,3,sH,sW), not clamped, of pictures (B,3,H,W) in [0,1]; each gets its
        own amounts, or all the strength ``denoise``."""
        costs_BKhw = self.costs(lq_BCHW)
        if denoise is not None:
            return self._at(denoise, lq_BCHW, costs_BKhw)
        strengths = [choose(costs_Khw).denoise for costs_Khw in costs_BKhw.cpu()]
        features = lq_BCHW.new_empty(len(lq_BCHW), self.config.features, *lq_BCHW.shape[-2:])
        base = upscale_bicubic(lq_BCHW, self.config.network.scale)
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
