"""Presets at test size that exist for tests only."""

from dataclasses import replace

from realsrt import presets
from realsrt.config import FeatureControlConfig, ModelConfig, QuantizerConfig


def tiny_f16(groups: int = 4) -> ModelConfig:
    """``small_f16`` shrunk: tokens of 4x4 low-quality pixels, several codes at each."""
    tiny = presets.tiny()
    generator = replace(tiny.generator, groups=groups, code_dim=4, condition_dim=16 * 16)
    quantizer = QuantizerConfig(16, 4 * groups, normalize=True, decay=0.9, restart_below=0.3, groups=groups)
    return replace(
        tiny,
        preset="tiny_f16",
        tokenizer=replace(tiny.tokenizer, token_fold=4, quantizer=quantizer),
        generator=generator,
        critic=replace(generator, masked_input=False),
        control=FeatureControlConfig(features=16, latent=16, width=16, blocks=1, fold=4),
    )
