"""Taking windows up again: the tokens they have, which of them to generate anew, and how.

Shapes: B windows, h w token grid, N tokens of a window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from realsrt.sampling.noise import PlacedNoise


@dataclass(frozen=True)
class ResumeState:
    """`ids` (B,N) int64, `mask` (B,N) True = anew, each window's first token's row and column in the whole grid."""

    ids: Tensor
    mask: Tensor
    places: list[tuple[int, int]]
    grid: tuple[int, int]
    temperature: float
    top_k: int | None
    seed: tuple[int, ...]

    def some(self, cut: slice) -> ResumeState:
        """These windows of the batch."""
        return replace(self, ids=self.ids[cut], mask=self.mask[cut], places=self.places[cut])

    def options(self, device: torch.device) -> dict[str, Any]:
        """What `RealSRT.iterate` takes; the noise begins anew at every call."""
        noise = PlacedNoise(self.seed, self.places, self.grid)
        return {
            "ids_BN": self.ids.to(device), "mask_BN": self.mask.to(device),
            "temperature": self.temperature, "top_k": self.top_k, "noise": noise,
        }  # fmt: skip
