"""What docs/experiments.md compares ``small`` with; for training only.

realsrt train control --preset experiments/variants.py:small_coarse_control …
"""

from dataclasses import replace

from realsrt.config import FeatureControlConfig, ModelConfig
from realsrt.presets import small


def small_coarse_control() -> ModelConfig:
    """``small`` with control on the token grid alone."""
    return replace(small(), preset="small_coarse_control", control=FeatureControlConfig(features=64))


def small_token_condition() -> ModelConfig:
    """``small`` whose generator and critic see the input as the paper's do: quantised to tokens."""
    config = small()
    generator, critic = (replace(part, condition="tokens") for part in (config.generator, config.critic))
    return replace(config, preset="small_token_condition", generator=generator, critic=critic)


def small_linear_critic() -> ModelConfig:
    """``small`` with the paper's critic head: one logit a token."""
    return replace(small(), preset="small_linear_critic", critic_head="linear")
