"""What docs/experiments.md compares ``small`` with; for training only.

realsrt train tokenizer --preset experiments/variants.py:small_texture_tokens …
"""

from dataclasses import replace

from realsrt.config import FeatureControlConfig, ModelConfig, ResidualTokenizerConfig
from realsrt.presets import small


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
    """``small`` with tokens that hold the whole image, as the paper's do."""
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
