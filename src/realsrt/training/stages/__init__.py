"""The stages. Each is a ``main`` module (batch → loss) and, where it trains against one, a discriminator."""

from collections.abc import Callable

from realsrt.model import RealSRT
from realsrt.training.config import TrainConfig
from realsrt.training.stages.common import Stage
from realsrt.training.stages.control import control_stage
from realsrt.training.stages.critic import critic_stage
from realsrt.training.stages.deep import deep_stage
from realsrt.training.stages.generator import generator_stage
from realsrt.training.stages.strength import strength_stage
from realsrt.training.stages.tokenizer import tokenizer_stage

BUILDERS: dict[str, Callable[[RealSRT, TrainConfig], Stage]] = {
    "deep": deep_stage,
    "strength": strength_stage,
    "tokenizer": tokenizer_stage,
    "generator": generator_stage,
    "critic": critic_stage,
    "control": control_stage,
}

__all__ = ["BUILDERS", "Stage"]
