"""What `validate.py` and `peers.py` share: inputs, contestants, metrics, values and tables."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsrt import degradations
from realsrt.checkpoint.foreign import labels
from realsrt.checkpoint.published import load_squeeze_features
from realsrt.errors import UsageError
from realsrt.evaluation import pairing, registry
from realsrt.evaluation.pairing import load as to_tensor
from realsrt.evaluation.registry import Metric
from realsrt.imaging.resize import upscale_bicubic
from realsrt.inference.upscaler import Upscaler
from realsrt.io import image as imageio
from realsrt.models.features import SqueezeFeatures

BICUBIC = "bicubic"
MS_SSIM_SIDE = 176
"""The smallest side that MS-SSIM can be measured on."""


@dataclass(frozen=True)
class Item:
    """One input (1,3,h,w) and its target (1,3,4h,4w), both 8 bit, or None."""

    name: str
    lq: Tensor
    target: Tensor | None


@dataclass(frozen=True)
class Output:
    """What a contestant made of one input: (1,3,4h,4w), 8 bit; the confidence (h',w') where it has one."""

    image: Tensor
    confidence: np.ndarray | None = None


@dataclass(frozen=True)
class Contestant:
    """A way to enlarge an input. Several of one `model` may differ in the number of steps."""

    label: str
    model: str
    run: Callable[[Tensor], Output]


@dataclass
class Scores:
    """Values by label ("small, 2 steps") and metric, in the order of `images`."""

    images: list[str] = field(default_factory=list)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, label: str, measured: dict[str, float]) -> None:
        own = self.values.setdefault(label, {})
        for name, value in measured.items():
            own.setdefault(name, []).append(value)


def to_8bit(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round() / 255


# Inputs


def images(folder: Path, limit: int | None) -> list[tuple[str, Path]]:
    groups = pairing.match({"image": folder}).groups
    return [(name, files["image"]) for name, files in groups.items()][:limit]


def degraded(folder: Path, protocol: str, seed: int, limit: int | None) -> list[Item]:
    config = degradations.protocol(protocol)
    items = []
    for name, path in images(folder, limit):
        target = pairing.crop_multiple(to_tensor(path), 4)
        lq_HWC = degradations.degrade_named(target[0].permute(1, 2, 0), name, config=config, seed=seed)
        items.append(Item(name, lq_HWC.permute(2, 0, 1)[None] / 255, target))
    return items


def recorded(inputs: Path, targets: Path, limit: int | None) -> list[Item]:
    """Inputs and targets of the same names, as they are."""
    pairs = list(pairing.match({"lq": inputs, "target": targets}).groups.items())[:limit]
    return [
        Item(name, to_tensor(files["lq"]), pairing.crop_multiple(to_tensor(files["target"]), 4))
        for name, files in pairs
    ]


def real(folder: Path, limit: int | None) -> list[Item]:
    """Inputs without targets, as they are; transparent ones over white, as colours that nobody sees would mislead."""
    items = []
    for name, path in images(folder, limit):
        image = imageio.read(path)
        colour_HWC, alpha_HW = torch.from_numpy(image.rgb_float().copy()), image.alpha_float()
        if alpha_HW is not None:
            colour_HWC = 1 - torch.from_numpy(alpha_HW.copy())[..., None] * (1 - colour_HWC)
        items.append(Item(name, to_8bit(colour_HWC.permute(2, 0, 1)[None].contiguous()), None))
    return items


def sets(args: argparse.Namespace) -> list[tuple[str, Callable[[], list[Item]]]]:
    """Every protocol on the targets, and the real images where a folder is given; each made when it is called."""
    found = [(name, partial(degraded, args.hr, name, args.seed, args.limit)) for name in args.protocols]
    return [*found, *([("real", partial(real, args.real, args.limit))] if args.real else [])]


# Contestants


def bicubic() -> Contestant:
    return Contestant(BICUBIC, BICUBIC, lambda lq: Output(to_8bit(upscale_bicubic(lq, 4))))


def label(model: str, steps: int) -> str:
    return f"{model}, {steps} step{'s' * (steps != 1)}"


def models_by_label(names: Sequence[str], device: str) -> dict[str, Upscaler]:
    return {
        known: Upscaler.from_pretrained(name, device=device) for known, name in zip(labels(names), names, strict=True)
    }


def ours(models: dict[str, Upscaler], steps: Sequence[int], args: argparse.Namespace) -> list[Contestant]:
    """Every model at every number of steps. 0 steps, its base image, is left out of a model that has none."""
    made = []
    for model, upscaler in models.items():
        for count in dict.fromkeys(steps):
            run = partial(
                _upscale, upscaler, steps=count, stride=args.stride, color_fix=args.color_fix, fidelity=args.fidelity
            )
            if count == 0:
                try:
                    run(torch.zeros(1, 3, 16, 16))
                except UsageError as problem:
                    print(f"{label(model, 0)}: left out: {problem}", file=sys.stderr)
                    continue
            made.append(Contestant(label(model, count), model, run))
    return made


def _upscale(upscaler: Upscaler, lq: Tensor, **options: Any) -> Output:
    out = upscaler.upscale(lq, **options)
    return Output(to_8bit(out.image), None if out.confidence is None else np.asarray(out.confidence)[0])


# Metrics and tables


def build_metrics(names: Sequence[str], **options: Any) -> list[Metric]:
    """`registry.build`, in the order of names; without lite, and stdout says so, where its extra is not installed."""
    found = {metric.name: metric for metric in registry.build([name for name in names if name != "lite"], **options)}
    if "lite" in names:
        try:
            found["lite"] = registry.build(["lite"])[0]
        except UsageError as problem:
            print(f"lite is left out: {problem}")
    return [found[name] for name in names if name in found]


def measurable(metrics: Sequence[Metric], items: Sequence[Item]) -> list[Metric]:
    """The metrics that every item has what they need for; stderr names the image that MS-SSIM is left out for."""
    if any(item.target is None for item in items):
        metrics = [metric for metric in metrics if not metric.needs_target]
    small = [item.name for item in items if 4 * min(item.lq.shape[2:]) < MS_SSIM_SIDE]
    if small and any(metric.name == "ms_ssim" for metric in metrics):
        print(f"ms_ssim is left out: a side of {small[0]} is below {MS_SSIM_SIDE} px", file=sys.stderr)
        metrics = [metric for metric in metrics if metric.name != "ms_ssim"]
    return list(metrics)


def heads(metrics: Sequence[Metric]) -> list[str]:
    return [f"{metric.name} {'↑' if metric.up else '↓'}" for metric in metrics]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [row(*head), row(*["---"] * len(head)), *(row(*cells) for cells in rows)]


# The command line


def basic_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of whatever measures on a folder of targets."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("hr", type=Path, help="folder of targets that were not trained on")
    made.add_argument("--limit", type=positive, help="the first so many images of each folder")
    made.add_argument("--features", type=Path, help="SqueezeNet feature file; this checkout's if not given")
    return made


def squeeze(args: argparse.Namespace) -> SqueezeFeatures:
    """The network of ``--features``."""
    return load_squeeze_features(args.features or registry.checkout_features())


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that tables of several models have in common."""
    made = basic_parser(description)
    made.add_argument("--real", type=Path, help="folder of real low-quality images")
    made.add_argument("--models", nargs="+", default=["small"], help="embedded names, weight files, hf:org/repo")
    made.add_argument("--steps", type=int, nargs="+", default=[2], help="0: a model's base image, where it has one")
    made.add_argument("--protocols", nargs="*", default=["bicubic", "light", "realesrgan"])
    made.add_argument("--seed", type=int, default=0, help="of the degradations")
    made.add_argument("--stride", type=int)
    made.add_argument("--color-fix")
    made.add_argument("--fidelity", type=float, default=1.0)
    made.add_argument("--device", default="auto")
    made.add_argument("--sheet", type=Path, help="folder for sheets")
    made.add_argument("--json", type=Path, help="file for every value")
    return made


def positive(text: str) -> int:
    """For argparse."""
    if (value := int(text)) < 1:
        raise ValueError
    return value


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The options for JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(one) for one in value]
        return str(value) if isinstance(value, Path) else value

    return {key: plain(value) for key, value in vars(args).items()}


def run_sets(
    args: argparse.Namespace,
    models: dict[str, Upscaler],
    metrics: Sequence[Metric],
    run: Callable[[str, list[Item], list[Metric]], tuple[dict[str, Any], list[list[str]]]],
    **more: Any,
) -> None:
    """`run` every set, of title, items and the metrics that they can have; print its tables, and write its values with
    the settings to ``--json``, after every set: an interrupted run keeps what it has."""
    document = {
        "settings": settings(args),
        "models": {name: up.model.info.sha256 for name, up in models.items()},
    } | more
    for title, load in sets(args):
        items = load()
        document[title], tables = run(title, items, measurable(metrics, items))
        print(f"\n{title}, {len(items)} images\n")
        print("\n\n".join("\n".join(lines) for lines in tables), flush=True)
        if args.json:
            args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def spearman(x: Tensor, y: Tensor) -> float:
    """Rank correlation of two rows of numbers, in [-1,1]; ties share their mean rank, and a constant row gives 0.

    Raises ValueError when lengths differ or fewer than two values are given.
    """
    x, y = x.flatten(), y.flatten()
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"two rows of one length of at least 2 are needed, not {len(x)} and {len(y)}")
    x_rank, y_rank = (_mean_ranks(row) for row in (x, y))
    x_rank, y_rank = x_rank - x_rank.mean(), y_rank - y_rank.mean()
    scale = (x_rank.square().sum() * y_rank.square().sum()).sqrt()
    return float((x_rank * y_rank).sum() / scale) if scale > 0 else 0.0


def _mean_ranks(row_N: Tensor) -> Tensor:
    _, group_N, count = torch.unique(row_N, return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count.double() - 1) / 2)[group_N]
