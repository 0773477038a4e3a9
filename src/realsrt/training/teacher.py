"""A published network as a teacher: its image of a degraded photograph is what a model can learn in place of the
photograph, being a function of the input alone.

Shapes: n images, C channels, H W pixels of the low-quality image.
"""

from pathlib import Path

import torch
from torch import Tensor

from realsrt.checkpoint.published import load_published
from realsrt.errors import UsageError

_CHUNK = 16
"""So many images go through the network at once on a GPU: 256-px targets of RRDBNet then take some 2 GB."""


class Teacher:
    """``teacher(lq)`` gives the network's images as 8-bit levels.

    On the CPU images go one by one, in float32, so that none depends on what is beside it; on a GPU in half precision,
    as the network's authors run it, and in batches.
    """

    def __init__(self, path: Path, *, scale: int = 4, device: torch.device | str = "cpu") -> None:
        """Raises CheckpointError for a file that is no network for x4, UsageError for a model of another scale."""
        if scale != 4:
            raise UsageError(f"the teacher {path} enlarges 4 times, and the model {scale} times")
        self.device = torch.device(device)
        self.on_gpu = self.device.type == "cuda"
        self.type = torch.float16 if self.on_gpu else torch.float32
        network = load_published(path).to(self.device, self.type)
        self.network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @torch.no_grad()
    def __call__(self, lq_nCHW: Tensor) -> Tensor:
        """(n,3,H,W) uint8 → (n,3,4H,4W) uint8."""
        return torch.cat([self._run(part) for part in lq_nCHW.split(_CHUNK if self.on_gpu else 1)])

    def _run(self, lq_nCHW: Tensor) -> Tensor:
        x_nCHW = (lq_nCHW.to(self.device).float() / 255).to(self.type, memory_format=torch.channels_last)
        return (self.network(x_nCHW).float().clamp(0, 1) * 255).round().to(torch.uint8).contiguous()
