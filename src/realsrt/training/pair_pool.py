"""A pool of (low-quality, target) pairs, so that a batch mixes degradations and an expensive degradation serves
several crops (the idea of Real-ESRGAN's training pair pool, made a pure function of the step).

Shapes: B batch, H W target pixels.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from realsrt.training.data import derive_seed, orient, seeded

Pair = tuple[Tensor, Tensor]


class Batch(NamedTuple):
    """``lq`` (B,3,H/s,W/s) and ``gt`` (B,3,H,W), RGB in [0,1]; one seed a sample for what a stage draws."""

    lq: Tensor
    gt: Tensor
    seeds: tuple[int, ...]


class PairPool:
    """At step s the pool holds pairs s·refresh … s·refresh+size−1 of an endless numbered sequence.

    ``make_pair(number)`` must depend on its number alone. Nothing has to be saved to resume: the pool of a step can
    be made from the step's number. Pairs of the next steps are made ahead in a background thread.
    """

    def __init__(
        self, make_pair: Callable[[int], Pair], *, size: int, refresh: int, seed: int, scale: int, ahead: int = 4
    ) -> None:
        self.make_pair, self.size, self.refresh = make_pair, size, refresh
        self.seed, self.scale, self.ahead = seed, scale, ahead
        self.pairs: dict[int, Future[Pair]] = {}
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pairs")

    def _pair(self, number: int) -> Pair:
        return self.pairs[number].result()

    def _advance(self, step: int) -> None:
        first = step * self.refresh
        for number in [n for n in self.pairs if n < first]:
            self.pairs.pop(number).cancel()
        for number in range(first, first + self.size + self.ahead * self.refresh):
            if number not in self.pairs:
                self.pairs[number] = self.executor.submit(self.make_pair, number)

    def batch(self, step: int, *, first: int, count: int, crop: int) -> Batch:
        """Samples ``first`` … ``first+count−1`` of the step's global batch, target crops of ``crop`` px."""
        self._advance(step)
        lqs, gts, seeds = [], [], []
        for index in range(first, first + count):
            rng = seeded(self.seed, 2, step, index)
            pick, turn = (int(torch.randint(n, (1,), generator=rng)) for n in (self.size, 8))
            lq, gt = self._pair(step * self.refresh + pick)
            room = (gt.shape[-1] - crop) // (2 * self.scale) + 1
            top, left = (2 * int(torch.randint(room, (1,), generator=rng)) for _ in range(2))
            side = crop // self.scale
            lqs.append(orient(lq[:, top : top + side, left : left + side], turn))
            s = self.scale
            gts.append(orient(gt[:, top * s : top * s + crop, left * s : left * s + crop], turn))
            seeds.append(derive_seed(self.seed, 3, step, index))
        return Batch(torch.stack(lqs).float() / 255, torch.stack(gts).float() / 255, tuple(seeds))

    def close(self) -> None:
        """Stop making pairs."""
        self.executor.shutdown(wait=True, cancel_futures=True)
