"""Before all others: the trunk's deep network learns, from inputs at two thirds of their side, the image that a teacher
made of the whole."""

from torch import nn

from realsrt.errors import UsageError
from realsrt.model import RealSRT
from realsrt.models.trunk import Trunk, Way
from realsrt.training.config import TrainConfig
from realsrt.training.pair_pool import Batch
from realsrt.training.stages.common import Adversary, ImageLoss, Outcome, Stage, freeze_all_but, target_of


class DeepMain(nn.Module):
    """Restores the batch the deep way, at full strength."""

    def __init__(self, model: RealSRT, trunk: Trunk, config: TrainConfig, adversary: Adversary | None) -> None:
        super().__init__()
        self.model, self.trunk, self.config = model, trunk, config
        freeze_all_but(model, [trunk.deep])
        self.image_loss = ImageLoss(config, adversary)

    def forward(self, batch: Batch, step: int) -> Outcome:
        assert self.trunk.deep is not None
        image = self.trunk.restore_reduced(batch.lq, 1.0, Way.DEEP)
        target = target_of(batch, self.config)
        return self.image_loss(image, target, batch.lq, self.trunk.deep.conv_last.weight, step)


def deep_stage(model: RealSRT, config: TrainConfig) -> Stage:
    """Learns the trunk's deep network. Raises UsageError for a model without one."""
    if model.trunk is None or model.trunk.deep is None:
        raise UsageError(f"preset {model.config.preset!r} has no deep network in its trunk")
    adversary = Adversary(config) if config.gan > 0 else None
    return Stage(DeepMain(model, model.trunk, config, adversary), adversary)
