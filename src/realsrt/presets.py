"""Presets: functions that make a config; a variant is a function that modifies another."""

import runpy
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
from realsrt.models.rrdbnet import RRDBConfig
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
        trunk=TrunkConfig(estimator=EstimatorConfig(112), deep=RRDBConfig()),
        critic_head="code",
        num_steps=2,
        stride=56,
        color_fix="coarse",
        blend="taper",
        refine="sparse",
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
        trunk=TrunkConfig(SRVGGConfig(16, 2), EstimatorConfig(8), RRDBConfig(8, 1, 4)),
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


PRESETS: dict[str, Callable[[], ModelConfig]] = {"base": base, "small": small, "tiny": tiny, "tiny_paper": tiny_paper}


def get(name: str) -> ModelConfig:
    """The config of a preset.

    Args:
        name: One of PRESETS, or a function in a file: "experiments/variants.py:small_linear_critic".

    Returns:
        The config, to be changed by ``dataclasses.replace`` or built by ``RealSRT(config)``.

    Raises:
        UsageError: If there is no such preset.

    >>> get("small").window
    64
    """
    if name in PRESETS:
        return PRESETS[name]()
    path, _, function = name.rpartition(":")
    if not path.endswith(".py"):
        raise UsageError(f"no preset is named {name!r}; there are {', '.join(PRESETS)}")
    try:
        return runpy.run_path(path)[function]()
    except (OSError, KeyError) as error:
        raise UsageError(f"no preset {function!r} in {path}: {error}") from None


def build(name: str, seed: int = 0) -> RealSRT:
    """A preset's model with random weights, for tests and training.

    Args:
        name: See `get`.
        seed: The same seed gives the same weights.

    Returns:
        The model in eval mode, on the CPU.

    Raises:
        UsageError: If there is no such preset.

    >>> build("tiny").config.num_steps
    4
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RealSRT(get(name)).eval()
