"""Stage 4: the control module (and, where asked, the decoder) on the sampler's own tokens."""

import random

import torch
from torch import Tensor, nn

from realsrt.model import RealSRT
from realsrt.models.control import EncoderControl
from realsrt.models.tokenizer import VQGAN
from realsrt.nn.device import to_device
from realsrt.training.config import TrainConfig
from realsrt.training.data import derive_seed
from realsrt.training.pair_pool import Batch
from realsrt.training.stages.common import (
    Adversary,
    ImageLoss,
    Outcome,
    Stage,
    freeze_all_but,
    shares,
    target_of,
)


class ControlMain(nn.Module):
    """Run the T-step sampler without gradient, decode under control, compare with the target."""

    def __init__(self, model: RealSRT, config: TrainConfig, adversary: Adversary | None) -> None:
        super().__init__()
        self.model, self.config = model, config
        decoder = [model.tokenizer.post_quant_conv, model.tokenizer.decoder] if config.tune_decoder else []
        freeze_all_but(model, [model.control, *decoder])
        self.image_loss = ImageLoss(config, adversary)

    def _last_layer(self) -> Tensor:
        decoder = self.model.tokenizer.decoder
        return decoder.last_layer if self.config.tune_decoder else self.model.control.zero_out.weight

    def forward(self, batch: Batch, step: int) -> Outcome:
        model, cfg = self.model, self.config
        num_steps = random.Random(derive_seed(cfg.seed, 7, step)).choice(cfg.sampler_steps)
        with torch.no_grad():
            guide = model.guide(batch.lq)
            *_, final = model.iterate(guide, num_steps=num_steps, want_confidence=False)
        z = model.tokenizer.lookup(model.grid(final.ids, guide))
        fidelity: Tensor | float = 1.0
        if cfg.tune_decoder:
            kept_B = shares(batch.seeds) >= cfg.control_drop
            fidelity = to_device(kept_B.to(z.dtype), z.device)[:, None, None, None]
        image = model.decode_latent(z, guide, fidelity)
        return self.image_loss(image, target_of(batch, cfg), batch.lq, self._last_layer(), step)


def control_stage(model: RealSRT, config: TrainConfig) -> Stage:
    """Learns control; unless it has learned before, the paper's E' starts from the weights of E."""
    untrained = not model.control.zero_out.weight.any()
    if untrained and isinstance(model.control, EncoderControl) and isinstance(model.tokenizer, VQGAN):
        model.control.encoder.load_state_dict(model.tokenizer.encoder.state_dict())
    adversary = Adversary(config) if config.gan > 0 else None
    return Stage(ControlMain(model, config, adversary), adversary)
