"""What a training run asks of its device."""

import torch
import torch.distributed as dist
from torch import nn

from realsrt.model import RealSRT
from realsrt.nn.device import keep_freed_memory


def prepare_device(device: torch.device) -> None:
    """On a GPU: TF32 for what is left in float32, and the fastest convolutions for the (fixed) shapes; on a CPU freed
    memory is kept."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    elif device.type == "cpu":
        keep_freed_memory()


def compile_parts(model: RealSRT, adversary: nn.Module | None = None, **options: object) -> list[nn.Module]:
    """Compile the heavy parts in place, for fixed shapes; parameters and state dicts keep their names."""
    parts: list[nn.Module | None] = [
        model.tokenizer.encoder,
        model.tokenizer.decoder,
        model.generator.backbone,
        model.critic.backbone,
        model.control,
        adversary,
        *(model.trunk.deep.body if model.trunk is not None and model.trunk.deep is not None else ()),  # all alike: one
    ]
    found = [part for part in parts if part is not None]
    for part in found:
        part.compile(dynamic=False, **options)
    return found


class Together:
    """What the processes agree on in each step, over the CPU, so that no GPU is waited for."""

    def __init__(self, processes: int) -> None:
        self.group = dist.new_group(backend="gloo") if processes > 1 else None

    def most(self, *values: float) -> list[float]:
        """Each value's maximum over all processes."""
        if self.group is None:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self.group)
        return shared.tolist()
