"""Recording pairs with a teacher's image: tiles of photographs, degraded as in training, and what the teacher makes of
them, into a tar that ``realsrt train --pairs`` reads.

Shapes: C channels, H W pixels.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realsrt.batch.signals import stop_signals
from realsrt.degradations import protocol
from realsrt.errors import ImageError, UsageError
from realsrt.io.files import check_writable, file_sha256
from realsrt.io.formats import vips_image
from realsrt.io.suffixes import PassedOver
from realsrt.training.data import ImageSet
from realsrt.training.pair_tar import PairTar
from realsrt.training.pairs import degraded_tiles
from realsrt.training.recorded import ROLES
from realsrt.training.teacher import Teacher

_SCALE = 4
_GPU_BATCH = 64
_EVERY = 30.0
"""Seconds between two lines on how far it is."""


@dataclass(frozen=True)
class TeachConfig:
    """What to record. Pair ``number`` follows from these, the photographs and the number alone (on a GPU up to
    rounding); ``count`` only says how many there shall be."""

    data: tuple[Path, ...]
    out: Path
    teacher: Path
    count: int
    tile: int = 256
    degradation: str = "mixed"
    seed: int = 0
    quality: int | None = 95
    """WebP quality of target and teacher's image; None is lossless."""
    shard: tuple[int, int] = (0, 1)
    """Pairs i, i + n, i + 2n … for (i, n)."""

    def numbers(self) -> range:
        """The pairs of this shard."""
        return range(self.shard[0], self.count, self.shard[1])

    def file(self) -> Path:
        """``out``, and in the case of several shards with the shard's number: ``taught-0.tar``."""
        index, shards = self.shard
        if shards == 1:
            return self.out
        return self.out.with_name(f"{self.out.stem}-{index:0{len(str(shards - 1))}d}{self.out.suffix}")


def teach(config: TeachConfig, *, device: torch.device, say: Callable[[str], object] = print) -> Path:
    """Record the pairs that are missing in the tar, and give its path.

    Raises UsageError for settings or photographs of no use, CheckpointError for a teacher of no use, RealSRTError when
    the disk is full. After SIGINT or SIGTERM the current pairs are finished, and SystemExit is raised (130 or 143).
    """
    _check(config)
    teacher = Teacher(config.teacher, scale=_SCALE, device=device)
    passed = PassedOver()
    images = ImageSet(config.data, min_side=config.tile, seed=config.seed, device=device, passed=passed)
    file, numbers = config.file(), config.numbers()
    with PairTar(file, _settings(config, images)) as tar, stop_signals() as stopped:
        done = _done(tar, numbers)
        if passed:
            say(str(passed))
        say(f"{file}: {done} of {len(numbers)} pairs are there; {images.count} photographs, on {device}")
        batch = _GPU_BATCH if device.type == "cuda" else 1
        began, shown, first = time.monotonic(), time.monotonic(), done
        while done < len(numbers):
            if stopped:
                say(f"{file}: stopped after {done} of {len(numbers)} pairs; the same command goes on")
                raise SystemExit(128 + stopped[0])
            chosen = numbers[done : done + batch]
            tar.add(_record(config, images, teacher, chosen))
            done += len(chosen)
            now = time.monotonic()
            if now - shown > _EVERY:
                each, shown = (now - began) / (done - first), now
                left = each * (len(numbers) - done) / 60
                say(f"{done} of {len(numbers)} pairs, {each:.2f} s each, {left:.0f} min left")
    say(f"{file}: {done} pairs")
    return file


def _check(config: TeachConfig) -> None:
    protocol(config.degradation)
    if config.out.suffix != ".tar":
        raise UsageError(f"pairs are written into a .tar file, not {config.out}")
    try:
        check_writable(config.file())
    except ImageError as problem:
        raise UsageError(str(problem)) from None
    if config.tile % _SCALE or config.tile < 32:
        raise UsageError(f"--tile must be a multiple of {_SCALE} and at least 32, not {config.tile}")
    if config.count < 1:
        raise UsageError(f"--count must be more than zero, not {config.count}")
    if config.seed < 0:
        raise UsageError(f"--seed must not be negative, not {config.seed}")
    if config.quality is not None and not 1 <= config.quality <= 100:
        raise UsageError(f"--quality is from 1 to 100, not {config.quality}")


def _settings(config: TeachConfig, images: ImageSet) -> dict[str, Any]:
    """What the pairs of a tar have in common. The photographs are known by a part of their pixels."""
    digest = hashlib.sha256()
    for image in images.images:
        digest.update(str(tuple(image.shape)).encode())
        digest.update(image[:, ::16, ::16].contiguous().cpu().numpy().tobytes())
    return {
        "degradation": config.degradation,
        "photographs": digest.hexdigest(),
        "quality": config.quality or "lossless",
        "seed": config.seed,
        "shard": "/".join(map(str, config.shard)),
        "teacher": file_sha256(config.teacher),
        "tile": config.tile,
    }


def _names(number: int) -> dict[str, str]:
    return {role: f"{number:08d}.{role}.{'png' if role == 'lq' else 'webp'}" for role in ROLES}


def _done(tar: PairTar, numbers: range) -> int:
    """How many pairs the tar holds; fewer may be asked for than are there."""
    count = len(tar.names) // len(ROLES)
    known = range(numbers.start, numbers.start + count * numbers.step, numbers.step)
    if tar.names != [name for number in known for name in _names(number).values()]:
        raise UsageError(f"{tar.path} holds members that realsrt teach did not write; name another file")
    return min(count, len(numbers))


def _record(config: TeachConfig, images: ImageSet, teacher: Teacher, numbers: Sequence[int]) -> dict[str, bytes]:
    """The files of some pairs."""
    lq_nCHW, gt_nCHW = degraded_tiles(images, numbers, config.tile, config.degradation, config.seed, _SCALE)
    made = {"lq": lq_nCHW.cpu(), "gt": gt_nCHW.cpu(), "teacher": teacher(lq_nCHW).cpu()}
    return {
        name: _encoded(made[role][index], config.quality, png=role == "lq")
        for index, number in enumerate(numbers)
        for role, name in _names(number).items()
    }


def _encoded(image_CHW: Tensor, quality: int | None, *, png: bool) -> bytes:
    image = vips_image(image_CHW.permute(1, 2, 0).numpy())
    if png:
        return image.pngsave_buffer(compression=9)
    return image.webpsave_buffer(lossless=quality is None, Q=quality or 75, effort=4, smart_subsample=True)
