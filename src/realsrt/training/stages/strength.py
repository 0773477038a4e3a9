"""Before the tokenizer: the trunk's estimator, learning how much each strength and share would cost. The trunk's
networks stay as they are.

Shapes: B batch, H W target pixels, h w cells, K choices (strengths x shares).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.errors import UsageError
from realsrt.imaging.color import luma
from realsrt.imaging.resize import upscale_bicubic
from realsrt.losses import load_squeeze_features
from realsrt.model import RealSRT
from realsrt.models.features import SqueezeFeatures, squeeze_maps
from realsrt.models.trunk import CELL, SHARES, STRENGTHS, Trunk, mix
from realsrt.training.config import TrainConfig
from realsrt.training.pair_pool import Batch
from realsrt.training.stages.common import Outcome, Stage, freeze_all_but

DECIBEL = 0.2
"""What a decibel of squared error costs, in squeeze distance. Chosen where the cheapest of a grid of strengths and
shares is the picture that an independent network prefers, too."""
_LEAST_ERROR = 1e-5


class StrengthMain(nn.Module):
    """Every choice is tried on the batch and measured; the estimator learns to foretell it, by squared error."""

    def __init__(self, model: RealSRT, trunk: Trunk, features: SqueezeFeatures) -> None:
        super().__init__()
        self.model, self.trunk = model, trunk
        self._features = [features]  # in a list: it is no part of what learns
        freeze_all_but(model, [trunk.estimator])

    def forward(self, batch: Batch, step: int) -> Outcome:
        costs_BKhw = measured_costs(self.trunk, self._features[0].to(batch.lq.device), batch.lq, batch.gt)
        guess_BKhw = self.trunk.costs(batch.lq)
        loss = F.mse_loss(guess_BKhw, costs_BKhw)
        chosen_B1hw = costs_BKhw.gather(1, guess_BKhw.argmin(1, keepdim=True))
        figures = {"loss": loss.detach(), "chosen": chosen_B1hw.mean(), "best": costs_BKhw.amin(1).mean()}
        return Outcome(loss, figures)


@torch.no_grad()
def measured_costs(trunk: Trunk, features: SqueezeFeatures, lq_BCHW: Tensor, gt_BCHW: Tensor) -> Tensor:
    """What every choice costs in every cell (B,K,h,w), relative to the plain enlargement: squeeze distance, and the
    decibels that its squared error adds to the whole picture's. Sides of ``lq`` must be multiples of CELL."""
    scale = trunk.config.network.scale
    plain = upscale_bicubic(lq_BCHW, scale)
    nothing = _distance_and_error(features, plain, gt_BCHW, CELL * scale)
    costs = []
    for strength in STRENGTHS:
        network = trunk.network(strength)
        restored = network(lq_BCHW)
        for share in SHARES:
            if share == 0:
                costs.append(torch.zeros_like(nothing[0]))
                continue
            image = mix(plain, restored, torch.tensor(share, device=plain.device))
            found = _distance_and_error(features, image, gt_BCHW, CELL * scale)
            more = (found[1] - nothing[1]) / (nothing[1].mean((1, 2), keepdim=True) + _LEAST_ERROR)
            costs.append(found[0] - nothing[0] + DECIBEL * 10 / math.log(10) * more)
    return torch.stack(costs, 1)


def _distance_and_error(features: SqueezeFeatures, image: Tensor, gt: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Squeeze distance and squared error of luma, the mean of each cell of ``side`` pixels: (B,h,w) both."""
    image = (image.clamp(0, 1) * 255).round() / 255
    hw = gt.shape[2] // side, gt.shape[3] // side
    maps = squeeze_maps(features, image, gt)
    distance = sum((F.adaptive_avg_pool2d(m, hw) for m in maps), torch.zeros(1, device=gt.device))
    error = F.adaptive_avg_pool2d((luma(image) - luma(gt)).square(), hw)
    return distance, error[:, 0]


def strength_stage(model: RealSRT, config: TrainConfig) -> Stage:
    """Learns the trunk's estimator. Raises UsageError for a model without a trunk, or without a feature file."""
    if model.trunk is None:
        raise UsageError(f"preset {model.config.preset!r} has no trunk whose strength could be learned")
    if config.perceptual_file is None:
        raise UsageError("the strength stage measures pictures by a feature file: give --perceptual-file")
    return Stage(StrengthMain(model, model.trunk, load_squeeze_features(config.perceptual_file)))
