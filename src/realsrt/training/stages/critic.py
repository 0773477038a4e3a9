"""Stage 3: the critic, telling predicted (or wrong) tokens from real ones."""

import torch
import torch.nn.functional as F
from torch import nn

from realsrt.model import RealSRT
from realsrt.training.config import TrainConfig
from realsrt.training.pair_pool import Batch
from realsrt.training.stages.common import Outcome, Stage, draw_masks, freeze_all_but


class CriticMain(nn.Module):
    """The generator fills masked positions by argmax; binary cross-entropy against the mask (paper), or against
    which tokens differ from the target's ("wrong")."""

    def __init__(self, model: RealSRT, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        freeze_all_but(model, [model.critic])

    def forward(self, batch: Batch, step: int) -> Outcome:
        model = self.model
        with torch.no_grad():
            guide = model.guide(batch.lq)
            ids_BN = model.tokenizer.encode(batch.gt, guide).flatten(1)
            mask_BN = draw_masks(batch.seeds, ids_BN.shape[1], self.config.mask_sampling).to(ids_BN.device)
            logits = model.generator(ids_BN, model.condition(model.generator.backbone, guide), mask_BN)
            filled_BN = torch.where(mask_BN, logits.argmax(-1), ids_BN)
        fake_BN = mask_BN if self.config.critic_labels == "predicted" else filled_BN != ids_BN
        cond = model.condition(model.critic.backbone, guide)
        disbelief_BN = -model.critic(filled_BN, cond).float()
        loss = F.binary_cross_entropy_with_logits(disbelief_BN, fake_BN.float())
        accuracy = ((disbelief_BN > 0) == fake_BN).float().mean()
        return Outcome(loss, {"loss": loss.detach(), "accuracy": accuracy, "fake": fake_BN.float().mean()})


def critic_stage(model: RealSRT, config: TrainConfig) -> Stage:
    """Learns the critic."""
    return Stage(CriticMain(model, config))
