"""A mask with a guarantee: which cells of a result can be trusted, by split conformal calibration.

A cell's trust is the mean confidence around it; the mask at a threshold is the cells of a higher trust, or empty where
they are few. Every pair of an input and its target gives one score: the lowest threshold such that at it, and at any
higher one, the mean error within the mask is at most a bound. The k-th smallest of n scores, k = ceil((n + 1)·level),
is the calibrated threshold: the score of a further image, drawn as the pairs were, is at most that with a probability
of at least `level`, whatever the model does, and then the mean error within its mask is at most the bound.

Pairs of similar mean confidence are calibrated by themselves (group-conditional, or Mondrian, conformal prediction:
Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, section 4.5), so that the promise holds within
each such group, and an image that looks hard has the threshold of those that looked as hard.
"""

import json
import math
import os
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from realsrt.config import ModelConfig
from realsrt.errors import UsageError, shown, why
from realsrt.io.atomic import write_whole

CELL = 8
"""Side of a cell of the confidence map, in output pixels."""
BOUNDS = (4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 24.0)
"""Mean errors that a calibration has thresholds for, in levels of 255."""
_AROUND = 5  # cells a side of the square whose mean confidence is a cell's trust: single cells know little
_LEAST = 0.05  # share of an image's cells below which a mask is left empty: the mean of few says little
MOST_GROUPS = 3
LEAST_PAIRS = 40
"""Of a group, where there are several: so many can promise up to 0.975."""
FORMAT = 2
_WINDOWS = "window_precision"
_SUFFIX = ".calibration.json"


def cell_errors(image_HWC: np.ndarray, target_HWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sums (h,w) over each cell's pixels of the error, which is the mean absolute difference over R, G and B in
    levels of 255, and the number of these pixels; of images in [0,1]."""
    error_HW = np.abs(image_HWC.astype(np.float64) - target_HWC).mean(2) * 255
    height, width = error_HW.shape

    def cells(values_HW: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(values_HW, range(0, height, CELL), 0), range(0, width, CELL), 1)

    return cells(error_HW), cells(np.ones_like(error_HW))


def trust_map(confidence_hw: np.ndarray) -> np.ndarray:
    """The trust (h,w) of each cell, float64 in [0,1]: the mean confidence of 5x5 cells around it, edges repeated."""
    padded = np.pad(confidence_hw.astype(np.float64), _AROUND // 2, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (_AROUND, _AROUND)).mean((2, 3))


def trust_mask(confidence_hw: np.ndarray, threshold: float) -> np.ndarray:
    """The mask (h,w) at a threshold, bool; empty where it would have less than 5 % of the cells."""
    mask_hw = trust_map(confidence_hw) > threshold
    return mask_hw & (mask_hw.sum() >= _LEAST * mask_hw.size)


def scores(
    confidence_hw: np.ndarray, error_hw: np.ndarray, pixels_hw: np.ndarray, bounds: Sequence[float]
) -> list[float]:
    """The score of one pair for each bound; -1 if the mean error of the whole image and of every mask is within it."""
    trust = trust_map(confidence_hw)
    order = np.argsort(-trust, axis=None, kind="stable")
    trust, error, pixels = (values.ravel()[order] for values in (trust, error_hw, pixels_hw))
    mean, count = np.cumsum(error) / np.cumsum(pixels), np.arange(1, len(trust) + 1)
    ends = np.append(trust[1:] != trust[:-1], True)  # equal trust comes into a mask together
    trust, mean = (values[ends & (count >= _LEAST * len(count))] for values in (trust, mean))
    return [float(trust[over.argmax()]) if (over := mean > bound).any() else -1.0 for bound in bounds]


def calibrated_options(
    pixel_options: Mapping[str, Any], precision: object, windows: object, config: ModelConfig
) -> dict[str, Any]:
    """What a calibration holds for, as plain data: the options of upscaling and how numbers are rounded, those of
    `windows` too. An option that is the model's own (``steps``, ``tile`` …), or does nothing, is None, given or not."""
    own = {key: getattr(config, key, None) for key in pixel_options}
    own |= {"steps": config.num_steps, "tile": config.window, "seed": pixel_options.get("seed")}  # nothing is drawn
    if pixel_options.get("tile") not in (None, config.window):
        own["stride"] = None  # the model's own is of its own window
    given = {key: None if value == own.get(key) else value for key, value in pixel_options.items()}
    rounded = {"precision": precision, _WINDOWS: windows}
    return json.loads(json.dumps(given | {key: str(one).removeprefix("torch.") for key, one in rounded.items()}))


@dataclass(frozen=True, kw_only=True)
class Group:
    """Pairs of similar mean confidence, above that of the group before and at most `up_to`, in [0,1]; the last group's
    is 1. scores: by bound, in levels of 255, the scores of all its pairs, ascending."""

    up_to: float
    scores: Mapping[float, Sequence[float]]

    @property
    def pairs(self) -> int:
        return len(next(iter(self.scores.values())))


def group_number(mean: float, ends: Sequence[float]) -> int:
    """From 0: the group that an image of this mean confidence belongs to, of groups that reach up to these ends."""
    return bisect_left(ends[:-1], mean)


def grouped(means: Sequence[float], scores: Sequence[Sequence[float]], bounds: Sequence[float]) -> list[Group]:
    """The groups of pairs of these mean confidences, and scores by bound: as many, equally large, as have 40 pairs
    each, at most three; one where pairs are few. Equal means stay together."""
    ascending = sorted(means)
    for count in range(max(1, min(MOST_GROUPS, len(means) // LEAST_PAIRS)), 0, -1):
        cuts = [round(len(means) * number / count) for number in range(1, count)]
        ends = [*((ascending[cut - 1] + ascending[cut]) / 2 for cut in cuts), 1.0]
        rows: list[list[Sequence[float]]] = [[] for _ in ends]
        for mean, row in zip(means, scores, strict=True):
            rows[group_number(mean, ends)].append(row)
        if min(map(len, rows)) >= LEAST_PAIRS:
            break
    return [
        Group(
            up_to=end, scores={bound: sorted(own) for bound, own in zip(bounds, zip(*each, strict=True), strict=True)}
        )
        for end, each in zip(ends, rows, strict=True)
    ]


Thresholds = tuple[tuple[float, float], ...]
"""By group: its `up_to`, and its threshold of `trust_mask`."""


def threshold_for(confidence_hw: np.ndarray, thresholds: Thresholds) -> float:
    """That of the group of an image with this map, all of it."""
    return thresholds[group_number(mean_confidence(confidence_hw), [up_to for up_to, _ in thresholds])][1]


def mean_confidence(confidence_hw: np.ndarray) -> float:
    """By which an image belongs to a group."""
    return float(confidence_hw.mean(dtype=np.float64))


def pairs_of(count: int) -> str:
    return f"{count} pair" + "s" * (count != 1)


Tell = Callable[[str, Mapping[str, Any], Mapping[str, Any]], str]


def _difference(name: str, calibrated: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return f"{name} {shown(calibrated.get(name))} (now {shown(now.get(name))})"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What pairs have shown of one model with one set of options.

    model_sha256: of the weight file. options: see `calibrated_options`. groups: of the pairs, see `Group`, ascending.
    about: what the pairs were, for people. where: the file it came from.
    """

    model_sha256: str
    options: Mapping[str, Any]
    groups: Sequence[Group]
    about: str = ""
    where: str = field(default="", compare=False)

    @property
    def pairs(self) -> int:
        return sum(group.pairs for group in self.groups)

    @property
    def images(self) -> str:
        """What it was calibrated on, for people."""
        return self.about or pairs_of(self.pairs)

    def threshold(self, level: float, bound: float, confidence_hw: np.ndarray) -> float:
        """Of `trust_mask`, for an image with this map, all of it. Raises UsageError as `thresholds` does."""
        return threshold_for(confidence_hw, self.thresholds(level, bound))

    def thresholds(self, level: float, bound: float) -> Thresholds:
        """Of all groups. Raises UsageError where so few pairs as the smallest has cannot promise it."""
        if not 0 < level < 1:
            raise UsageError(f"trust is a share of images, above 0 and below 1, got {level:g}")
        if bound not in self.groups[0].scores:
            known = ", ".join(f"{one:g}" for one in self.groups[0].scores)
            raise UsageError(f"the calibration has no thresholds for a mean error of {bound:g}; it has {known}")
        if said := self.beyond([level]):
            raise UsageError(f"{said}: calibrate on more")
        ranks = [math.ceil((group.pairs + 1) * level - 1e-9) for group in self.groups]
        return tuple((one.up_to, one.scores[bound][rank - 1]) for one, rank in zip(self.groups, ranks, strict=True))

    @property
    def most(self) -> float:
        """The highest level that it can promise, of the smallest group: n / (n + 1), cut off after three digits."""
        return math.floor(1000 * min(group.pairs / (group.pairs + 1) for group in self.groups)) / 1000

    def beyond(self, levels: Sequence[float]) -> str:
        """Which of these levels it cannot promise, whatever the bound, and how many pairs they take; "" for none."""
        few = min(group.pairs for group in self.groups)
        least = {level: math.ceil(level / (1 - level) - 1e-9) for level in levels}
        if not (high := [f"{level:g} (needs {pairs})" for level, pairs in least.items() if pairs > few]):
            return ""
        pairs = pairs_of(few) + " of a group" * (len(self.groups) > 1)
        return f"{pairs} can promise a trust of up to {self.most:g}, not of {', '.join(high)}"

    def check(self, model_sha256: str, options: Mapping[str, Any], tell: Tell = _difference) -> None:
        """Raise UsageError for another model or other options than were calibrated. One that does not say how windows
        are rounded is taken for any. `tell`: how an option of this name differs, from those calibrated and these."""
        where = self.where or "the calibration"
        options = {name: value for name, value in options.items() if name != _WINDOWS or name in self.options}
        if self.model_sha256 != model_sha256:
            raise UsageError(
                f"{where} is of other weights ({self.model_sha256[:16]}…) than these "
                f"({model_sha256[:16] or 'no file'}…): make one with realsrt calibrate"
            )
        if other := [name for name in {**self.options, **options} if self.options.get(name) != options.get(name)]:
            told = ", ".join(dict.fromkeys(tell(name, self.options, options) for name in other))
            raise UsageError(f"{where} is of other options: {told}; give the same, or make one with realsrt calibrate")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, whole or not at all. Raises UsageError."""
        groups = [
            {"up_to": one.up_to, "scores": {f"{bound:g}": list(own) for bound, own in one.scores.items()}}
            for one in self.groups
        ]
        document = {
            "format": FORMAT, "model_sha256": self.model_sha256, "about": self.about, "pairs": self.pairs,
            "options": dict(self.options), "groups": groups,
        }  # fmt: skip
        try:
            write_whole(Path(path), (json.dumps(document, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise UsageError(f"can't write {path}: {why(error)}") from None


def load_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Raises UsageError for a file that is none."""
    try:
        document = json.loads(Path(path).read_bytes())
        if document["format"] not in (1, FORMAT):
            int(document["format"])
            raise UsageError(
                f"{path} has format {document['format']!s:.20}, this version reads up to {FORMAT}; update realsrt"
            )
        groups = document["groups"] if document["format"] == FORMAT else [{"up_to": 1, "scores": document["scores"]}]
        found = Calibration(
            model_sha256=str(document["model_sha256"]), options=dict(document["options"]),
            groups=[_group(one["up_to"], one["scores"]) for one in groups], about=str(document["about"]),
            where=str(path),
        )  # fmt: skip
        ends = [0.0, *(one.up_to for one in found.groups)]
        if ends[-1] != 1 or not all(low < high for low, high in pairwise(ends)):
            raise ValueError("groups out of order")
        if len({tuple(one.scores) for one in found.groups}) != 1:
            raise ValueError("other bounds")
    except OSError as error:
        raise UsageError(f"can't read {path}: {why(error)}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise UsageError(f"{path} is no calibration; make one with realsrt calibrate") from None
    return found


def _group(up_to: float, scores: Mapping[str, Sequence[float]]) -> Group:
    """Of a file. Raises ValueError, TypeError, AttributeError for what is none."""
    if not all(isinstance(number, int | float) for own in ([up_to], *scores.values()) for number in own):
        raise ValueError("no numbers")  # float() takes digits too
    found = Group(up_to=float(up_to), scores={float(bound): sorted(map(float, own)) for bound, own in scores.items()})
    if len({len(own) for own in found.scores.values()}) != 1 or not found.pairs:
        raise ValueError("scores")
    if not all(math.isfinite(score) for own in found.scores.values() for score in own):
        raise ValueError("not finite")
    return found


def embedded_calibration(model_sha256: str) -> Calibration:
    """The one inside the package for these weights, for windows in float32 and in bfloat16, of which the CPU decides by
    default; docs/trust.md has how far they are apart. Raises UsageError where there is none."""
    for file in files("realsrt.weights").iterdir():
        if file.name.endswith(_SUFFIX):
            found = load_calibration(Path(str(file)))
            if found.model_sha256 == model_sha256:
                return replace(found, options={key: own for key, own in found.options.items() if key != _WINDOWS})
    raise UsageError(
        "there is no calibration for these weights: make one with realsrt calibrate, give it by --calibration"
    )
