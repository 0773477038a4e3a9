"""Judge models on degraded and on real images, beside bicubic, in one go:

    python benchmarks/validate.py HR_DIR --real REAL_DIR --models small other.safetensors --steps 1 2 4 --sheet SHEETS

Degraded inputs are made in memory, the same as `realsrt degrade HR_DIR LQ --seed 0 --protocol P` writes. Each number
is a mean, with the bootstrap 95 % interval of its difference to bicubic image by image; squeeze_held_out leaves out
the layers in the training loss (--trained-taps), and lite is of a network no training sees (extra `judge`). Results
are rounded to 8 bit first. The tables on stdout are Markdown. With several models a second table holds their
differences to the first, at the same number of steps. 0 steps is a model's base image, where it has one. Real images
have no target: they get the mean confidence, NIQE if its parameters are given, and sheets. A sheet is input, bicubic,
each model's image at the last number of steps with its confidence (brighter = surer), and the target, in a row.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    BICUBIC,
    Contestant,
    Item,
    Scores,
    bicubic,
    build_metrics,
    heads,
    label,
    markdown,
    models_by_label,
    ours,
    parser,
    run_sets,
)
from PIL import Image
from torch import Tensor

from realsrt.errors import ImageError, RealSRTError
from realsrt.evaluation import pairing, registry
from realsrt.evaluation.registry import Metric

METRICS = ("psnr_y", "ssim", "ms_ssim", "squeeze", "squeeze_held_out", "lite")


def save_sheet(path: Path, panels: list[Tensor], height: int) -> None:
    """Panels side by side, each (1, 3, H, W), nearest to the same height."""
    rows = [
        torch.nn.functional.interpolate(p, size=(height, round(p.shape[3] * height / p.shape[2])), mode="nearest")
        for p in panels
    ]
    array = (torch.cat(rows, dim=3)[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def confidence_panel(confidence: np.ndarray, height: int, width: int) -> Tensor:
    """The map stretched over the output, brighter = surer."""
    panel = torch.from_numpy(confidence)[None, None].expand(1, 3, -1, -1).float()
    return panel.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :height, :width]


def judge(
    title: str, items: Sequence[Item], contestants: Sequence[Contestant], metrics: Sequence[Metric], sheet: Path | None
) -> Scores:
    """Every contestant on every item, the first one bicubic."""
    scores = Scores(values={BICUBIC: {}})
    for number, item in enumerate(items, 1):
        print(f"{title}: {number}/{len(items)} {item.name}", file=sys.stderr, flush=True)
        scores.images.append(item.name)
        wanted = metrics
        panels: dict[str, list[Tensor]] = {}
        for contestant in contestants:
            out = contestant.run(item.lq)
            try:
                measured = pairing.measure(wanted, out.image, item.target, source=item.name)
            except ImageError as problem:  # a real image may be too small for NIQE
                if item.target is not None:
                    raise
                print(problem, file=sys.stderr)
                wanted, measured = [], {}
            height, width = out.image.shape[2:]
            panels[contestant.model] = [out.image]  # the last number of steps stays
            if out.confidence is not None:
                measured["confidence"] = float(out.confidence.mean())
                panels[contestant.model].append(confidence_panel(out.confidence, height, width))
            scores.add(contestant.label, measured)
        if sheet:
            shown = [item.lq, *(panel for group in panels.values() for panel in group)]
            shown += [] if item.target is None else [item.target]
            save_sheet(sheet / title / f"{item.name}.png", shown, 4 * item.lq.shape[2])
    return scores


def tables(scores: Scores, metrics: Sequence[Metric], models: Sequence[str], steps: Sequence[int]) -> list[list[str]]:
    """Markdown: means beside bicubic; and, for several models, differences to the first."""
    shown = [metric for metric in metrics if metric.name in scores.values[BICUBIC]]
    rows = []
    for name, values in scores.values.items():
        cells = [beside(metric, scores.values[BICUBIC], values, name != BICUBIC) for metric in shown]
        rows.append([name, *cells, f"{np.mean(values['confidence']):.3f}" if "confidence" in values else ""])
    main = markdown(["", *heads(shown), "confidence"], rows)
    if len(models) < 2 or not shown:
        return [main]
    others = [
        [label(model, count), *(difference(m, scores.values[first], scores.values[label(model, count)]) for m in shown)]
        for model in models[1:]
        for count in steps
        if (first := label(models[0], count)) in scores.values and label(model, count) in scores.values
    ]
    return [main, markdown([f"difference to {models[0]}", *heads(shown)], others)]


def beside(metric: Metric, bicubic: dict[str, list[float]], own: dict[str, list[float]], compared: bool) -> str:
    """ "6.321 (−1.05…−0.69, −12.1 %)": mean, interval of the difference to bicubic, per cent where less is better."""
    found = pairing.compare(metric, bicubic[metric.name], own[metric.name])
    cell = f"{found.b.mean:.{metric.digits}f}"
    if not compared:
        return cell
    percent = "" if metric.up else f", {signed(100 * (found.b.mean / found.a.mean - 1), 1)} %"
    gap = found.difference
    return f"{cell} ({signed(gap.low, metric.digits)}…{signed(gap.high, metric.digits)}{percent})"


def difference(metric: Metric, first: dict[str, list[float]], second: dict[str, list[float]]) -> str:
    """ "−0.021 (−0.030…−0.011), better on 20 of 24"."""
    found = pairing.compare(metric, first[metric.name], second[metric.name])
    mean, low, high = (
        signed(value, metric.digits) for value in (found.difference.mean, found.difference.low, found.difference.high)
    )
    return f"{mean} ({low}…{high}), better on {found.wins_b} of {found.b.count}"


def signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--trained-taps", nargs="+", default=list(registry.TRAINED_TAPS))
    made.add_argument("--niqe-params", type=Path)
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    niqe_model = registry.load_niqe(args.niqe_params) if args.niqe_params else None
    metrics = build_metrics(
        [*METRICS, *(["niqe"] if niqe_model else [])],
        features=args.features, trained_taps=args.trained_taps, niqe_model=niqe_model,
    )  # fmt: skip
    models = models_by_label(args.models, args.device)
    for name, upscaler in models.items():
        print(f"{name}: sha256 {upscaler.model.info.sha256[:16]}")
    contestants = [bicubic(), *ours(models, args.steps, args)]

    def run(title: str, items: list[Item], wanted: list[Metric]) -> tuple[dict[str, Any], list[list[str]]]:
        scores = judge(title, items, contestants, wanted, args.sheet)
        return asdict(scores), tables(scores, metrics, list(models), args.steps)

    run_sets(args, models, metrics, run)


if __name__ == "__main__":
    try:
        main()
    except RealSRTError as problem:
        sys.exit(f"validate.py: {problem}")
