"""Exponential moving average of a model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """A shadow of a state dict: parameters that learn are averaged, buffers followed exactly, frozen ones kept.

    The decay grows from 0.1 to ``decay`` with the number of updates, so that short runs are not held at their start.
    """

    def __init__(self, model: nn.Module, decay: float, shadow: dict[str, Tensor] | None = None) -> None:
        self.decay = decay
        self.learning = {name for name, p in model.named_parameters() if p.requires_grad}
        own = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.buffers = own.keys() - {name for name, _ in model.named_parameters()}
        self.shadow = own if shadow is None else {k: shadow[k].to(v.device) for k, v in own.items()}
        self.shadow.setdefault("_updates", torch.zeros(()))
        if shadow is not None:
            self.shadow["_updates"] = shadow["_updates"].clone()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the shadow towards the model's present weights; on a GPU a few kernels, and no wait."""
        updates = float(self.shadow["_updates"].add_(1))  # kept on the CPU
        weight = 1 - min(self.decay, (1 + updates) / (10 + updates))
        state = model.state_dict()
        learning = [key for key in state if key in self.learning]
        torch._foreach_lerp_([self.shadow[key] for key in learning], [state[key] for key in learning], weight)  # pyright: ignore
        followed = [key for key in state if key in self.buffers]
        if followed:
            torch._foreach_copy_([self.shadow[key] for key in followed], [state[key] for key in followed])  # pyright: ignore

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model holds the averaged weights inside this context, its own again after it."""
        own = {k: v.detach().clone() for k, v in model.state_dict().items()}
        model.load_state_dict({k: v for k, v in self.shadow.items() if k != "_updates"})
        try:
            yield
        finally:
            model.load_state_dict(own)
