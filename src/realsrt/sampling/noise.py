"""Gumbel noise: adding it to logits and taking the largest draws from their distribution.

Shapes: B batch, h w token grid, N = h·w tokens, V codes.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Noise = Callable[[Sequence[int]], Tensor]
"""Gumbel noise of a shape, (B, N) or (B, N, V); other values at every call."""


def from_rng(rng: torch.Generator | None, device: torch.device) -> Noise:
    """Noise of a torch generator, on its device (without one: torch's own, on `device`)."""

    def draw(shape: Sequence[int]) -> Tensor:
        return _gumbel(torch.rand(*shape, generator=rng, device=rng.device if rng else device))

    return draw


class PlacedNoise:
    """Noise that belongs to places: where windows overlap they get the same values, and what a window gets depends on
    nothing but seed, place and the number of the call. So windows that agree on their logits draw the same tokens."""

    def __init__(self, seed: Sequence[int], places: Sequence[tuple[int, int]], grid_hw: tuple[int, int]) -> None:
        """`places`: row and column of each window's first token in the whole image's grid, from 0."""
        self._key = np.random.SeedSequence([number & (2**64 - 1) for number in seed]).generate_state(2, np.uint64)
        self._places, self._grid, self._calls = list(places), grid_hw, 0

    def __call__(self, shape: Sequence[int]) -> Tensor:
        height, width = self._grid
        each = int(np.prod(shape[1:])) // (height * width)  # numbers at a position
        blocks = -(-each // 4)  # the generator counts in blocks of four
        rows = np.empty((len(self._places), height, width, each), np.float32)
        for window, (y, x) in enumerate(self._places):
            for row in range(height):
                counter = np.array([x * blocks, y + row, self._calls, 0], np.uint64)
                random = np.random.Generator(np.random.Philox(key=self._key, counter=counter))
                rows[window, row] = random.random(width * blocks * 4).reshape(width, -1)[:, :each]
        self._calls += 1
        return _gumbel(torch.from_numpy(rows)).reshape(tuple(shape))


def _gumbel(uniform: Tensor) -> Tensor:
    return -(-uniform.clamp(1e-20, 1 - 1e-7).log()).log()
