"""Photographs, decoded once and kept as uint8 on the training device; crops drawn by number.

Shapes: n crops, H W pixels of the target. A *lane* is a place in the global batch (of all processes).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from realsrt.errors import UsageError
from realsrt.io.suffixes import PassedOver
from realsrt.training.sources import entries

_BLOCK = 16
"""Side, in pixels, of the blocks of the detail map."""
LEAST_DETAIL = 2.0
"""A crop with less, in grey levels, is drawn again."""


def derive_seed(*parts: int) -> int:
    """One 63-bit seed from several whole numbers; distinct inputs of one length give independent ones."""
    return int(derive_words(1, *parts)[0] >> 1)


def derive_words(count: int, *parts: int) -> np.ndarray:
    """``count`` random 64-bit words (uint64) that follow from several whole numbers."""
    return np.random.SeedSequence(parts).generate_state(count, np.uint64)


def seeded(*parts: int) -> torch.Generator:
    """A CPU generator seeded with :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*parts))


class ImageSet:
    """A set of RGB photographs in memory: ``crop(number, size)`` is a pure function of seed, lanes and number.

    Photographs are dealt to lanes in turn (to all lanes, where there are fewer photographs than lanes), and crop
    ``number`` comes from lane ``number mod lanes``. So a process decodes and keeps only what its own lanes need, and
    how many processes there are changes no crop.
    """

    def __init__(
        self,
        sources: Iterable[Path],
        *,
        min_side: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        lanes: int = 1,
        own: Sequence[int] | None = None,
        passed: PassedOver | None = None,
    ) -> None:
        """Read folders, tars and single files (:func:`entries`), in name order; smaller images are left out.

        ``own``: the lanes that crops will be asked for; by default all. Headers are read of all files, pixels only
        where needed; ``passed`` as for :func:`entries`. Raises UsageError if a source is missing or nothing usable is
        found.
        """
        sources = [Path(source) for source in sources]
        if not sources:
            raise UsageError("no training data: name folders, tars or images with --data")
        self.seed, self.lanes = seed, lanes
        usable = []
        passed = PassedOver() if passed is None else passed
        for entry in entries(sources, passed):
            header = entry.open()
            if min(header.width, header.height) >= min_side:
                usable.append((entry, header.width * header.height))
        if not usable:
            more = f"; {passed}" if passed else ""
            where = ", ".join(map(str, sources))
            raise UsageError(f"no photograph with sides of at least {min_side} px in {where}{more}")
        self.count = len(usable)
        self.megapixels = sum(area for _, area in usable) / 1e6
        self.hands = min(lanes, self.count)
        self.held = {index % self.hands for index in (range(lanes) if own is None else own)}
        self.images: list[Tensor] = []
        self._detail: list[np.ndarray] = []
        self._hand: dict[int, list[int]] = {hand: [] for hand in self.held}
        for index, (entry, _) in enumerate(usable):
            if index % self.hands in self.held:
                self._hand[index % self.hands].append(len(self.images))
                pixels_CHW = entry.decode()
                self._detail.append(detail_map(pixels_CHW))
                self.images.append(torch.from_numpy(pixels_CHW).to(device))
        areas = {
            hand: np.array([self.images[i][0].numel() for i in held], np.float64) for hand, held in self._hand.items()
        }
        self._cumulative = {hand: torch.from_numpy(area.cumsum() / area.sum()) for hand, area in areas.items()}

    def crop(self, number: int, size: int) -> Tensor:
        """Crop ``number``: (3, size, size) uint8, at a random place, flipped and turned at random.

        A lane's images are drawn by area. A crop with next to no detail is drawn again, up to four times. All of
        this is decided on the CPU: nothing waits for the device.
        """
        hand = number % self.lanes % self.hands
        held, cumulative = self._hand[hand], self._cumulative[hand]
        rng = seeded(self.seed, 1, number)
        for _ in range(4):
            pick = torch.rand(1, generator=rng, dtype=torch.float64)
            index = held[min(int(torch.searchsorted(cumulative, pick)), len(held) - 1)]
            image = self.images[index]
            top = int(torch.randint(image.shape[1] - size + 1, (1,), generator=rng))
            left = int(torch.randint(image.shape[2] - size + 1, (1,), generator=rng))
            if detail(self._detail[index], top, left, size) > LEAST_DETAIL:
                break
        turn = int(torch.randint(8, (1,), generator=rng))
        return orient(image[:, top : top + size, left : left + size], turn).contiguous()

    def crops(self, numbers: Sequence[int], size: int) -> Tensor:
        """Several crops, (n, 3, size, size) uint8."""
        return torch.stack([self.crop(number, size) for number in numbers])


def orient(image_CHW: Tensor, turn: int) -> Tensor:
    """One of the eight flips and quarter turns of a square image (last two axes), by number 0…7."""
    if turn & 4:
        image_CHW = image_CHW.transpose(-1, -2)
    dims = [d for bit, d in ((1, -1), (2, -2)) if turn & bit]
    return image_CHW.flip(dims) if dims else image_CHW


def detail_map(pixels_CHW: np.ndarray) -> np.ndarray:
    """Summed-area table (rows+1, columns+1) over blocks of 16 px of the mean absolute step between neighbours, down
    plus across, in 256ths of a grey level; from every second pixel of green."""
    green = pixels_CHW[1, ::2, ::2].astype(np.int16)
    step = np.zeros(green.shape, np.int64)
    step[1:] += np.abs(green[1:] - green[:-1])
    step[:, 1:] += np.abs(green[:, 1:] - green[:, :-1])
    side = _BLOCK // 2
    step = np.pad(step, [(0, -length % side) for length in step.shape], mode="edge")
    blocks = step.reshape(step.shape[0] // side, side, step.shape[1] // side, side).sum((1, 3))
    return np.pad((blocks * 256 // side**2).cumsum(0).cumsum(1), ((1, 0), (1, 0)))


def detail(table: np.ndarray, top: int, left: int, size: int) -> float:
    """The map's mean over the blocks that a crop touches, in grey levels."""
    up, down, west, east = top // _BLOCK, -(-(top + size) // _BLOCK), left // _BLOCK, -(-(left + size) // _BLOCK)
    total = int(table[down, east] - table[up, east] - table[down, west] + table[up, west])
    return total / (256 * (down - up) * (east - west))
