"""Before the tokenizer: the trunk's estimator, learning how much each strength and share would cost. The trunk's
networks stay as they are.

Shapes: B batch, H W target pixels, S statistics or shares, R ways x strengths, K choices (R x S).
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.errors import UsageError
from realsrt.imaging.color import luma
from realsrt.imaging.resize import upscale_bicubic
from realsrt.model import RealSRT
from realsrt.models.features import SqueezeFeatures, squeeze_distance
from realsrt.models.trunk import SHARES, SHARPNESS, STRENGTHS, Trunk, Way, mix
from realsrt.training.config import TrainConfig
from realsrt.training.pair_pool import Batch, PairPool
from realsrt.training.stages.common import Outcome, Stage, freeze_all_but, mean_over_ranks, squeeze_features

DECIBEL = 0.05
"""What a decibel of squared error costs, in squeeze distance."""
LEAN = 0.3
"""What the whole way from the mild to the strong end is worth beyond squeeze distance, which hardly sees noise that was
left in. Both are chosen by a network that has no part in the costs: docs/experiments.md."""
_LEAST_ERROR = 2e-4
"""Below so much squared error (37 dB) decibels stop counting: they would come from noise that nobody sees."""
_BEND = 0.3
"""Where the squared error of a cost turns into an absolute one: a few images cost several times what others do."""
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
        costs_BK = measured_costs(self.trunk, self._features[0].to(batch.lq.device), batch.lq, batch.gt)
        guess_BK = self.trunk.costs(batch.lq)
        error = F.smooth_l1_loss(guess_BK, costs_BK, beta=_BEND)
        chosen = self.cost_of_choice(guess_BK, costs_BK)
        loss = error + chosen
        figures = {"loss": loss, "error": error, "chosen": chosen, "best": costs_BK.amin(1).mean()}
        return Outcome(loss, {name: value.detach() for name, value in figures.items()})

    @staticmethod
    def cost_of_choice(guess_BK: Tensor, costs_BK: Tensor) -> Tensor:
        """What is paid on average by someone who chooses by the guess: strength and share, either drawn with a
        probability that falls with the cost that is expected. An error that changes no choice costs nothing here, and
        one that does costs what it does to the image."""
        guess_BRS, costs_BRS = (x.float().unflatten(1, (-1, len(SHARES))) for x in (guess_BK, costs_BK))
        share_BRS = (-guess_BRS / SHARPNESS).softmax(2)
        expected_BR, paid_BR = ((share_BRS * x).sum(2) for x in (guess_BRS, costs_BRS))
        return ((-expected_BR / SHARPNESS).softmax(1) * paid_BR).sum(1).mean()

    @torch.no_grad()
    def learn_statistics(self, pool: PairPool) -> None:
        """Give the estimator the mean and the deviation of the statistics of all pairs that the pool holds at the
        start. Weights that know them keep theirs, since their layers were learned behind these."""
        estimator = self.trunk.estimator
        if bool(estimator.mean.any()) or bool((estimator.deviation != 1).any()):
            return
        found_NS = torch.cat([self.trunk.look(part_BCHW) for part_BCHW in pool.inputs(0).split(_CHUNK)])
        mean_S = mean_over_ranks(found_NS.mean(0))
        variance_S = mean_over_ranks((found_NS - mean_S).square().mean(0))
        estimator.mean.copy_(mean_S)
        estimator.deviation.copy_(variance_S.sqrt().clamp(min=_LEAST_DEVIATION))


@torch.no_grad()
def measured_costs(trunk: Trunk, features: SqueezeFeatures, lq_BCHW: Tensor, gt_BCHW: Tensor) -> Tensor:
    """What every choice costs (B,K), relative to the plain enlargement: squeeze distance, and the decibels that its
    squared error adds (to first order), less what its strength is worth beyond these."""
    scale = trunk.config.network.scale
    plain = upscale_bicubic(lq_BCHW, scale)
    far_B, error_B = _distance_and_error(features, plain, gt_BCHW)
    costs = []
    for way, strength in itertools.product([way for way in Way if trunk.deep or not way.deep], STRENGTHS):
        restored, worth = trunk.restore(lq_BCHW, strength, way)[1], LEAN * strength
        for share in SHARES:
            if share == 0:
                costs.append(torch.zeros_like(far_B) - worth)
                continue
            found = _distance_and_error(features, mix(plain, restored, share), gt_BCHW)
            more_B = (found[1] - error_B) / (error_B + _LEAST_ERROR)
            costs.append(found[0] - far_B + DECIBEL * 10 / math.log(10) * more_B - worth)
    return torch.stack(costs, 1)


def _distance_and_error(features: SqueezeFeatures, image: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
    """Squeeze distance and squared error of luma, (B,) both."""
    image = (image.clamp(0, 1) * 255).round() / 255
    return squeeze_distance(features, image, gt), (luma(image) - luma(gt)).square().mean((1, 2, 3))


def strength_stage(model: RealSRT, config: TrainConfig) -> Stage:
    """Learns the trunk's estimator. Raises UsageError for a model without a trunk, or without a feature file."""
    if model.trunk is None:
        raise UsageError(f"preset {model.config.preset!r} has no trunk whose strength could be learned")
    main = StrengthMain(model, model.trunk, squeeze_features(config, "the strength stage measures images by"))
    return Stage(main, prepare=main.learn_statistics)
