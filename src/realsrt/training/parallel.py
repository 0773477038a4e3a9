"""Networks on several processes: a copy on each (DDP). Checkpoints do not know how many there were."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from realsrt.training.config import TrainConfig


def prepare(
    accelerator: Accelerator, network: nn.Module, config: TrainConfig, lr: float
) -> tuple[Any, torch.optim.Optimizer]:
    """The network to call, and its optimizer."""
    decay = config.weight_decay
    made = torch.optim.AdamW(learning(network), lr=lr, betas=config.betas, weight_decay=decay, fused=True)
    return accelerator.prepare(network, made)


def clip(accelerator: Accelerator, network: nn.Module, most: float) -> Tensor:
    """Clip the gradients of a network by their norm over all processes, and give that norm."""
    norm = accelerator.clip_grad_norm_(learning(network), most)
    assert norm is not None
    return norm


def learning(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that get a gradient."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def laid_out(x: Tensor, like: Tensor) -> Tensor:
    """A copy laid out in memory, and placed, as ``like`` is: fused optimizers need that."""
    return torch.empty_like(like, dtype=x.dtype).copy_(x)


def load_optimizer(optimizer: Any, saved: dict[str, Any]) -> None:
    """Load a state dict. Raises what torch raises where it does not fit."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = {
        index: {
            key: laid_out(x, parameters[index]) if isinstance(x, Tensor) and x.shape == parameters[index].shape else x
            for key, x in state.items()
        }
        for index, state in saved["state"].items()
    }
    optimizer.load_state_dict({**saved, "state": states})
