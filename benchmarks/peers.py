"""Ours beside bicubic and published networks, on the same images in one run:

    python benchmarks/peers.py HR_DIR --real REAL_DIR --networks realesr-general-x4v3.pth RealESRGAN_x4plus.pth \\
        --models small --steps 0 2 --sheet SHEETS

Degraded inputs are those of `validate.py`. A table a protocol: means; lite as a share of bicubic's with its bootstrap
95 % interval over images; output megapixels a second; and peak memory. lite is the distance in a network that no
training sees (extra `judge`). Every result is rounded to 8 bit first. Speed is of the upscaling alone: contestants take
turns on every image, each time in another order, after a warm-up. Memory is what one upscaling of the largest input
adds at its peak, weights not counted, right to some 15 MB on a CPU. Real images have no target: speed, memory and
sheets only.

--sheet: for every image one file with the input, all contestants and the target; for every set `overview-SET.png` with
a square of each image at 100 %, where it has the most detail. Networks read inputs in tiles (--tile) with a margin.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    BICUBIC,
    Contestant,
    Item,
    Output,
    Scores,
    bicubic,
    build_metrics,
    heads,
    markdown,
    models_by_label,
    ours,
    parser,
    positive,
    run_sets,
    to_8bit,
)
from memory import peak_growth
from panels import Panel, most_detail, nearest, save_grid, to_bytes
from torch import Tensor

from realsrt.checkpoint.foreign import TILE, ForeignNetwork, labels, load_any
from realsrt.errors import RealSRTError, UsageError
from realsrt.evaluation import pairing
from realsrt.evaluation.registry import Metric
from realsrt.inference.runner import pick_device

METRICS = ("psnr_y", "ms_ssim", "squeeze", "lite")
CROP = 256
LARGEST = 768
"""Longest side of an image on the sheet of one image; crops are never made smaller."""


@dataclass
class Race:
    """What one set of images gave: seconds of every image and megabytes, by label; `megapixels` of every output."""

    scores: Scores = field(default_factory=Scores)
    megapixels: list[float] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, float | None] = field(default_factory=dict)

    def speed(self, label: str) -> float:
        """Output megapixels a second."""
        return sum(self.megapixels) / sum(self.seconds[label])


def enlarge(network: ForeignNetwork, lq_BCHW: Tensor, tile: int) -> Output:
    return Output(to_8bit(network.enlarge(lq_BCHW, tile)))


def published(files: Sequence[Path], tile: int, device: torch.device) -> list[Contestant]:
    made = []
    for label, file in zip(labels([str(file) for file in files]), files, strict=True):
        network = load_any(str(file), device=device)
        if not isinstance(network, ForeignNetwork) or network.scale != 4:
            raise UsageError(f"--networks takes networks of others for x4, and {file} is none")
        made.append(Contestant(label, label, partial(enlarge, network, tile=tile)))
    return made


def race(
    title: str, items: Sequence[Item], contestants: Sequence[Contestant], metrics: Sequence[Metric],
    device: torch.device, see: Callable[[Item, dict[str, Output], dict[str, dict[str, float]]], None],
) -> Race:  # fmt: skip
    """Every contestant on every item, in turns. `see` gets an item, its outputs and its values, by label."""
    found = Race(Scores(values={contestant.label: {} for contestant in contestants}))
    largest = max(items, key=lambda item: item.lq.shape[2] * item.lq.shape[3]).lq
    for contestant in contestants:
        print(f"{title}: warm-up, {contestant.label}", file=sys.stderr, flush=True)
        contestant.run(largest[..., :16, :16])
        found.memory[contestant.label] = peak_growth(partial(contestant.run, largest), device)
        found.seconds[contestant.label] = []
    for number, item in enumerate(items):
        print(f"{title}: {number + 1}/{len(items)} {item.name}", file=sys.stderr, flush=True)
        found.scores.images.append(item.name)
        found.megapixels.append(16 * item.lq.shape[2] * item.lq.shape[3] / 1e6)
        outputs, values = {}, {}
        first = number % len(contestants)
        for contestant in [*contestants[first:], *contestants[:first]]:
            started = time.perf_counter()
            outputs[contestant.label] = contestant.run(item.lq)
            found.seconds[contestant.label].append(time.perf_counter() - started)
        for contestant in contestants:
            image = outputs[contestant.label].image
            values[contestant.label] = pairing.measure(metrics, image, item.target, source=item.name)
            found.scores.add(contestant.label, values[contestant.label])
        see(item, {contestant.label: outputs[contestant.label] for contestant in contestants}, values)
    return found


def ratio(reference: Sequence[float], own: Sequence[float]) -> tuple[float, float, float]:
    """Mean of `own` as a share of `reference`'s, both of the same images, and its bootstrap 95 % interval."""
    a, b = np.asarray(reference, np.float64), np.asarray(own, np.float64)
    draws = np.random.default_rng(pairing.SEED).integers(len(a), size=(2000, len(a)))
    low, high = np.percentile(b[draws].mean(1) / a[draws].mean(1), [2.5, 97.5])
    return float(b.mean() / a.mean()), float(low), float(high)


def table(found: Race, metrics: Sequence[Metric], device: torch.device) -> list[str]:
    judged = any(metric.name == "lite" for metric in metrics)
    held = "GPU memory" if device.type == "cuda" else "memory"
    head = ["", *heads(metrics), *(["lite / bicubic ↓"] if judged else []), "MP/s ↑", f"{held}, MB ↓"]
    rows = []
    for label, values in found.scores.values.items():
        cells = [f"{np.mean(values[metric.name]):.{metric.digits}f}" for metric in metrics]
        if judged:
            share, low, high = ratio(found.scores.values[BICUBIC]["lite"], values["lite"])
            cells.append(f"{share:.3f} ({low:.3f}…{high:.3f})" if label != BICUBIC else "1")
        grown = found.memory[label]
        rows.append([label, *cells, f"{found.speed(label):.3g}", "–" if grown is None else f"{grown:.0f}"])
    return markdown(head, rows)


@dataclass
class Sheets:
    """Sheets of one set: each image's own as it comes, the rows of the overview kept until `save`."""

    folder: Path
    title: str
    metrics: Sequence[Metric]
    rows: list[list[Panel]] = field(default_factory=list)

    def see(self, item: Item, outputs: dict[str, Output], values: dict[str, dict[str, float]]) -> None:
        shown = {"input": nearest(item.lq)} | {label: out.image for label, out in outputs.items()}
        shown |= {} if item.target is None else {"target": item.target}
        below = {label: self._numbers(own) for label, own in values.items()}
        panels = [Panel((label, below.get(label, "")), to_bytes(image)) for label, image in shown.items()]
        columns = len(panels) if len(panels) <= 4 else (len(panels) + 1) // 2
        grid = [panels[first : first + columns] for first in range(0, len(panels), columns)]
        save_grid(self.folder / self.title / f"{item.name}.png", grid, f"{item.name}, {self.title}", largest=LARGEST)
        if item.target is None:  # the input's own pixels: its enlargement has no detail anywhere
            top, left = (4 * place for place in most_detail(item.lq, CROP // 4))
        else:
            top, left = most_detail(item.target, CROP)
        cut = (slice(None), slice(top, top + CROP), slice(left, left + CROP))
        self.rows.append([Panel((*panel.lines, ""), panel.image[cut].clone()) for panel in panels])
        self.rows[-1][0] = Panel(("input", item.name, f"x {left}  y {top}"), self.rows[-1][0].image)

    def _numbers(self, values: dict[str, float]) -> str:
        known = {metric.name: metric for metric in self.metrics}
        found = {name: f"{values[name]:.{known[name].digits}f}" for name in ("psnr_y", "lite") if name in values}
        return ", ".join(f"{name} {value}" for name, value in found.items())

    def save(self) -> None:
        save_grid(
            self.folder / f"overview-{self.title}.png",
            self.rows,
            f"{self.title}: crops at 100 %, numbers of the whole image",
        )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--networks", type=Path, nargs="*", default=[], help="files of others, x4")
    made.add_argument("--tile", type=positive, default=TILE, help="side of a tile of a network, in input pixels")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    device = pick_device(args.device)
    metrics = build_metrics(METRICS, features=args.features)
    models = models_by_label(args.models, args.device)
    contestants = [bicubic(), *published(args.networks, args.tile, device), *ours(models, args.steps, args)]
    names = [contestant.label for contestant in contestants]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"two contestants are named {twice.pop()}: rename a file")
    print(f"{device.type}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")

    def run(title: str, items: list[Item], wanted: list[Metric]) -> tuple[dict[str, Any], list[list[str]]]:
        sheets = Sheets(args.sheet, title, wanted) if args.sheet else None
        found = race(title, items, contestants, wanted, device, sheets.see if sheets else lambda *_: None)
        if sheets:
            sheets.save()
        values = asdict(found) | {"megapixels_per_second": {label: found.speed(label) for label in names}}
        if any(metric.name == "lite" for metric in wanted):
            own = found.scores.values
            values["lite_ratio"] = {label: ratio(own[BICUBIC]["lite"], own[label]["lite"]) for label in names}
        return values, [table(found, wanted, device)]

    known = {"type": device.type, "threads": torch.get_num_threads(), "torch": torch.__version__}
    run_sets(args, models, metrics, run, device=known)


if __name__ == "__main__":
    try:
        main()
    except RealSRTError as problem:
        sys.exit(f"peers.py: {problem}")
