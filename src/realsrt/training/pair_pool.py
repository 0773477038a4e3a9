"""A pool of (low-quality, target) pairs, so that a batch mixes degradations and an expensive degradation serves
several crops (the idea of Real-ESRGAN's training pair pool, made a pure function of the step).

Shapes: B this process's share of the batch, S slots of its store, H W target pixels. A *lane* is a place in the
global batch.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from realsrt.nn.device import to_device
from realsrt.training.data import derive_words

_AHEAD = 4
"""For how many steps to come pairs are made in the background."""
_CHUNK = 64
"""At most so many pairs are degraded in one go."""


class Pairs(NamedTuple):
    """``lq`` (n,3,tile/s,tile/s), ``gt`` and, for a pool that keeps them, ``teacher`` (n,3,tile,tile), uint8. For a
    pair without a teacher's image ``has_teacher`` is False, and ``teacher`` its target."""

    lq: Tensor
    gt: Tensor
    teacher: Tensor | None = None
    has_teacher: Sequence[bool] = ()


MakePairs = Callable[[Sequence[int]], Pairs]


class Batch(NamedTuple):
    """``lq`` (B,3,H/s,W/s) and ``gt`` (B,3,H,W), RGB in [0,1]; one seed a sample for what a stage draws.

    ``teacher`` (B,3,H,W): a teacher's image of ``lq`` where ``has_teacher`` (B, bool) is True, elsewhere ``gt``.
    ``whole``: the seeds of all samples that this process learns from in the step, of which these are a part.
    """

    lq: Tensor
    gt: Tensor
    seeds: tuple[int, ...]
    teacher: Tensor
    has_teacher: Tensor
    whole: tuple[int, ...] = ()

    def split(self, parts: int) -> "list[Batch]":
        """In so many equal parts, in order."""
        lq, gt, teacher, has = (x.chunk(parts) for x in (self.lq, self.gt, self.teacher, self.has_teacher))
        size = len(self.seeds) // parts
        seeds = [self.seeds[first : first + size] for first in range(0, len(self.seeds), size)]
        return [Batch(*part, self.seeds) for part in zip(lq, gt, seeds, teacher, has, strict=True)]


class PairPool:
    """At step s the pool holds pairs s·refresh … s·refresh+size−1 of an endless numbered sequence.

    Pair n belongs to lane n mod ``lanes``, and each sample of the global batch draws from its own lane's pairs. So a
    process makes the pairs of its own lanes only, and the batch is the same for any number of processes. ``size`` is
    rounded up to a multiple of ``lanes``.

    Each pair that ``make_pairs(numbers)`` gives must depend on its number alone. Nothing has to be saved to resume: the
    pool of a step can be made from the step's number.

    On the CPU pairs are made one at a time in a background thread, a little ahead. On a GPU they are made here, for
    all own lanes in one go whenever a first of them is needed: this only queues work on the device, in order with the
    training steps, and needs neither a thread (which would contend for the interpreter) nor a stream of its own.
    """

    def __init__(
        self,
        make_pairs: MakePairs,
        *,
        size: int,
        refresh: int,
        seed: int,
        scale: int,
        tile: int,
        lanes: int,
        own: range | None = None,
        device: torch.device | str = "cpu",
        background: bool | None = None,
        teacher: bool = False,
    ) -> None:
        """``own``: the lanes of this process, by default all; ``background``: by default on the CPU only; ``teacher``:
        whether there is room for a teacher's images, which ``make_pairs`` then gives."""
        self.make_pairs, self.refresh, self.seed, self.scale, self.tile = make_pairs, refresh, seed, scale, tile
        self.lanes, self.own, self.device = lanes, own or range(lanes), torch.device(device)
        self.depth = -(-size // lanes)  # pairs a lane
        self.size = self.depth * lanes
        self.background = self.device.type == "cpu" if background is None else background
        self.ahead = _AHEAD * refresh if self.background else 0
        self.rounds = -(-(self.size + self.ahead) // lanes) + 1  # a round: one pair for each lane
        slots = self.rounds * len(self.own)
        self.lq_SCHW = torch.zeros(slots, 3, tile // scale, tile // scale, dtype=torch.uint8, device=self.device)
        self.gt_SCHW = torch.zeros(slots, 3, tile, tile, dtype=torch.uint8, device=self.device)
        self.teacher_SCHW = torch.zeros_like(self.gt_SCHW) if teacher else None
        self.has_teacher_S = torch.zeros(slots, dtype=torch.bool, device=self.device)
        self.pairs: dict[int, Future[None] | None] = {}
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pairs")

    def slot(self, number: int) -> int:
        """Where a pair of an own lane is kept."""
        round, lane = divmod(number, self.lanes)
        return round % self.rounds * len(self.own) + lane - self.own.start

    def _make(self, numbers: Sequence[int]) -> None:
        made = self.make_pairs(numbers)
        first, count = self.slot(numbers[0]), len(numbers)
        if [self.slot(number) for number in numbers] != list(range(first, first + count)):
            raise ValueError(f"pairs {numbers} do not lie side by side")
        slots = slice(first, first + count)
        self.lq_SCHW[slots] = made.lq
        self.gt_SCHW[slots] = made.gt
        if self.teacher_SCHW is not None and made.teacher is not None:
            self.teacher_SCHW[slots] = made.teacher
            self.has_teacher_S[slots] = to_device(torch.tensor(made.has_teacher), self.device)

    def _advance(self, step: int) -> None:
        first, end = step * self.refresh, step * self.refresh + self.size + self.ahead
        rounds = range(first // self.lanes, -(-end // self.lanes))
        for number in [n for n in self.pairs if not first <= n < rounds.stop * self.lanes]:
            if (future := self.pairs.pop(number)) is not None:
                future.cancel()
        for round in rounds:
            own = [round * self.lanes + lane for lane in self.own]
            if self.background:
                for number in (n for n in own if first <= n < end and n not in self.pairs):
                    self.pairs[number] = self.executor.submit(self._make, [number])
            elif missing := [n for n in own if n >= first and n not in self.pairs]:
                for start in range(0, len(missing), _CHUNK):
                    self._make(missing[start : start + _CHUNK])
                self.pairs |= dict.fromkeys(missing)

    def draw(self, step: int, crop: int) -> np.ndarray:
        """Where each own sample comes from, (B, 4): number of the pair, top and left in low-quality pixels, turn."""
        words = derive_words(4 * self.lanes, self.seed, 2, step).reshape(self.lanes, 4)[self.own.start : self.own.stop]
        room = (self.tile - crop) // (2 * self.scale) + 1
        pick, top, left, turn = (words % np.array([self.depth, room, room, 8], np.uint64)).astype(np.int64).T
        first = step * self.refresh
        nearest = first + (np.array(self.own) - first) % self.lanes  # the lane's first pair in the pool
        return np.stack([nearest + pick * self.lanes, 2 * top, 2 * left, turn], 1)

    def batch(self, step: int, crop: int) -> Batch:
        """This process's samples of the step's global batch, target crops of ``crop`` px."""
        self._advance(step)
        drawn = self.draw(step, crop)
        for number in drawn[:, 0].tolist():
            if (future := self.pairs[number]) is not None:
                future.result()
        place_B4 = drawn.copy()
        place_B4[:, 0] = [self.slot(number) for number in drawn[:, 0].tolist()]
        place_B4 = to_device(torch.from_numpy(place_B4), self.device)
        lq = gather_crops(self.lq_SCHW, place_B4, crop // self.scale)
        has_teacher = self.has_teacher_S[place_B4[:, 0]]
        place_B4 = place_B4 * to_device(torch.tensor([1, self.scale, self.scale, 1]), self.device)
        gt = gather_crops(self.gt_SCHW, place_B4, crop).float() / 255
        teacher = gt
        if self.teacher_SCHW is not None:
            teacher = gather_crops(self.teacher_SCHW, place_B4, crop).float() / 255
        seeds = derive_words(self.lanes, self.seed, 3, step)[self.own.start : self.own.stop] >> np.uint64(1)
        return Batch(lq.float() / 255, gt, tuple(seeds.tolist()), teacher, has_teacher)

    def held(self, step: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All own pairs that the pool holds at a step, whole, in the order of their numbers, ``count`` at a time:
        (B,3,tile/s,tile/s) and (B,3,tile,tile), in [0,1]. All processes hold equally many."""
        self._advance(step)
        first = step * self.refresh
        numbers = [number for number in range(first, first + self.size) if number % self.lanes in self.own]
        for start in range(0, len(numbers), count):
            some = numbers[start : start + count]
            for number in some:
                if (future := self.pairs[number]) is not None:
                    future.result()
            slots = [self.slot(number) for number in some]
            yield self.lq_SCHW[slots].float() / 255, self.gt_SCHW[slots].float() / 255

    def close(self) -> None:
        """Stop making pairs."""
        self.executor.shutdown(wait=True, cancel_futures=True)


def gather_crops(image_SCHW: Tensor, place_B4: Tensor, side: int) -> Tensor:
    """Square crops (B, C, side, side) of a store, each from its (slot, top, left, turn), turned as by ``orient``."""
    slot_B11, top_B11, left_B11, turn_B11 = place_B4.T[:, :, None, None]
    ahead_S = torch.arange(side, device=image_SCHW.device)
    row_B1S = torch.where(turn_B11 & 2 != 0, side - 1 - ahead_S[:, None], ahead_S[:, None])
    column_BS1 = torch.where(turn_B11 & 1 != 0, side - 1 - ahead_S, ahead_S)
    swap_B11 = turn_B11 & 4 != 0
    down_BHW = top_B11 + torch.where(swap_B11, column_BS1, row_B1S)
    across_BHW = left_B11 + torch.where(swap_B11, row_B1S, column_BS1)
    channel_C11 = torch.arange(image_SCHW.shape[1], device=image_SCHW.device)[:, None, None]
    return image_SCHW[slot_B11[:, None], channel_C11, down_BHW[:, None], across_BHW[:, None]]
