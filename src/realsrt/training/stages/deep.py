"""Before the strength stage: the trunk's deep network, tuned from a published one on inputs of every kind, seen whole
and reduced. The rest of the trunk stays as it is."""

import random

from torch import nn

from realsrt.errors import UsageError
from realsrt.model import RealSRT
from realsrt.models.rrdbnet import RRDBNet
from realsrt.models.trunk import seen_reduced
from realsrt.training.config import TrainConfig
from realsrt.training.data import derive_seed
from realsrt.training.pair_pool import Batch
from realsrt.training.stages.common import Adversary, ImageLoss, Outcome, Stage, freeze_all_but, severity, target_of

LOST = 0.5
"""The severity (see :func:`severity`) from which on an input may be seen reduced."""


class DeepMain(nn.Module):
    """Restore, compare with the target; the colours that a trunk puts back afterwards are the network's own to find."""

    def __init__(self, model: RealSRT, deep: RRDBNet, config: TrainConfig, adversary: Adversary | None) -> None:
        super().__init__()
        self.model, self.deep, self.config = model, deep, config
        freeze_all_but(model, [deep])
        self.image_loss = ImageLoss(config, adversary)

    def forward(self, batch: Batch, step: int) -> Outcome:
        cfg, lq_BCHW, target_BCHW = self.config, batch.lq, target_of(batch, self.config)
        reduced = random.Random(derive_seed(cfg.seed, 17, step)).random() < cfg.reduced_share
        if reduced and bool((lost_B := severity(lq_BCHW, batch.gt) >= LOST).any()):
            lq_BCHW, target_BCHW = lq_BCHW[lost_B], target_BCHW[lost_B]
            image = seen_reduced(lq_BCHW, self.deep.config.scale, self.deep)
        else:
            image = self.deep(lq_BCHW)
        return self.image_loss(image, target_BCHW, lq_BCHW, self.deep.conv_last.weight, step)


def deep_stage(model: RealSRT, config: TrainConfig) -> Stage:
    """Learns the trunk's deep network. Raises UsageError for a model without one."""
    if model.trunk is None or model.trunk.deep is None:
        raise UsageError(f"preset {model.config.preset!r} has no deep network that could be tuned")
    adversary = Adversary(config) if config.gan > 0 else None
    return Stage(DeepMain(model, model.trunk.deep, config, adversary), adversary)
