"""Presets at test size that exist for tests only."""

from dataclasses import replace

from realsrt import presets
from realsrt.config import FeatureControlConfig, ModelConfig


def tiny_f16() -> ModelConfig:
    """``tiny`` with tokens of 4x4 low-quality pixels."""
    tiny = presets.tiny()
    generator = replace(tiny.generator, condition_dim=16 * 16)
    return replace(
        tiny,
        preset="tiny_f16",
        tokenizer=replace(tiny.tokenizer, token_fold=4),
        generator=generator,
        critic=replace(generator, masked_input=False),
        control=FeatureControlConfig(features=16, latent=16, width=16, blocks=1, fold=4),
    )
