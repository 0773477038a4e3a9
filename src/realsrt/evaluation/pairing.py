"""Which result belongs to which target, what each measures, and what that says of a folder or of two.

Shape suffixes: B batch, C channels, H W pixels.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from realsrt.errors import ImageError, UsageError
from realsrt.evaluation.metrics import bootstrap_interval
from realsrt.evaluation.registry import Metric
from realsrt.io import image as imageio
from realsrt.io.suffixes import PassedOver, is_image

SEED = 0
"""Of the bootstrap intervals: the same values have the same interval."""
LEAST_PAIRS = 6
"""Of a verdict: the differences of five pairs have one sign by chance more than once in twenty."""


@dataclass(frozen=True)
class Matched:
    """Files that share a name: `groups` maps the name to a file a role; `alone` have no partner, by role."""

    groups: Mapping[str, Mapping[str, Path]]
    alone: Mapping[str, tuple[Path, ...]]


def match(
    roles: Mapping[str, Path], *, suffixes: Mapping[str, str] | None = None, recursive: bool = False,
    optional: Sequence[str] = (), tell: Callable[[str], None] | None = None,
) -> Matched:  # fmt: skip
    """Put the images of several folders together by name, whatever their order and extension.

    A name is the path below the role's folder without extension, and without the role's suffix ("_x4"); files of that
    role without the suffix have no partner. Roles may also all be single files, which then belong together. `optional`
    roles need not be there. `tell` is told, in one line, how many files are passed over as images or videos of kinds
    that are not read. Raises UsageError for two files of one name, and when nothing fits.
    """
    for role, path in roles.items():
        if not path.exists():
            raise UsageError(f"no such file or folder: {path} ({role})")
    if not any(path.is_dir() for path in roles.values()):
        return Matched({next(iter(roles.values())).stem: dict(roles)}, {})
    if files := [path for path in roles.values() if not path.is_dir()]:
        raise UsageError(f"{files[0]} is a file, but others are folders: give folders only, or files only")
    named, alone, passed = {}, {}, PassedOver()
    for role, folder in roles.items():
        named[role], alone[role] = _by_name(folder, (suffixes or {}).get(role, ""), recursive, passed)
    needed = [role for role in roles if role not in optional]
    common = set.intersection(*(set(named[role]) for role in needed))
    if not common:
        raise UsageError(_why_none(roles, {role: named[role].keys() for role in needed}, alone, passed))
    if tell and passed:
        tell(str(passed))
    groups = {name: {role: named[role][name] for role in roles if name in named[role]} for name in sorted(common)}
    for role in needed:
        alone[role] += [path for name, path in sorted(named[role].items()) if name not in common]
    return Matched(groups, {role: tuple(alone[role]) for role in needed if alone[role]})


def _why_none(
    roles: Mapping[str, Path], names: Mapping[str, Set[str]], odd: Mapping[str, Sequence[Path]], passed: PassedOver
) -> str:
    """Why no name is in all of the folders."""
    more = f"; {passed}" if passed else ""
    if empty := [role for role, own in names.items() if not own and not (odd[role] and len(names) > 1)]:
        return f"{roles[empty[0]]}: no images in this folder{more}"
    for first, second in combinations(names, 2):
        if not names[first] & names[second]:
            return (
                f"no image in {roles[first]} has the name of one in {roles[second]}: if results are named a_x4.png for "
                f"a.png, give --suffix _x4; folders inside are read with --recursive{more}"
            )
    return f"no name is that of an image in each of {', '.join(str(roles[role]) for role in names)}{more}"


def _by_name(folder: Path, suffix: str, recursive: bool, passed: PassedOver) -> tuple[dict[str, Path], list[Path]]:
    """Images by name, and those whose name lacks the suffix. Names starting with a dot are left alone."""
    named: dict[str, Path] = {}
    odd = []
    for path in sorted(_images(folder, recursive, passed)):
        if suffix and not path.stem.endswith(suffix):
            odd.append(path)
            continue
        stem = path.stem.removesuffix(suffix)
        name = (path.parent.relative_to(folder) / stem).as_posix() if stem else ""
        if name in named:
            raise UsageError(f"{named[name]} and {path} are both named '{name}': which is meant is not clear")
        named[name] = path
    return named, odd


def _images(folder: Path, recursive: bool, passed: PassedOver) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")] if recursive else []
        for path in (Path(parent, name) for name in files if not name.startswith(".")):
            if is_image(path):
                yield path
            else:
                passed.see(path)


def load(path: Path) -> Tensor:
    """An image file as (1,3,H,W) float32 in [0,1]; gray is repeated, alpha left out. Raises ImageError."""
    return torch.from_numpy(imageio.read(path).rgb_float().copy()).permute(2, 0, 1)[None].contiguous()


def crop_multiple(image_BCHW: Tensor, multiple: int) -> Tensor:
    """Without the rows at the bottom and the columns at the right that are beyond a multiple."""
    height, width = (side // multiple * multiple for side in image_BCHW.shape[2:])
    return image_BCHW[..., :height, :width]


def measure(
    metrics: Sequence[Metric], image_BCHW: Tensor, target_BCHW: Tensor | None, *, source: Path | str, border: int = 0
) -> dict[str, float]:
    """Every metric of one image (1,3,H,W), `border` pixels left out on every side of it and of its target.

    Raises ImageError, naming `source`, when sizes differ, nothing is left, or a metric cannot be computed.
    """
    height, width = image_BCHW.shape[2:]
    if target_BCHW is not None and target_BCHW.shape != image_BCHW.shape:
        other = f"{target_BCHW.shape[3]}x{target_BCHW.shape[2]}"
        raise ImageError(f"{source}: is {width}x{height} px, but its target is {other}")
    if min(height, width) <= 2 * border:
        raise ImageError(f"{source}: nothing is left of {width}x{height} px without a border of {border}")
    inner = (..., slice(border, height - border), slice(border, width - border))
    target_BCHW = None if target_BCHW is None else target_BCHW[inner]
    values = {}
    for metric in metrics:
        try:
            values[metric.name] = metric.measure(image_BCHW[inner], target_BCHW)
        except (ValueError, RuntimeError) as error:
            raise ImageError(f"{source}: {metric.name} cannot be measured: {error}") from error
    return values


@dataclass(frozen=True)
class Mean:
    """Mean of `count` images with its bootstrap 95 % interval; low and high are NaN where a value is not finite."""

    count: int
    mean: float
    low: float
    high: float


def mean(values: Sequence[float]) -> Mean:
    """Raises ValueError for no values."""
    average = sum(values) / len(values) if values else math.nan
    low, high = (math.nan, math.nan) if values and not math.isfinite(average) else bootstrap_interval(values, SEED)
    return Mean(len(values), average, low, high)


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same images. `difference` is B - A; `wins` count images on which one is the better."""

    a: Mean
    b: Mean
    difference: Mean
    wins_a: int
    wins_b: int
    up: bool

    @property
    def verdict(self) -> str:
        """ "A better" or "B better" when the difference's interval leaves out zero, else "unclear"; "too few pairs" of
        fewer than LEAST_PAIRS."""
        if self.difference.count < LEAST_PAIRS:
            return "too few pairs"
        if self.difference.low > 0:
            return "B better" if self.up else "A better"
        if self.difference.high < 0:
            return "A better" if self.up else "B better"
        return "unclear"


def compare(metric: Metric, a: Sequence[float], b: Sequence[float]) -> Comparison:
    """Values of the same images in the same order. Raises ValueError for lists of different length or empty ones."""
    pairs = list(zip(a, b, strict=True))
    gaps = [0.0 if x == y else y - x for x, y in pairs]  # two equal infinities do not differ
    wins_a, wins_b = (sum(metric.better(*pair) for pair in order) for order in (pairs, [(y, x) for x, y in pairs]))
    return Comparison(mean(a), mean(b), mean(gaps), wins_a, wins_b, metric.up)
