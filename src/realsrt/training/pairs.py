"""The training pairs of a run, photographs degraded on the fly and recorded pairs, and the pool that they fill."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsrt.degradations import degrade_seeded, protocol
from realsrt.io.suffixes import PassedOver
from realsrt.training.config import TrainConfig, pair_source
from realsrt.training.data import ImageSet, seeded
from realsrt.training.pair_pool import PairPool, Pairs
from realsrt.training.recorded import RecordedPairs
from realsrt.training.teacher import Teacher


def build_pool(
    config: TrainConfig,
    *,
    scale: int,
    device: torch.device,
    processes: int = 1,
    index: int = 0,
    say: Callable[[str], object] = print,
) -> PairPool:
    """The pool of process ``index`` of ``processes``: it decodes the photographs and recorded pairs of its own lanes
    only.

    Raises UsageError for useless data or settings, CheckpointError for a useless teacher.
    """
    share = config.batch * config.accumulate
    lanes, own = share * processes, range(share * index, share * (index + 1))
    maker = PairMaker(config, scale=scale, device=device, lanes=lanes, own=own)
    pool = PairPool(
        maker,
        size=config.pool,
        refresh=config.refresh,
        seed=config.seed,
        scale=scale,
        tile=config.tile,
        lanes=lanes,
        own=own,
        device=device,
        teacher=maker.teaches,
    )
    if maker.passed:
        say(str(maker.passed))
    for line in maker.summary():
        say(f"{line}, on {device}")
    if pool.size != config.pool:
        say(f"a pool of {pool.size} pairs instead of {config.pool}: a multiple of the global batch, {lanes}")
    return pool


class PairMaker:
    """``make(numbers)`` gives new pairs; each is a pure function of the config, the lanes and its number.

    A number's source is drawn by weight: the photographs, or one of the sources of recorded pairs.
    """

    def __init__(self, config: TrainConfig, *, scale: int, device: torch.device, lanes: int, own: range) -> None:
        protocol(config.degradation)  # raises UsageError for an unknown one
        self.config, self.scale = config, scale
        named = [pair_source(text) for text in config.pairs]
        self.images, self.passed = None, PassedOver()
        mine: Any = {"device": device, "lanes": lanes, "own": own, "passed": self.passed}
        if config.data or not named:
            self.images = ImageSet(config.data, min_side=config.tile, seed=config.seed, **mine)
        self.recorded = [RecordedPairs(path, scale=scale, tile=config.tile, **mine) for path, _ in named]
        weights = [config.data_weight if self.images else 0.0, *(weight for _, weight in named)]
        self._cumulative = np.cumsum(weights) / sum(weights)
        self._names = [path for path, _ in named]
        self.teacher = Teacher(config.teacher, scale=scale, device=device) if config.teacher else None
        self.teaches = self.teacher is not None or any(source.taught for source in self.recorded)

    def summary(self) -> list[str]:
        """What the pairs come from, a line a source."""
        lines, shares = [], np.diff(self._cumulative, prepend=0)
        if self.images is not None:
            held, count = len(self.images.images), self.images.count
            lines.append(f"{count} photograph(s), {self.images.megapixels:.1f} MP")
            lines[0] += f", {held} of them here" if held < count else ""
            lines[0] += f", {shares[0]:.0%} of the pairs" if self.recorded else ""
        for path, source, share in zip(self._names, self.recorded, shares[1:], strict=True):
            taught = f"{source.taught} with a teacher's image"
            lines.append(f"{source.count} recorded pair(s) of {path.name}, {taught}, {share:.0%} of the pairs")
        return lines

    def source(self, number: int) -> int:
        """Where a pair comes from: 0 the photographs, 1 the first of the recorded sources, and so on."""
        if not self.recorded:
            return 0
        pick = float(torch.rand(1, generator=seeded(self.config.seed, 8, number), dtype=torch.float64))
        return int(np.searchsorted(self._cumulative, pick, "right"))

    @torch.no_grad()
    def __call__(self, numbers: Sequence[int]) -> Pairs:
        """Pairs by their numbers; degraded, and shown to the teacher, in one go."""
        config, tiles = self.config, {}
        fresh = [number for number in numbers if self.source(number) == 0]
        if fresh and self.images is not None:
            lq_nCHW, gt_nCHW = degraded_tiles(
                self.images, fresh, config.tile, config.degradation, config.seed, self.scale
            )
            tiles = {n: {"lq": lq, "gt": gt} for n, lq, gt in zip(fresh, lq_nCHW, gt_nCHW, strict=True)}
        for number in numbers:
            if source := self.source(number):
                tiles[number] = self.recorded[source - 1].tiles(number, seeded(config.seed, 9, number))
        untaught = [number for number in numbers if "teacher" not in tiles[number]]
        if self.teacher is not None and untaught:
            taught_nCHW = self.teacher(torch.stack([tiles[number]["lq"] for number in untaught]))
            for number, teacher in zip(untaught, taught_nCHW, strict=True):
                tiles[number]["teacher"] = teacher
        made = [tiles[number] for number in numbers]
        lq, gt = (torch.stack([tile[role] for tile in made]) for role in ("lq", "gt"))
        if not self.teaches:
            return Pairs(lq, gt)
        teacher = torch.stack([tile.get("teacher", tile["gt"]) for tile in made])
        return Pairs(lq, gt, teacher, ["teacher" in tile for tile in made])


@torch.no_grad()
def degraded_tiles(
    images: ImageSet, numbers: Sequence[int], tile: int, degradation: str, seed: int, scale: int
) -> tuple[Tensor, Tensor]:
    """Crops of photographs by number, degraded: (n,3,tile/s,tile/s) and (n,3,tile,tile), uint8."""
    gt_nCHW = images.crops(numbers, tile)
    seeds = [int(torch.randint(2**62, (1,), generator=seeded(seed, 5, number))) for number in numbers]
    lq_nCHW = degrade_seeded(gt_nCHW.float() / 255, seeds, protocol(degradation), scale)
    return (lq_nCHW * 255).round().to(torch.uint8), gt_nCHW
