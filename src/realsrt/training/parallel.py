"""How the networks lie on several processes: whole on each (DDP), or cut up between them (FSDP2).

State dicts that leave this module hold whole tensors, so a run may go on with other processes, cut up or not.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from realsrt.errors import UsageError
from realsrt.nn.attention import FeedForward

_UNITS = (FeedForward,)
"""What is gathered and let go by itself; the rest is gathered for as long as a step computes. These hold two thirds of
a transformer, and are only ever called through ``forward``."""


class Parallel:
    """Prepares networks and optimizers for the processes of an Accelerator, and smooths out the differences.

    Networks are cut up where accelerate was launched with FSDP (``ACCELERATE_USE_FSDP``), version 2, and there are
    several processes. That is done here, by torch's ``fully_shard``, so that it is the same on a CPU. A discriminator
    is small and always whole.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        asked = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes")
        if asked and os.environ.get("FSDP_VERSION", "1") != "2":
            raise UsageError("FSDP needs fsdp_version: 2 in the config of accelerate launch")
        self.sharded = asked and accelerator.num_processes > 1
        if self.sharded and accelerator.scaler is not None:
            raise UsageError("--precision fp16 does not work with FSDP; take bf16")

    def prepare(self, network: nn.Module, make: Callable[[list[nn.Parameter]], Any]) -> tuple[Any, Any]:
        """The network to call, and its optimizer, which ``make(parameters)`` makes."""
        if not self.sharded:
            network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            return self.accelerator.prepare(network, make(learning(network)))
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.accelerator.device.type, (self.accelerator.num_processes,))
        for part in network.modules():
            if isinstance(part, _UNITS):
                fully_shard(part, mesh=mesh)
        fully_shard(network, mesh=mesh)
        return network, self.accelerator.prepare_optimizer(make(learning(network)))

    def prepare_whole(self, network: nn.Module, make: Callable[[list[nn.Parameter]], Any]) -> tuple[Any, Any]:
        """As :meth:`prepare`, never cut up."""
        if not self.sharded:
            return self.accelerator.prepare(network, make(learning(network)))
        optimizer = self.accelerator.prepare_optimizer(make(learning(network)))
        return nn.parallel.DistributedDataParallel(network, broadcast_buffers=False), optimizer

    def no_sync(self, network: Any) -> AbstractContextManager[Any]:
        """Gradients are added up, but not exchanged, in this context."""
        if hasattr(network, "set_requires_gradient_sync"):
            return _unsynchronised(network)
        return network.no_sync() if hasattr(network, "no_sync") else nullcontext()

    def clip(self, network: nn.Module, most: float) -> Tensor:
        """Clip the gradients of a network by their norm over all processes, and give that norm."""
        if not self.sharded:
            norm = self.accelerator.clip_grad_norm_(learning(network), most)
            assert norm is not None
            return norm
        norm = nn.utils.clip_grad_norm_(learning(network), most)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def whole(self, tree: Any) -> Any:
        """A state dict with every tensor gathered, on the main process; None elsewhere. All processes must call it."""
        main = self.accelerator.is_main_process
        if not self.sharded:
            return tree if main else None
        gathered = _map(tree, lambda x: x.full_tensor() if isinstance(x, DTensor) else x, keep=main)
        return gathered if main else None


def learning(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that get a gradient."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def local(x: Tensor) -> Tensor:
    """What lies on this process of a tensor: the same memory."""
    return x.to_local() if isinstance(x, DTensor) else x


def dealt(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, cut up, placed and laid out in memory as ``like`` is: fused optimizers and gathering need that.
    All processes must call it, with the same tensor."""
    if not isinstance(like, DTensor):
        return torch.empty_like(like, dtype=whole.dtype).copy_(whole)
    return distribute_tensor(whole.to(like.device).contiguous(), like.device_mesh, like.placements)


def load_optimizer(optimizer: Any, saved: dict[str, Any]) -> None:
    """Load a state dict of whole tensors. Raises what torch raises where it does not fit."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = {
        index: {
            key: dealt(x, parameters[index]) if isinstance(x, Tensor) and x.shape == parameters[index].shape else x
            for key, x in state.items()
        }
        for index, state in saved["state"].items()
    }
    optimizer.load_state_dict({**saved, "state": states})


@contextmanager
def _unsynchronised(network: Any) -> Iterator[None]:
    network.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        network.set_requires_gradient_sync(True)


def _map(tree: Any, change: Callable[[Any], Any], *, keep: bool) -> Any:
    """A nested dict or list with its tensors changed and moved to the CPU; they are dropped at once unless kept."""
    if isinstance(tree, dict):
        return {key: _map(value, change, keep=keep) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_map(value, change, keep=keep) for value in tree)
    if isinstance(tree, Tensor):
        changed = change(tree)
        return changed.cpu() if keep else None
    return tree
