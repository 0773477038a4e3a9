"""The training pairs of a run: photographs, the degradation, and the pool that they fill."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from realsrt.degradations import PROTOCOLS, degrade_seeded
from realsrt.errors import UsageError
from realsrt.training.config import TrainConfig
from realsrt.training.data import Pictures, seeded
from realsrt.training.pair_pool import PairPool


def build_pool(
    config: TrainConfig,
    *,
    scale: int,
    device: torch.device,
    processes: int = 1,
    index: int = 0,
    say: Callable[[str], object] = print,
) -> PairPool:
    """The pool of process ``index`` of ``processes``: it decodes the photographs of its own lanes only.

    Raises UsageError for useless data or settings.
    """
    if config.degradation not in PROTOCOLS:
        raise UsageError(f"no degradation is named {config.degradation!r}; there are {', '.join(PROTOCOLS)}")
    share = config.batch * config.accumulate
    lanes, own = share * processes, range(share * index, share * (index + 1))
    pictures = Pictures(config.data, min_side=config.tile, seed=config.seed, device=device, lanes=lanes, own=own)
    protocol = PROTOCOLS[config.degradation]

    @torch.no_grad()
    def make_pairs(numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        gt_nCHW = pictures.crops(numbers, config.tile)
        seeds = [int(torch.randint(2**62, (1,), generator=seeded(config.seed, 5, number))) for number in numbers]
        lq_nCHW = degrade_seeded(gt_nCHW.float() / 255, seeds, protocol, scale)
        return (lq_nCHW * 255).round().to(torch.uint8), gt_nCHW

    pool = PairPool(
        make_pairs,
        size=config.pool,
        refresh=config.refresh,
        seed=config.seed,
        scale=scale,
        tile=config.tile,
        lanes=lanes,
        own=own,
        device=device,
    )
    held = f", {len(pictures.pictures)} of them here" if len(pictures.pictures) < pictures.count else ""
    say(f"{pictures.count} photograph(s), {pictures.megapixels:.1f} MP{held}, on {device}")
    if pool.size != config.pool:
        say(f"a pool of {pool.size} pairs instead of {config.pool}: a multiple of the global batch, {lanes}")
    return pool
