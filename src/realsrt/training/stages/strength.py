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
from realsrt.models.trunk import CELL, SHARES, SHARPNESS, STRENGTHS, Trunk, measure, mix
from realsrt.training.config import TrainConfig
from realsrt.training.pair_pool import Batch, PairPool
from realsrt.training.stages.common import Outcome, Stage, freeze_all_but, mean_over_ranks

DECIBEL = 0.2
"""What a decibel of squared error costs, in squeeze distance. Chosen where the cheapest of a grid of strengths and
shares is the image that an independent network prefers, too."""
_LEAST_ERROR = 2e-4
"""Below so much squared error (37 dB) decibels stop counting: they would come from noise that nobody sees."""
_BEND = 0.3
"""Where the squared error of a cost turns into an absolute one: a few cells cost several times what others do."""
_LEAST_DEVIATION = 1e-3
_CHUNK = 64


class StrengthMain(nn.Module):
    """Every choice is tried on the batch and measured; the estimator learns to foretell the costs, and to choose."""

    def __init__(self, model: RealSRT, trunk: Trunk, features: SqueezeFeatures) -> None:
        super().__init__()
        self.model, self.trunk = model, trunk
        self._features = [features]  # in a list: it is no part of what learns
        freeze_all_but(model, [trunk.estimator])

    def forward(self, batch: Batch, step: int) -> Outcome:
        costs_BKhw = measured_costs(self.trunk, self._features[0].to(batch.lq.device), batch.lq, batch.gt)
        guess_BKhw = self.trunk.costs(batch.lq)
        error = F.smooth_l1_loss(guess_BKhw, costs_BKhw, beta=_BEND)
        chosen = self.cost_of_choice(guess_BKhw, costs_BKhw)
        loss = error + chosen
        best_B = _by_choice(costs_BKhw).amin(2).mean((2, 3)).amin(1)
        figures = {"loss": loss, "error": error, "chosen": chosen, "best": best_B.mean()}
        return Outcome(loss, {name: value.detach() for name, value in figures.items()})

    @staticmethod
    def cost_of_choice(guess_BKhw: Tensor, costs_BKhw: Tensor) -> Tensor:
        """What is paid on average by someone who chooses by the guess: in each cell a share, one strength for the whole
        image, either drawn with a probability that falls with the cost that is expected. An error that changes no
        choice costs nothing here, and one that does costs what it does to the image."""
        guess_BMShw, costs_BMShw = _by_choice(guess_BKhw.float()), _by_choice(costs_BKhw.float())
        share_BMShw = (-guess_BMShw / SHARPNESS).softmax(2)
        expected_BM, paid_BM = ((share_BMShw * x).sum(2).mean((2, 3)) for x in (guess_BMShw, costs_BMShw))
        return ((-expected_BM / SHARPNESS).softmax(1) * paid_BM).sum(1).mean()

    @torch.no_grad()
    def learn_statistics(self, pool: PairPool) -> None:
        """Give the estimator the mean and the deviation of what is measured in the cells of all pairs that the pool
        holds at the start. Weights that know them keep theirs, since their layers were learned behind these."""
        estimator = self.trunk.estimator
        if bool(estimator.mean.any()) or bool((estimator.deviation != 1).any()):
            return
        found = [measure(part_BCHW).transpose(0, 1).flatten(1) for part_BCHW in pool.inputs(0).split(_CHUNK)]
        found_SN = torch.cat(found, 1)
        mean_S = mean_over_ranks(found_SN.mean(1))
        variance_S = mean_over_ranks((found_SN - mean_S[:, None]).square().mean(1))
        estimator.mean.copy_(mean_S)
        estimator.deviation.copy_(variance_S.sqrt().clamp(min=_LEAST_DEVIATION))


def _by_choice(costs_BKhw: Tensor) -> Tensor:
    """(B,K,h,w) as (B,strengths,shares,h,w)."""
    return costs_BKhw.unflatten(1, (len(STRENGTHS), len(SHARES)))


@torch.no_grad()
def measured_costs(trunk: Trunk, features: SqueezeFeatures, lq_BCHW: Tensor, gt_BCHW: Tensor) -> Tensor:
    """What every choice costs in every cell (B,K,h,w), relative to the plain enlargement: squeeze distance, and the
    decibels that its squared error adds to the whole image's. Sides of ``lq`` must be multiples of CELL."""
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
        raise UsageError("the strength stage measures images by a feature file: give --perceptual-file")
    main = StrengthMain(model, model.trunk, load_squeeze_features(config.perceptual_file))
    return Stage(main, prepare=main.learn_statistics)
