"""Judge models on degraded and on real pictures, beside bicubic, in one go:

    python benchmarks/validate.py HR_DIR --real REAL_DIR --models small other.safetensors --steps 1 2 4 --sheet SHEETS

Degraded inputs are made in memory, the same as `realsrt degrade HR_DIR LQ --seed 0 --protocol P` writes. Each number
is a mean, with the bootstrap 95 % interval of its difference to bicubic picture by picture; squeeze_held_out leaves out
the layers in the training loss (--trained-taps). Results are rounded to 8 bit first. The tables on stdout are Markdown.
With several models a second table holds their differences to the first, at the same number of steps. Real pictures have
no target: they get the mean confidence, NIQE if its parameters are given, and sheets. A sheet is input, bicubic, each
model's picture at the last number of steps with its confidence (brighter = surer), and the target, in a row.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from realsrt import degradations
from realsrt.errors import ImageError, RealSRTError
from realsrt.evaluation import pairing, registry
from realsrt.evaluation.pairing import load as to_tensor
from realsrt.evaluation.registry import Metric
from realsrt.imaging.resize import upscale_bicubic
from realsrt.inference.upscaler import Upscaler

METRICS = ("psnr_y", "ssim", "squeeze", "squeeze_held_out")
BICUBIC = "bicubic"


@dataclass(frozen=True)
class Item:
    """One input (1,3,h,w) and its target (1,3,4h,4w), both 8 bit, or None."""

    name: str
    lq: Tensor
    target: Tensor | None


@dataclass
class Scores:
    """Values by label ("small, 2 steps") and metric, in the order of `pictures`."""

    pictures: list[str] = field(default_factory=list)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, label: str, measured: dict[str, float]) -> None:
        own = self.values.setdefault(label, {})
        for name, value in measured.items():
            own.setdefault(name, []).append(value)


def to_8bit(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round() / 255


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


def pictures(folder: Path, limit: int | None) -> list[tuple[str, Path]]:
    groups = pairing.match({"picture": folder}).groups
    return [(name, files["picture"]) for name, files in groups.items()][:limit]


def degraded(folder: Path, protocol: str, seed: int, limit: int | None) -> list[Item]:
    config = degradations.protocol(protocol)
    items = []
    for name, path in pictures(folder, limit):
        target = pairing.crop_multiple(to_tensor(path), 4)
        lq_HWC = degradations.degrade_named(target[0].permute(1, 2, 0), name, config=config, seed=seed)
        items.append(Item(name, lq_HWC.permute(2, 0, 1)[None] / 255, target))
    return items


def label(model: str, steps: int) -> str:
    return f"{model}, {steps} step{'s' * (steps > 1)}"


def judge(
    title: str, items: Sequence[Item], models: dict[str, Upscaler], metrics: Sequence[Metric], args: argparse.Namespace
) -> Scores:
    scores = Scores(values={BICUBIC: {}})
    for number, item in enumerate(items, 1):
        print(f"{title}: {number}/{len(items)} {item.name}", file=sys.stderr, flush=True)
        scores.pictures.append(item.name)
        wanted = [metric for metric in metrics if item.target is not None or not metric.needs_target]
        bicubic = to_8bit(upscale_bicubic(item.lq, 4))
        try:
            scores.add(BICUBIC, pairing.measure(wanted, bicubic, item.target, source=item.name))
        except ImageError as problem:  # a real picture may be too small for NIQE
            if item.target is not None:
                raise
            print(problem, file=sys.stderr)
            wanted = []
        panels = [item.lq, bicubic]
        for model, upscaler in models.items():
            for steps in args.steps:
                out = upscaler.upscale(
                    item.lq, steps=steps, stride=args.stride, color_fix=args.color_fix, fidelity=args.fidelity
                )
                image, confidence = to_8bit(out.image), np.asarray(out.confidence)[0]
                measured = pairing.measure(wanted, image, item.target, source=item.name)
                scores.add(label(model, steps), {**measured, "confidence": float(confidence.mean())})
            panels += [image, confidence_panel(confidence, *image.shape[2:])]
        if args.sheet:
            panels += [] if item.target is None else [item.target]
            save_sheet(args.sheet / title / f"{item.name}.png", panels, bicubic.shape[2])
    return scores


def tables(scores: Scores, metrics: Sequence[Metric], models: Sequence[str], steps: Sequence[int]) -> list[list[str]]:
    """Markdown: means beside bicubic; and, for several models, differences to the first."""
    shown = [metric for metric in metrics if metric.name in scores.values[BICUBIC]]
    marks = [f"{metric.name} {'↑' if metric.up else '↓'}" for metric in shown]
    main = [row("", *marks, "confidence"), row("---", *["---"] * len(marks), "---")]
    for name, values in scores.values.items():
        cells = [beside(metric, scores.values[BICUBIC], values, name != BICUBIC) for metric in shown]
        main.append(row(name, *cells, f"{np.mean(values['confidence']):.3f}" if "confidence" in values else ""))
    if len(models) < 2 or not shown:
        return [main]
    other = [row(f"difference to {models[0]}", *marks), row("---", *["---"] * len(marks))]
    for model in models[1:]:
        for count in steps:
            first, second = scores.values[label(models[0], count)], scores.values[label(model, count)]
            other.append(row(label(model, count), *(difference(metric, first, second) for metric in shown)))
    return [main, other]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


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


def models_by_label(names: Sequence[str], device: str) -> dict[str, Upscaler]:
    """Files by their stem, or by the whole path where stems are equal."""
    stems = [Path(name).stem if name.endswith((".safetensors", ".pth")) else name for name in names]
    labels = [stem if stems.count(stem) == 1 else name for stem, name in zip(stems, names, strict=True)]
    return {label: Upscaler.from_pretrained(name, device=device) for label, name in zip(labels, names, strict=True)}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hr", type=Path, help="folder of targets that were not trained on")
    parser.add_argument("--real", type=Path, help="folder of real low-quality pictures")
    parser.add_argument("--models", nargs="+", default=["small"], help="embedded names, weight files, hf:org/repo")
    parser.add_argument("--steps", type=int, nargs="+", default=[2])
    parser.add_argument("--protocols", nargs="+", default=["bicubic", "light", "realesrgan"])
    parser.add_argument("--seed", type=int, default=0, help="of the degradations")
    parser.add_argument("--stride", type=int)
    parser.add_argument("--color-fix")
    parser.add_argument("--fidelity", type=float, default=1.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--limit", type=int, help="the first so many pictures of each folder")
    parser.add_argument("--features", type=Path, help="SqueezeNet feature file; this checkout's if not given")
    parser.add_argument("--trained-taps", nargs="+", default=list(registry.TRAINED_TAPS))
    parser.add_argument("--niqe-params", type=Path)
    parser.add_argument("--sheet", type=Path, help="folder for sheets")
    parser.add_argument("--json", type=Path, help="file for every value")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    niqe_model = registry.load_niqe(args.niqe_params) if args.niqe_params else None
    metrics = registry.build(
        [*METRICS, *(["niqe"] if niqe_model else [])],
        features=args.features, trained_taps=args.trained_taps, niqe_model=niqe_model,
    )  # fmt: skip
    models = models_by_label(args.models, args.device)
    for name, upscaler in models.items():
        print(f"{name}: sha256 {upscaler.model.info.sha256[:16]}")
    document: dict[str, Any] = {
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()},
        "models": {name: upscaler.model.info.sha256 for name, upscaler in models.items()},
    }
    sets = [*args.protocols, *(["real"] if args.real else [])]
    for title in sets:
        if title == "real":
            items = [Item(name, to_8bit(to_tensor(path)), None) for name, path in pictures(args.real, args.limit)]
        else:
            items = degraded(args.hr, title, args.seed, args.limit)
        scores = judge(title, items, models, metrics, args)
        document[title] = asdict(scores)
        print(f"\n{title}, {len(items)} pictures\n")
        print("\n\n".join("\n".join(table) for table in tables(scores, metrics, list(models), args.steps)), flush=True)
        if args.json:  # after every set: an interrupted run keeps what it has
            args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except RealSRTError as problem:
        sys.exit(f"validate.py: {problem}")
