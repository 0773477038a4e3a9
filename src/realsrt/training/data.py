"""Photographs, decoded once and kept as uint8 on the training device; crops drawn by number.

Shapes: H W pixels of the target.
"""

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyvips
import torch
from torch import Tensor

from realsrt.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


def derive_seed(*parts: int) -> int:
    """One 63-bit seed from several whole numbers; distinct inputs of one length give independent ones."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def seeded(*parts: int) -> torch.Generator:
    """A CPU generator seeded with :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*parts))


class Pictures:
    """A set of RGB photographs in memory: ``crop(number, size)`` is a pure function of seed and number."""

    def __init__(
        self, sources: Iterable[Path], *, min_side: int, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        """Read folders, WebDataset-format tars and single files, in name order; smaller pictures are left out.

        Raises UsageError if a source is missing or nothing usable is found.
        """
        sources = [Path(source) for source in sources]
        if not sources:
            raise UsageError("no training data: name folders, tars or pictures with --data")
        self.seed = seed
        self.pictures: list[Tensor] = []
        for name, content in _contents(sources):
            picture = _decode(name, content)
            if min(picture.shape[1:]) >= min_side:
                self.pictures.append(picture.to(device))
        if not self.pictures:
            raise UsageError(f"no photograph with sides of at least {min_side} px in {', '.join(map(str, sources))}")
        areas = torch.tensor([p.shape[1] * p.shape[2] for p in self.pictures], dtype=torch.float64)
        self.cumulative = areas.cumsum(0) / areas.sum()

    @property
    def megapixels(self) -> float:
        return sum(p.shape[1] * p.shape[2] for p in self.pictures) / 1e6

    def crop(self, number: int, size: int) -> Tensor:
        """Crop ``number``: (3, size, size) uint8, at a random place, flipped and turned at random.

        Pictures are drawn by area. A crop with next to no detail is drawn again, up to four times.
        """
        rng = seeded(self.seed, 1, number)
        for _ in range(4):
            pick = torch.rand(1, generator=rng, dtype=torch.float64)
            picture = self.pictures[min(int(torch.searchsorted(self.cumulative, pick)), len(self.pictures) - 1)]
            top = int(torch.randint(picture.shape[1] - size + 1, (1,), generator=rng))
            left = int(torch.randint(picture.shape[2] - size + 1, (1,), generator=rng))
            crop = picture[:, top : top + size, left : left + size]
            if _has_detail(crop):
                break
        turn = int(torch.randint(8, (1,), generator=rng))
        return orient(crop, turn).contiguous()


def orient(image_CHW: Tensor, turn: int) -> Tensor:
    """One of the eight flips and quarter turns of a square picture (last two axes), by number 0…7."""
    if turn & 4:
        image_CHW = image_CHW.transpose(-1, -2)
    dims = [d for bit, d in ((1, -1), (2, -2)) if turn & bit]
    return image_CHW.flip(dims) if dims else image_CHW


def _has_detail(crop_CHW: Tensor, threshold: float = 2.0) -> bool:
    """Whether the mean absolute step between neighbours (in grey levels) is not tiny."""
    luma = crop_CHW[1, ::2, ::2].float()
    return float((luma[1:] - luma[:-1]).abs().mean() + (luma[:, 1:] - luma[:, :-1]).abs().mean()) > threshold


def _contents(sources: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    for source in sources:
        if not source.exists():
            raise UsageError(f"no such training data: {source}")
        try:
            yield from _files(source)
        except (OSError, tarfile.TarError) as error:
            raise UsageError(f"training data {source} can't be read ({str(error).splitlines()[0]})") from None


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
            yield str(path), path.read_bytes()
    elif source.suffix == ".tar":
        with tarfile.open(source) as tar:
            members = sorted((m for m in tar if m.isfile()), key=lambda m: m.name)
            for member in members:
                if Path(member.name).suffix.lower() in SUFFIXES and (file := tar.extractfile(member)):
                    yield f"{source}:{member.name}", file.read()
    else:
        yield str(source), source.read_bytes()


def _decode(name: str, content: bytes) -> Tensor:
    try:
        image = pyvips.Image.new_from_buffer(content, "", fail_on="truncated")
        image = image.colourspace("srgb")
        if image.hasalpha():
            image = image.flatten()
        array = image.cast("uchar").numpy()
    except pyvips.Error as error:
        raise UsageError(
            f"{name} can't be decoded ({str(error).splitlines()[0]}); remove it from the training data"
        ) from None
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
