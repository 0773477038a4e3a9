"""Presets: functions that make a config; a variant is a function that modifies another."""

from collections.abc import Callable
from dataclasses import replace

import torch

from realsrt.config import (
    EncoderControlConfig,
    FeatureControlConfig,
    ModelConfig,
    QuantizerConfig,
    ResidualTokenizerConfig,
    TransformerConfig,
    TrunkConfig,
    VQGANConfig,
)
from realsrt.errors import UsageError
from realsrt.model import RealSRT
from realsrt.models.srvgg import SRVGGConfig
from realsrt.models.trunk import EstimatorConfig


def base() -> ModelConfig:
    """The paper's model, exactly: 185.1 M parameters."""
    tokenizer = VQGANConfig()
    generator = TransformerConfig()
    return ModelConfig(
        preset="base",
        tokenizer=tokenizer,
        generator=generator,
        critic=replace(generator, depth=12, masked_input=False),
        control=EncoderControlConfig(tokenizer),
    )


def small() -> ModelConfig:
    """The embedded model: continuous condition, tokens for what the input lacks, everything on the input's grid."""
    features, dim = 64, 32
    transformer = TransformerConfig(
        codes=512,
        code_dim=dim,
        width=192,
        heads=4,
        head_dim=48,
        depth=5,
        condition_depth=0,
        condition="features",
        condition_dim=features * 4,
        injection="add",
        position="rope",
    )
    return ModelConfig(
        preset="small",
        tokenizer=ResidualTokenizerConfig(features=features),
        generator=transformer,
        critic=replace(transformer, depth=2, masked_input=False),
        control=FeatureControlConfig(features=features, fine_blocks=6),
        trunk=TrunkConfig(),
        critic_head="code",
        num_steps=2,
        stride=56,
        color_fix="none",
        blend="taper",
        refine="sparse",
    )


def small_f16() -> ModelConfig:
    """``small`` with a quarter of the positions and four codes at each: as many tokens, and a pass of each transformer
    costs the same."""
    config = small()
    groups, dim, width = 4, 64, 192
    transformer = replace(
        config.generator,
        code_dim=dim // groups,
        groups=groups,
        width=384,
        heads=8,
        depth=8,
        ff_mult=4.25,
        condition_dim=config.generator.condition_dim * 4,
    )
    tokenizer = ResidualTokenizerConfig(
        token_width=width,
        token_blocks=1,
        token_fold=4,
        quantizer=QuantizerConfig(512, dim, normalize=True, decay=0.97, restart_below=0.3, groups=groups),
    )
    return replace(
        config,
        preset="small_f16",
        tokenizer=tokenizer,
        generator=transformer,
        critic=replace(transformer, depth=3, masked_input=False),
        control=FeatureControlConfig(latent=width, width=width, fold=4, fine_blocks=6),
    )


def tiny() -> ModelConfig:
    """``small`` shrunk until a test takes milliseconds, and with a decoder that is heard from the start."""
    transformer = replace(
        small().generator, codes=16, code_dim=8, width=32, heads=2, head_dim=16, depth=1, condition_dim=64
    )
    quantizer = QuantizerConfig(16, 8, normalize=True, decay=0.9, restart_below=0.3)
    return replace(
        small(),
        preset="tiny",
        num_steps=4,
        tokenizer=ResidualTokenizerConfig(16, 16, 16, 16, 1, 1, 1, quantizer=quantizer, start=0.1),
        generator=transformer,
        critic=replace(transformer, masked_input=False),
        control=FeatureControlConfig(features=16, latent=16, width=16, blocks=1, fine_blocks=1),
        trunk=TrunkConfig(SRVGGConfig(16, 2), EstimatorConfig(8)),
    )


def tiny_paper() -> ModelConfig:
    """``base`` shrunk: the paper's architecture at test size."""
    tokenizer = VQGANConfig((16, 16, 16, 16), 1, QuantizerConfig(16, 16))
    transformer = TransformerConfig(16, 16, 32, 2, 16, 1, 1)
    return replace(
        base(),
        preset="tiny_paper",
        tokenizer=tokenizer,
        generator=transformer,
        critic=replace(transformer, masked_input=False),
        control=EncoderControlConfig(tokenizer),
    )


def small_coarse_control() -> ModelConfig:
    """``small`` with control on the token grid alone."""
    return replace(small(), preset="small_coarse_control", control=FeatureControlConfig(features=64))


def small_token_condition() -> ModelConfig:
    """``small`` whose generator and critic see the input as the paper's do: quantised to tokens."""
    config = small()
    generator, critic = (replace(part, condition="tokens") for part in (config.generator, config.critic))
    return replace(config, preset="small_token_condition", generator=generator, critic=critic)


def small_texture_tokens() -> ModelConfig:
    """``small`` with tokens of what plain shrinking takes from the target, whatever the input is."""
    config = small()
    assert isinstance(config.tokenizer, ResidualTokenizerConfig)
    return replace(config, preset="small_texture_tokens", tokenizer=replace(config.tokenizer, tokens="texture"))


def small_plain_tokens() -> ModelConfig:
    """``small`` with tokens that hold the whole picture, as the paper's do."""
    config = small()
    assert isinstance(config.tokenizer, ResidualTokenizerConfig)
    return replace(config, preset="small_plain_tokens", tokenizer=replace(config.tokenizer, tokens="plain"))


def small_linear_critic() -> ModelConfig:
    """``small`` with the paper's critic head: one logit a token."""
    return replace(small(), preset="small_linear_critic", critic_head="linear")


def small_shared_trunk() -> ModelConfig:
    """``small`` whose critic has the generator's depth, to be a head on its trunk."""
    config = small()
    critic = replace(config.generator, masked_input=False)
    return replace(config, preset="small_shared_trunk", critic=critic, critic_head="linear")


PRESETS: dict[str, Callable[[], ModelConfig]] = {"base": base, "small": small, "tiny": tiny, "tiny_paper": tiny_paper}
VARIANTS: dict[str, Callable[[], ModelConfig]] = {
    "small_coarse_control": small_coarse_control,
    "small_token_condition": small_token_condition,
    "small_texture_tokens": small_texture_tokens,
    "small_plain_tokens": small_plain_tokens,
    "small_linear_critic": small_linear_critic,
    "small_shared_trunk": small_shared_trunk,
    "small_f16": small_f16,
}
"""What docs/experiments.md compares ``small`` with; for training only."""


def get(name: str) -> ModelConfig:
    """The config of a preset. Raises UsageError for an unknown name."""
    known = PRESETS | VARIANTS
    if name not in known:
        raise UsageError(f"no preset is named {name!r}; there are {', '.join(PRESETS)}")
    return known[name]()


def build(name: str, seed: int = 0) -> RealSRT:
    """A preset's model with random weights (for tests and training), in eval mode; the same seed, the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RealSRT(get(name)).eval()
