"""Stage 2: the generator, by cross-entropy on masked positions."""

from torch import nn

from realsrt.model import RealSRT
from realsrt.nn.device import to_device
from realsrt.training.config import TrainConfig
from realsrt.training.pair_pool import Batch
from realsrt.training.stages.common import (
    Outcome,
    Stage,
    freeze_all_but,
    masked_accuracy,
    masked_cross_entropy,
    masked_target,
    usual_count,
    weight_of_part,
)


class GeneratorMain(nn.Module):
    """Predict the target's tokens under a random mask, given the degraded image."""

    def __init__(self, model: RealSRT, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        freeze_all_but(model, [model.generator])

    def forward(self, batch: Batch, step: int) -> Outcome:
        model = self.model
        guide, ids_BN, mask_BN = masked_target(model, batch, self.config)
        cond = model.condition(model.generator.backbone, guide)
        logits_BNV = model.generator(ids_BN, cond, mask_BN)
        usual = usual_count(batch, mask_BN.shape[1], self.config.mask_sampling)
        weight = weight_of_part(mask_BN.sum(), to_device(usual, mask_BN.device))
        loss = weight * masked_cross_entropy(logits_BNV, ids_BN, mask_BN)
        accuracy = weight * masked_accuracy(logits_BNV, ids_BN, mask_BN)
        return Outcome(loss, {"loss": loss.detach(), "accuracy": accuracy, "masked": mask_BN.float().mean()})


def generator_stage(model: RealSRT, config: TrainConfig) -> Stage:
    """Learns the generator."""
    return Stage(GeneratorMain(model, config))
