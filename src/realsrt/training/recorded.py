"""Recorded pairs from folders and tars: a low-quality image, its target and, where there is one, a teacher's image.

A pair is ``NAME.lq.png`` and ``NAME.gt.webp``, with or without ``NAME.teacher.webp``; or files of one name in folders
called ``lq``, ``gt`` and ``teacher``. Any image format. Shapes: C channels, H W pixels, s the scale.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from realsrt.errors import UsageError
from realsrt.io.suffixes import PassedOver
from realsrt.training.data import LEAST_DETAIL, detail, detail_map
from realsrt.training.sources import Entry, entries

ROLES = ("lq", "gt", "teacher")


@dataclass(frozen=True)
class RecordedPair:
    """The files of one pair, and the size (H, W) of its low-quality image."""

    name: str
    files: Mapping[str, Entry]
    size: tuple[int, int]

    def decode(self, scale: int) -> dict[str, np.ndarray]:
        """The pixels by role, (3,H,W) and (3,sH,sW) uint8. Raises UsageError."""
        height, width = self.size
        pixels = {role: entry.decode() for role, entry in self.files.items()}
        return {
            role: x if role == "lq" else np.ascontiguousarray(x[:, : scale * height, : scale * width])
            for role, x in pixels.items()
        }


def find_pairs(source: Path, *, scale: int, tile: int, passed: PassedOver | None = None) -> list[RecordedPair]:
    """The pairs of a folder, a tar or a pattern of them, in the order of their names; headers only are read.
    ``passed`` as for :func:`~realsrt.training.sources.entries`.

    Raises UsageError, which names the pair: a half is missing or there twice, an image can't be opened, sizes don't
    fit, or the target is smaller than a tile.
    """
    found: dict[str, dict[str, Entry]] = {}
    for entry in entries([source], passed):
        if (known := _name_and_role(entry.name)) is None:
            continue
        name, role = known
        files = found.setdefault(name, {})
        if role in files:
            raise UsageError(f"recorded pair {name} has two {role} images, {files[role].name} and {entry.name}")
        files[role] = entry
    if not found:
        raise UsageError(f"no recorded pairs in {source}: name them NAME.lq.png, NAME.gt.png, NAME.teacher.png")
    return [_checked(name, found[name], scale, tile) for name in sorted(found)]


def _name_and_role(path: str) -> tuple[str, str] | None:
    """``a/0001.lq.png`` and ``a/lq/0001.png`` are both the "lq" of ``a/0001``; other images are no part of a pair."""
    roles = "|".join(ROLES)
    if match := re.fullmatch(rf"(.+)\.({roles})\.[^./]+", path):
        return match[1], match[2]
    if match := re.fullmatch(rf"(.*[/:])?({roles})/([^/]+)\.[^./]+", path):
        return f"{match[1] or ''}{match[3]}", match[2]
    return None


def _checked(name: str, files: dict[str, Entry], scale: int, tile: int) -> RecordedPair:
    for role in ("lq", "gt"):
        if role not in files:
            raise UsageError(f"recorded pair {name} has no {role} image beside {next(iter(files.values())).name}")
    sizes = {role: (header.height, header.width) for role, entry in files.items() for header in [entry.open()]}
    lq, gt, teacher = sizes["lq"], sizes["gt"], sizes.get("teacher")
    full = (scale * lq[0], scale * lq[1])
    if not all(0 <= have - need < scale for have, need in zip(gt, full, strict=True)):
        raise UsageError(
            f"recorded pair {name}: gt is {_shown(gt)} and lq {_shown(lq)}, which asks for a gt of {_shown(full)} "
            f"(or up to {scale - 1} rows and columns more, which are left out)"
        )
    if teacher not in (None, gt, full):
        raise UsageError(f"recorded pair {name}: the teacher image is {_shown(teacher)}, and gt {_shown(gt)}")
    if min(full) < tile:
        raise UsageError(f"recorded pair {name}: gt is {_shown(gt)}, smaller than a tile; give --tile {min(full)}")
    return RecordedPair(name, files, lq)


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


class RecordedPairs:
    """Recorded pairs in memory: what ``tiles`` gives is a pure function of its random numbers, lanes and number.

    As with :class:`~realsrt.training.data.ImageSet`, pairs are dealt to lanes in turn, and a process decodes only what
    its own lanes need.
    """

    def __init__(
        self,
        source: Path,
        *,
        scale: int,
        tile: int,
        device: torch.device | str = "cpu",
        lanes: int = 1,
        own: Sequence[int] | None = None,
        passed: PassedOver | None = None,
    ) -> None:
        """Raises UsageError for pairs that are of no use (see :func:`find_pairs`) or can't be decoded."""
        found = find_pairs(source, scale=scale, tile=tile, passed=passed)
        self.scale, self.tile, self.lanes = scale, tile, lanes
        self.count, self.hands = len(found), min(lanes, len(found))
        self.taught = sum("teacher" in pair.files for pair in found)
        held = {lane % self.hands for lane in (range(lanes) if own is None else own)}
        areas = np.array([pair.size[0] * pair.size[1] for pair in found], np.float64)
        self._cumulative = [areas[hand :: self.hands].cumsum() for hand in range(self.hands)]
        self._images: dict[int, dict[str, Tensor]] = {}
        self._detail: dict[int, np.ndarray] = {}
        wanted = [index for index in range(self.count) if index % self.hands in held]
        for index, pixels in zip(wanted, _decoded([found[index] for index in wanted], scale), strict=True):
            self._detail[index] = detail_map(pixels["gt"])
            self._images[index] = {role: torch.from_numpy(x).to(device) for role, x in pixels.items()}

    def tiles(self, number: int, rng: torch.Generator) -> dict[str, Tensor]:
        """A tile of a random pair of the number's lane: "lq" (3,tile/s,tile/s), "gt" and perhaps "teacher"
        (3,tile,tile), uint8, all of the same place.

        Pairs are drawn by area. A tile with next to no detail is drawn again, up to four times.
        """
        hand, side = number % self.lanes % self.hands, self.tile // self.scale
        cumulative = self._cumulative[hand]
        for _ in range(4):
            pick = float(torch.rand(1, generator=rng, dtype=torch.float64)) * cumulative[-1]
            index = hand + self.hands * min(int(np.searchsorted(cumulative, pick, "right")), len(cumulative) - 1)
            images = self._images[index]
            top, left = (
                int(torch.randint(length - side + 1, (1,), generator=rng)) for length in images["lq"].shape[1:]
            )
            if detail(self._detail[index], top * self.scale, left * self.scale, self.tile) > LEAST_DETAIL:
                break
        small, large = (
            (slice(None), slice(top * s, (top + side) * s), slice(left * s, (left + side) * s)) for s in (1, self.scale)
        )
        return {role: image[small if role == "lq" else large] for role, image in images.items()}


def _decoded(pairs: Sequence[RecordedPair], scale: int) -> Iterator[dict[str, np.ndarray]]:
    """In order, some at a time: decoders release the interpreter."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="decode") as executor:
        yield from executor.map(lambda pair: pair.decode(scale), pairs)
