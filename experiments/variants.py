"""What docs/experiments.md compares ``small`` with; for training only.

realsrt train tokenizer --preset experiments/variants.py:small_f16 …
"""

from dataclasses import replace

from realsrt.config import FeatureControlConfig, ModelConfig, QuantizerConfig, ResidualTokenizerConfig
from realsrt.presets import small


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
