"""Does the mask of trust keep its promise? `python benchmarks/trust.py HR_DIR [--calibration FILE] [--protocols …]`

On degraded images that took no part in the calibration: in how many the mean error within the mask is at most the
bound, at each level; the counts that the level itself would give in 95 of 100 trials (binomial), and how many counts
are so, those below being bold; and the mean share of an image that the mask takes. The promise is for images like those
calibrated on, within each group of mean confidence; this shows how far others are from it: `--inputs FOLDER` takes
low-quality inputs of the targets, of the same names, that something else has degraded.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from common import degraded, markdown, recorded

from realsrt.evaluation.trust import (
    Calibration,
    calibrated_options,
    cell_errors,
    embedded_calibration,
    load_calibration,
    trust_mask,
)
from realsrt.inference.options import UpscaleOptions
from realsrt.inference.upscaler import Upscaler


def binomial_range(count: int, level: float) -> tuple[int, int]:
    """The least and the most successes of `count`, left out on each side by at most 2.5 % of trials."""
    chances = [math.comb(count, k) * level**k * (1 - level) ** (count - k) for k in range(count + 1)]
    low = next(k for k in range(count + 1) if sum(chances[: k + 1]) > 0.025)
    high = next(k for k in range(count, -1, -1) if sum(chances[k:]) > 0.025)
    return low, high


def kept(calibration: Calibration, images: Sequence[tuple], level: float, bound: float) -> tuple[int, float]:
    """Of images as (confidence, errors, pixels) of cells: how many keep the bound, and the mean share of the mask."""
    count, share = 0, 0.0
    for confidence, error, pixels in images:
        mask = trust_mask(confidence, calibration.threshold(level, bound, confidence))
        count += not mask.any() or error[mask].sum() <= bound * pixels[mask].sum()
        share += mask.mean() / len(images)
    return count, share


def table(calibration: Calibration, images: Sequence[tuple], levels: Sequence[float], bounds: Sequence[float]) -> str:
    rows, within, above = [], 0, 0
    for level in levels:
        low, high = binomial_range(len(images), level)
        cells = [kept(calibration, images, level, bound) for bound in bounds]
        within += sum(bool(low <= count <= high) for count, _ in cells)
        above += sum(bool(count > high) for count, _ in cells)
        shown = (f"{f'**{count}**' if count < low else count} ({share:.0%})" for count, share in cells)
        rows.append([f"{level:g}", f"{low}–{high}", *shown])
    lines = markdown(["trust", "expected", *(f"error ≤ {bound:g}" for bound in bounds)], rows)
    summary = f"{within} of {len(levels) * len(bounds)} counts are as expected" + f", {above} above" * (above > 0)
    return "\n".join([*lines, "", summary])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--model", default="small")
    parser.add_argument("--calibration", type=Path, help="by default the model's own")
    parser.add_argument("--inputs", type=Path, help="in place of --protocols")
    parser.add_argument("--protocols", nargs="+", default=["mixed", "bicubic", "light", "realesrgan"])
    parser.add_argument("--levels", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    parser.add_argument("--bounds", type=float, nargs="+", default=[8, 12, 16, 20])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    up = Upscaler.from_pretrained(args.model)
    sha256 = up.model.info.sha256
    calibration = load_calibration(args.calibration) if args.calibration else embedded_calibration(sha256)
    calibration.check(
        sha256, calibrated_options(UpscaleOptions().pixel_options(), up.precision, up.window_precision, up.model.config)
    )
    print(f"calibrated on {calibration.about}")
    for protocol in [args.inputs.name] if args.inputs else args.protocols:
        images = []
        for item in (
            recorded(args.inputs, args.target, args.limit)
            if args.inputs
            else degraded(args.target, protocol, args.seed, args.limit)
        ):
            out = up.upscale(item.lq)
            made, target = (image[0].permute(1, 2, 0).clamp(0, 1).numpy() for image in (out.image, item.target))
            images.append((out.confidence[0], *cell_errors((made * 255).round() / 255, target)))
        print(f"\n{protocol}, {len(images)} images: kept the bound (share of the image in the mask)\n")
        print(table(calibration, images, args.levels, args.bounds), flush=True)


if __name__ == "__main__":
    main()
