"""Stage 3: the critic, telling predicted (or wrong, or far) tokens from real ones."""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.model import RealSRT
from realsrt.models.features import SqueezeFeatures, cell_means, ranks, squeeze_maps
from realsrt.models.guide import Guide
from realsrt.models.heads import CodeCritic, straight
from realsrt.training.config import TrainConfig
from realsrt.training.pair_pool import Batch
from realsrt.training.stages.common import (
    Outcome,
    Stage,
    freeze_all_but,
    masked_target,
    mean_over_ranks,
    squeeze_features,
    target_of,
)


class CriticMain(nn.Module):
    """The generator fills masked positions, by argmax (paper) or at random temperatures; binary cross-entropy against
    the mask (paper), against which tokens differ from the target's ("wrong"), or against how far from the target the
    decoded image is there ("far"), as a rank among all places of the batch from 0, the closest, to 1."""

    def __init__(self, model: RealSRT, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self._features: list[SqueezeFeatures] = []  # in a list: they are no part of what learns
        if config.critic_labels == "far":
            self._features.append(squeeze_features(config, "a critic of distances measures images by"))
        freeze_all_but(model, [model.critic])

    def forward(self, batch: Batch, step: int) -> Outcome:
        model = self.model
        guide, ids_BN, mask_BN = masked_target(model, batch, self.config)
        with torch.no_grad():
            logits = model.generator(ids_BN, model.condition(model.generator.backbone, guide), mask_BN)
            choice_BN = sample(logits, batch.seeds, self.config.critic_temperatures)
            filled_BN = torch.where(mask_BN, choice_BN, ids_BN)
            if self.config.critic_labels == "far":
                fake_BN = self._far(filled_BN, guide, target_of(batch, self.config))
            else:
                fake_BN = mask_BN if self.config.critic_labels == "predicted" else filled_BN != ids_BN
        cond = model.condition(model.critic.backbone, guide)
        disbelief_BN = -model.critic(filled_BN, cond).float()
        fake_share = mean_over_ranks(fake_BN.float().mean())
        weight_BN = None
        if self.config.critic_balance:
            share_BN = torch.where(fake_BN > 0.5, fake_share, 1 - fake_share)
            weight_BN = 0.5 / share_BN.clamp(min=1e-3)
        loss = F.binary_cross_entropy_with_logits(disbelief_BN, fake_BN.float(), weight_BN)
        accuracy = ((disbelief_BN > 0) == (fake_BN > 0.5)).float().mean()
        return Outcome(loss, {"loss": loss.detach(), "accuracy": accuracy, "fake": fake_share})

    def _far(self, ids_BN: Tensor, guide: Guide, target_BCHW: Tensor) -> Tensor:
        """The rank (B,N) of the squeeze distance at each token, among all of the batch."""
        image = self.model.decode(ids_BN, guide).clamp(0, 1)
        height, width = self.model.grid(ids_BN, guide).shape[1:]
        maps = squeeze_maps(self._features[0].to(image.device), image, target_BCHW)
        return ranks(cell_means(maps, (height, width)).flatten()).unflatten(0, ids_BN.shape)


@torch.no_grad()
def sample(logits_BNV: Tensor, seeds: Sequence[int], temperatures: tuple[float, float]) -> Tensor:
    """Tokens (B, N) drawn at a temperature from U(``temperatures``), a sample each; argmax if both are 0."""
    coldest, hottest = temperatures
    if hottest <= 0:
        return logits_BNV.argmax(-1)
    noisy = torch.empty_like(logits_BNV, dtype=torch.float32)
    for out_NV, logits_NV, seed in zip(noisy, logits_BNV.float(), seeds, strict=True):
        temperature = coldest + (hottest - coldest) * random.Random(seed).random()
        rng = torch.Generator(logits_NV.device).manual_seed(seed ^ 1)
        uniform = torch.rand(logits_NV.shape, generator=rng, device=logits_NV.device).clamp_(1e-20, 1 - 1e-7)
        out_NV.copy_(logits_NV - temperature * (-uniform.log()).log())
    return noisy.argmax(-1)


@torch.no_grad()
def start_from_generator(model: RealSRT) -> None:
    """Give the critic every weight of the generator's that has the same name and shape."""
    theirs = model.generator.state_dict()
    for key, value in model.critic.state_dict().items():
        if key in theirs and theirs[key].shape == value.shape:
            value.copy_(theirs[key])


def critic_stage(model: RealSRT, config: TrainConfig) -> Stage:
    """Learns the critic, which starts from the generator unless it has learned since that did. A map from its scores
    to confidences that was fitted before (`recipes/confidence.py`) is of another critic, and goes."""
    known = model.info.provenance
    if isinstance(model.critic, CodeCritic):
        model.critic.knots.copy_(straight())
        known.pop("confidence", None)
    history = [stage.get("stage") for stage in known.get("stages", [])]
    since = history[::-1].index("generator") if "generator" in history else len(history)
    learned = "converted_from" in known or "critic" in history[len(history) - since :]
    if config.critic_init == "generator" and not learned:
        start_from_generator(model)
    return Stage(CriticMain(model, config))
