"""Before the tokenizer: the trunk's estimator, learning how much each strength and share would cost. The trunk's
networks stay as they are.

Shapes: N measured pairs, B batch, H W target pixels, S statistics or shares, R ways x strengths, K choices (R x S).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.errors import UsageError
from realsrt.imaging.color import luma
from realsrt.imaging.resize import upscale_bicubic
from realsrt.model import RealSRT
from realsrt.models.features import SqueezeFeatures, mean_distance, squeeze_maps_to
from realsrt.models.trunk import SHARES, SHARPNESS, STRENGTHS, Trunk, Way, mix
from realsrt.nn.device import to_device
from realsrt.training.config import TrainConfig
from realsrt.training.pair_pool import Batch, PairPool
from realsrt.training.stages.common import Outcome, Stage, freeze_all_but, mean_over_ranks, squeeze_features

DECIBEL = 0.05
"""What a decibel of squared error costs, in squeeze distance."""
LEAN = 0.3
"""What the whole way from the mild to the strong end is worth beyond squeeze distance, which hardly sees noise that was
left in."""
TIME = {Way.DEEP_REDUCED: 0.07, Way.DEEP: 0.45}
"""What the time costs that a deep way takes. All three are chosen by a network that has no part in the costs:
docs/experiments.md."""
_LEAST_ERROR = 2e-4
"""Below so much squared error (37 dB) decibels stop counting: they would come from noise that nobody sees."""
_BEND = 0.3
"""Where the squared error of a cost turns into an absolute one: a few images cost several times what others do."""
_LEAST_DEVIATION = 1e-3
_CHUNK = (4, 64)
"""Pairs that are measured at once, on the CPU and on a GPU."""


class StrengthMain(nn.Module):
    """Every choice is tried once on every pair that the pool holds at the start, and measured; the estimator learns to
    foretell the costs, and to choose."""

    def __init__(self, model: RealSRT, trunk: Trunk, features: SqueezeFeatures) -> None:
        super().__init__()
        self.model, self.trunk = model, trunk
        self._features = [features]  # in a list: it is no part of what learns
        self.looks_NS = self.costs_NK = torch.empty(0)
        freeze_all_but(model, [trunk.estimator])

    def forward(self, batch: Batch, step: int) -> Outcome:
        """Of the batch its numbers alone: each draws one of the pairs that were measured."""
        drawn_B = to_device(torch.tensor([seed % len(self.costs_NK) for seed in batch.seeds]), self.costs_NK.device)
        costs_BK, guess_BK = self.costs_NK[drawn_B], self.trunk.costs_of([self.looks_NS[drawn_B]])
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
    def measure(self, pool: PairPool) -> None:
        """Look at all pairs that the pool holds at the start, and measure them. The estimator's mean and deviation
        become those of what was seen; weights that know them keep theirs, since their layers were learned behind
        these."""
        features, looks, costs = self._features[0].to(pool.device), [], []
        for lq_BCHW, gt_BCHW in pool.held(0, _CHUNK[pool.device.type != "cpu"]):
            looks.append(self.trunk.look(lq_BCHW))
            costs.append(measured_costs(self.trunk, features, lq_BCHW, gt_BCHW))
        self.looks_NS, self.costs_NK = torch.cat(looks), torch.cat(costs)
        estimator = self.trunk.estimator
        if bool(estimator.mean.any()) or bool((estimator.deviation != 1).any()):
            return
        mean_S = mean_over_ranks(self.looks_NS.mean(0))
        variance_S = mean_over_ranks((self.looks_NS - mean_S).square().mean(0))
        estimator.mean.copy_(mean_S)
        estimator.deviation.copy_(variance_S.sqrt().clamp(min=_LEAST_DEVIATION))


@torch.no_grad()
def measured_costs(trunk: Trunk, features: SqueezeFeatures, lq_BCHW: Tensor, gt_BCHW: Tensor) -> Tensor:
    """What every choice costs (B,K), relative to the plain enlargement: squeeze distance, and the decibels that its
    squared error adds (to first order), less what its strength is worth beyond these, and what its time costs."""
    plain, maps = upscale_bicubic(lq_BCHW, trunk.config.network.scale), squeeze_maps_to(features, gt_BCHW)

    def measure(image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Squeeze distance and squared error of luma, (B,) both."""
        image_BCHW = (image_BCHW.clamp(0, 1) * 255).round() / 255
        return mean_distance(maps(image_BCHW)), (luma(image_BCHW) - luma(gt_BCHW)).square().mean((1, 2, 3))

    far_B, error_B = measure(plain)
    whole = [trunk.restore(lq_BCHW, strength, Way.WHOLE)[1] for strength in STRENGTHS]
    costs = []
    for way in (way for way in Way if trunk.deep or not way.deep):
        deep = trunk.restore(lq_BCHW, 1.0, way)[1] if way.deep else None
        for strength, image in zip(STRENGTHS, whole, strict=True):
            if deep is not None:
                image = torch.lerp(image, deep, strength)  # as Trunk.restore mixes them
            elif way.reduced:
                image = trunk.restore(lq_BCHW, strength, way)[1]
            more = (TIME.get(way, 0.0) if strength else 0.0) - LEAN * strength
            costs.append(torch.full_like(far_B, more))
            for share in SHARES[1:]:
                found_B, error_of_B = measure(mix(plain, image, share))
                worse_B = (error_of_B - error_B) / (error_B + _LEAST_ERROR)
                costs.append(found_B - far_B + DECIBEL * 10 / math.log(10) * worse_B + more)
    return torch.stack(costs, 1)


def strength_stage(model: RealSRT, config: TrainConfig) -> Stage:
    """Learns the trunk's estimator. Raises UsageError for a model without a trunk, or without a feature file."""
    if model.trunk is None:
        raise UsageError(f"preset {model.config.preset!r} has no trunk whose strength could be learned")
    main = StrengthMain(model, model.trunk, squeeze_features(config, "the strength stage measures images by"))
    return Stage(main, prepare=main.measure)
