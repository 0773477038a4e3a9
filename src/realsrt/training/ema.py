"""Exponential moving average of a model's weights."""

import torch
from torch import Tensor, nn

from realsrt.training.parallel import laid_out


class EMA:
    """A shadow of a state dict: parameters that learn are averaged, buffers followed exactly, frozen ones kept.

    The decay grows from 0.1 to ``decay`` with the number of updates, so that short runs are not held at their start.
    """

    def __init__(self, model: nn.Module, decay: float, shadow: dict[str, Tensor] | None = None) -> None:
        self.decay = decay
        self.learning = {name for name, p in model.named_parameters() if p.requires_grad}
        own = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.buffers = own.keys() - {name for name, _ in model.named_parameters()}
        known = shadow or {}  # of a buffer that came later it knows nothing
        self.shadow = {k: laid_out(known[k], v) if k in known else v for k, v in own.items()}
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
        torch._foreach_lerp_(self._own(learning), [state[key] for key in learning], weight)  # pyright: ignore
        followed = [key for key in state if key in self.buffers]
        if followed:
            torch._foreach_copy_(self._own(followed), [state[key] for key in followed])  # pyright: ignore

    def _own(self, keys: list[str]) -> list[Tensor]:
        return [self.shadow[key] for key in keys]
