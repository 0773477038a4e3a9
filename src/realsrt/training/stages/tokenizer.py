"""Stage 1: the tokenizer, on targets alone (paper) or on targets and their low-quality inputs (conditional)."""

import torch
from torch import nn

from realsrt.losses import commitment_loss
from realsrt.model import RealSRT
from realsrt.nn.device import to_device
from realsrt.training.config import TrainConfig
from realsrt.training.data import derive_seed
from realsrt.training.pair_pool import Batch
from realsrt.training.stages.common import Adversary, ImageLoss, Outcome, Stage, freeze_all_but, shares, target_of


class TokenizerMain(nn.Module):
    """Reconstruction, perceptual, adversarial and commitment loss; the codebook learns by EMA inside."""

    def __init__(self, model: RealSRT, config: TrainConfig, adversary: Adversary | None) -> None:
        super().__init__()
        self.model, self.config = model, config
        freeze_all_but(model, [model.tokenizer])
        self.image_loss = ImageLoss(config, adversary)

    def forward(self, batch: Batch, step: int) -> Outcome:
        model, cfg = self.model, self.config
        with torch.no_grad():
            guide = model.guide(batch.lq, want_ids=False)
        rng = torch.Generator().manual_seed(derive_seed(cfg.seed, 4, step))
        target = target_of(batch, cfg)
        quantized = model.tokenizer.quantize(target, guide, rng)
        code = quantized.z
        if guide.features is not None:
            keep = to_device((shares(batch.seeds) >= cfg.token_drop).to(code.dtype), code.device)
            code = code * keep[:, None, None, None]
        image = model.tokenizer.decode(model.tokenizer.post_quant_conv(code), guide)
        outcome = self.image_loss(image, target, batch.lq, model.tokenizer.decoder.last_layer, step)
        commitment = commitment_loss(quantized.encoded, quantized.code)
        used = (model.tokenizer.quantizer.cluster_size_ema > 0.5).float().mean()
        figures = outcome.figures | {"commitment": commitment.detach(), "codes_used": used}
        return Outcome(outcome.loss + cfg.commitment * commitment, figures, outcome.images)


def tokenizer_stage(model: RealSRT, config: TrainConfig) -> Stage:
    """Learns the tokenizer."""
    adversary = Adversary(config) if config.gan > 0 else None
    return Stage(TokenizerMain(model, config, adversary), adversary)
