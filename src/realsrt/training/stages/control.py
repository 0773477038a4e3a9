"""Stage 4: the control module (and, where asked, decoder and generator) on the sampler's own tokens."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from realsrt.model import RealSRT
from realsrt.models.control import EncoderControl
from realsrt.models.guide import Guide
from realsrt.models.tokenizer import VQGAN
from realsrt.nn.device import to_device
from realsrt.training.config import TrainConfig
from realsrt.training.data import derive_seed
from realsrt.training.pair_pool import Batch
from realsrt.training.stages.common import (
    Adversary,
    Outcome,
    PictureLoss,
    Stage,
    freeze_all_but,
    masked_accuracy,
    masked_cross_entropy,
    target_of,
    weight_of_part,
)


class ControlMain(nn.Module):
    """Run the T-step sampler without gradient, decode under control, compare with the target."""

    def __init__(self, model: RealSRT, config: TrainConfig, adversary: Adversary | None) -> None:
        super().__init__()
        self.model, self.config = model, config
        decoder = [model.tokenizer.post_quant_conv, model.tokenizer.decoder] if config.tune_decoder else []
        generator = [model.generator] if config.tune_generator else []
        freeze_all_but(model, [model.control, *decoder, *generator])
        self.picture_loss = PictureLoss(config, adversary)

    def _last_layer(self) -> Tensor:
        decoder = self.model.tokenizer.decoder
        return decoder.last_layer if self.config.tune_decoder else self.model.control.zero_out.weight

    def forward(self, batch: Batch, step: int) -> Outcome:
        model, cfg = self.model, self.config
        num_steps = random.Random(derive_seed(cfg.seed, 7, step)).choice(cfg.sampler_steps)
        with torch.no_grad():
            guide = model.guide(batch.lq)
        token_loss, figures = None, {}
        if cfg.tune_generator:
            z, token_loss, figures = self._predict(batch, guide, num_steps)
        else:
            with torch.no_grad():
                *_, final = model.iterate(guide, num_steps=num_steps, want_confidence=False)
            z = model.tokenizer.lookup(model.grid(final.ids, guide))
        fidelity: Tensor | float = 1.0
        if cfg.tune_decoder:
            kept_B = ~self._draw(batch.seeds, cfg.control_drop)
            fidelity = to_device(kept_B.to(z.dtype), z.device)[:, None, None, None]
        image = model.decode_latent(z, guide, fidelity)
        outcome = self.picture_loss(image, target_of(batch, cfg), batch.lq, self._last_layer(), step)
        loss = outcome.loss if token_loss is None else outcome.loss + cfg.token_loss * token_loss
        return Outcome(loss, outcome.figures | figures, outcome.pictures)

    @staticmethod
    def _draw(seeds: Sequence[int], share: float, salt: int = 0) -> Tensor:
        """True for a random share of the samples (B,), on the CPU."""
        draws = [torch.rand(1, generator=torch.Generator().manual_seed(seed ^ salt)) for seed in seeds]
        return torch.cat(draws) < share

    def _predict(self, batch: Batch, guide: Guide, num_steps: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The last of ``num_steps`` steps with a gradient: latents (B,D,h,w), the cross-entropy of its predictions, and
        figures. The codes are those of the argmax; their gradient is that of the expected code (straight-through)."""
        model = self.model
        with torch.no_grad():
            target_BN = model.tokenizer.encode(target_of(batch, self.config), guide).flatten(1)
            ids_BN = torch.full_like(target_BN, model.config.generator.codes)
            mask_BN = torch.ones_like(ids_BN, dtype=torch.bool)
            if num_steps > 1:
                *_, before = zip(range(num_steps - 1), model.iterate(guide, num_steps=num_steps), strict=False)
                ids_BN, mask_BN = before[1].ids, before[1].mask
        logits_BNV = model.generator(ids_BN, model.condition(model.generator.backbone, guide), mask_BN).float()
        ids_BN = torch.where(mask_BN, logits_BNV.argmax(-1), ids_BN)
        weight = weight_of_part(mask_BN.sum())
        token_loss = weight * masked_cross_entropy(logits_BNV, target_BN, mask_BN)
        accuracy = weight * masked_accuracy(logits_BNV, target_BN, mask_BN)
        taught_B = self._draw(batch.seeds, self.config.teacher_share, salt=2)
        taught_B1 = to_device(taught_B, ids_BN.device)[:, None]
        ids_BN, mask_BN = torch.where(taught_B1, target_BN, ids_BN), mask_BN & ~taught_B1
        expected_BND = logits_BNV.softmax(-1) @ model.tokenizer.quantizer.weight[:-1].float()
        expected_BND = (expected_BND - expected_BND.detach()) * mask_BN[..., None]
        code_BDhw = model.tokenizer.quantizer.lookup(model.grid(ids_BN, guide))
        code_BDhw = code_BDhw + expected_BND.transpose(1, 2).unflatten(2, code_BDhw.shape[2:])
        return model.tokenizer.post(code_BDhw), token_loss, {"token_loss": token_loss.detach(), "accuracy": accuracy}


def control_stage(model: RealSRT, config: TrainConfig) -> Stage:
    """Learns control; unless it has learned before, the paper's E' starts from the weights of E."""
    untrained = not model.control.zero_out.weight.any()
    if untrained and isinstance(model.control, EncoderControl) and isinstance(model.tokenizer, VQGAN):
        model.control.encoder.load_state_dict(model.tokenizer.encoder.state_dict())
    adversary = Adversary(config) if config.gan > 0 else None
    return Stage(ControlMain(model, config, adversary), adversary)
