"""What each shortcut costs and saves: quality on validation images against seconds on a large one.

    python benchmarks/tradeoffs.py HR [--model small] [--protocol realesrgan] [--settings "2 48 sparse 1" …]

A setting is steps, stride, refinement and confidence exit; the first is what the others are compared with. Distance is
SqueezeNet's to the target (mean over images, and its paired change with a standard error); seam is the gradient
energy across the setting's own window borders over that elsewhere, beside the same lines' in the first setting's
images; seconds are of one image of --side pixels made of the validation images, all settings in turns in one run.
"""

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from common import basic_parser, degraded, squeeze, to_8bit
from torch import Tensor

import realsrt
from realsrt.evaluation.metrics import psnr_y
from realsrt.imaging import tiling
from realsrt.models.features import squeeze_distance

DEFAULT = ("2 32 dense 1", "2 48 dense 1", "2 56 dense 1", "2 64 dense 1", "2 32 sparse 1", "2 48 sparse 1",
           "2 56 sparse 1", "2 64 sparse 1", "1 56 sparse 1", "4 56 sparse 1", "4 56 dense 1")  # fmt: skip


def options(setting: str) -> dict[str, object]:
    steps, stride, refine, leave = setting.split()
    return {"steps": int(steps), "stride": int(stride), "refine": refine, "confidence_exit": float(leave)}


def seam(image: Tensor, stride: int, window: int = 64, scale: int = 4) -> float:
    """Gradient energy across window borders over that across all other columns and rows; 1 is no seam."""
    *_, height, width = image.shape
    tiles = tiling.plan(height // scale, width // scale, window, stride)
    ratios = []
    for positions, before, size, axis in ((tiles.ys, tiles.top, height, -2), (tiles.xs, tiles.left, width, -1)):
        lines = {(p - before + edge) * scale for p in positions for edge in (0, window)}
        inside = sorted(line for line in lines if 0 < line < size)
        energy = image.diff(dim=axis).square().movedim(axis, 0).flatten(1).mean(1)
        border = torch.zeros(size - 1, dtype=torch.bool)
        border[[line - 1 for line in inside]] = True
        if inside:
            ratios.append(float(energy[border].mean() / energy[~border].mean()))
    return float(np.mean(ratios)) if ratios else math.nan


def main(argv: Sequence[str] | None = None) -> None:
    parser = basic_parser(__doc__)
    parser.add_argument("--model", default="small")
    parser.add_argument("--protocol", default="realesrgan")
    parser.add_argument("--settings", nargs="+", default=list(DEFAULT))
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args(argv)
    up = realsrt.Upscaler.from_pretrained(args.model)
    net = squeeze(args)
    items = degraded(args.hr, args.protocol, 0, args.limit)
    large = _mosaic([item.lq for item in items], args.side)
    first: dict[str, list[float]] = {}
    spent = {setting: math.inf for setting in args.settings}
    for _ in range(args.repeats):
        for setting in args.settings:
            started = time.perf_counter()
            up.upscale(large, confidence=False, **options(setting))
            spent[setting] = min(spent[setting], time.perf_counter() - started)
    print(
        "| steps stride refine exit | s | of first | PSNR-Y | distance | change | seam | there before | steps taken |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    reference: list[Tensor] = []
    for setting in args.settings:
        rows = []
        for index, item in enumerate(items):
            out = up.upscale(item.lq, **options(setting))
            image = to_8bit(out.image)
            if len(reference) <= index:
                reference.append(image)
            stride = int(setting.split()[1])
            with torch.inference_mode():
                distance = float(squeeze_distance(net, image, item.target))
            taken = float(np.mean(out.window_steps))
            lines = seam(image, stride), seam(reference[index], stride)
            rows.append([float(psnr_y(image, item.target)), distance, *lines, taken])
        psnr, distance, own, before, taken = np.array(rows).T
        first = first or {"distance": list(distance)}
        change = distance - np.array(first["distance"])
        share = 100 / np.mean(first["distance"])
        error = change.std(ddof=1) / math.sqrt(len(change)) * share
        ratio = spent[setting] / spent[args.settings[0]]
        print(
            f"| {setting} | {spent[setting]:.1f} | {ratio:.3f} | {psnr.mean():.2f} | {distance.mean():.4f} "
            f"| {change.mean() * share:+.2f} ± {error:.2f} % | {own.mean():.4f} | {before.mean():.4f} "
            f"| {taken.mean():.2f} |",
            flush=True,
        )


def _mosaic(images: list[Tensor], side: int) -> Tensor:
    """Square images side by side, again from the first where they run out, cut to ``side``."""
    n = -(-side // images[0].shape[-1])
    rows = [torch.cat([images[(r * n + c) % len(images)] for c in range(n)], -1) for r in range(n)]
    return torch.cat(rows, -2)[..., :side, :side]


if __name__ == "__main__":
    main()
