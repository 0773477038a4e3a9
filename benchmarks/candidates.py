"""Does the critic choose well among candidates? `python benchmarks/candidates.py HR_DIR [--model small]`.

On degraded validation images, regions of --side px are regenerated with several candidates each. Over all pairs of a
region's candidates: how often the one of the higher score is the one closer to the target (squeeze distance, on the
region and --context px around it); 50 % is chance. The mean over images, with a bootstrap 95 % interval. The same of
other orders, to see what could be had: nearness to the image before, and to the target itself, in squared error.
Then the mean distance of the best by score, of all candidates, of the image as it was before, and of the best that
could have been chosen; differences paired by region, their intervals over images. And how far the candidates are
from the image before and from each other, in levels of 255, mean over the region. `--variety 0` draws tokens only;
`--max-temperature 4` spreads the candidates' temperatures from --temperature to 4.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from common import basic_parser, degraded, squeeze
from torch import Tensor

from realsrt.evaluation.metrics import bootstrap_interval
from realsrt.inference.result import Upscaled
from realsrt.inference.upscaler import Upscaler
from realsrt.models.features import SqueezeFeatures, squeeze_distance


def around(box: tuple[int, ...], context: int) -> tuple[slice, slice]:
    """Rows and columns of a box (x0,y0,x1,y1) with its surroundings."""
    x0, y0, x1, y1 = box
    return slice(max(0, y0 - context), y1 + context), slice(max(0, x0 - context), x1 + context)


def distance(features: SqueezeFeatures, image: Tensor, target: Tensor, box: tuple[int, ...], context: int) -> float:
    """Squeeze distance of a box (x0,y0,x1,y1) with its surroundings."""
    cut = around(box, context)
    return float(squeeze_distance(features, image[:, :, *cut], target[:, :, *cut]))


def nearness(candidates: Sequence[Upscaled], other: Tensor, box: tuple[int, ...], context: int) -> list[float]:
    """Minus each one's squared error on a box with its surroundings."""
    cut = around(box, context)
    return [-float((one.image[:, :, *cut] - other[:, :, *cut]).square().mean()) for one in candidates]


def levels(one: Tensor, other: Tensor) -> float:
    """Mean absolute difference, of 255."""
    return 255 * float((one - other).abs().mean())


@torch.inference_mode()
def main() -> None:
    parser = basic_parser(__doc__)
    parser.add_argument("--model", default="small")
    parser.add_argument("--protocol", default="realesrgan")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--max-temperature", type=float)
    parser.add_argument("--variety", type=float, default=1.0)
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--regions", type=int, default=2, help="an image")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--context", type=int, default=32)
    args = parser.parse_args()
    up, features = Upscaler.from_pretrained(args.model), squeeze(args)
    agreement: dict[str, list[float]] = {name: [] for name in ("score", "nearness to before", "nearness to the target")}
    apart: dict[str, list[float]] = {"the image before": [], "each other": []}
    rows: dict[str, list[float]] = {name: [] for name in ("before", "mean", "best by score", "best possible")}
    for number, item in enumerate(degraded(args.hr, args.protocol, 0, args.limit)):
        assert item.target is not None
        before = up.upscale(item.lq)
        rng = np.random.default_rng(number)
        height, width = item.target.shape[2:]
        agreed: dict[str, list[float]] = {name: [] for name in agreement}
        own: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(args.regions):
            x, y = (int(rng.integers(0, (size - args.side) // 8 + 1)) * 8 for size in (width, height))
            box = (x, y, x + args.side, y + args.side)
            best = up.regenerate(
                before, box, temperature=args.temperature, top_k=args.top_k, seed=number, candidates=args.candidates,
                max_temperature=args.max_temperature, variety=args.variety,
            )  # fmt: skip
            found = [distance(features, one.image, item.target, box, args.context) for one in best.candidates]
            near = [nearness(best.candidates, other, box, args.context) for other in (before.image, item.target)]
            inside = [one.image[:, :, *around(box, 0)] for one in (before, *best.candidates)]
            apart["the image before"] += [levels(inside[0], one) for one in inside[1:]]
            apart["each other"] += [levels(one, other) for one, other in combinations(inside[1:], 2)]
            scores = [one.score or 0.0 for one in best.candidates]
            for order, values in zip(agreed.values(), (scores, *near), strict=True):
                order += [
                    float((values[i] > values[j]) == (found[i] < found[j]))
                    for i, j in combinations(range(len(found)), 2)
                ]
            own["before"].append(distance(features, before.image, item.target, box, args.context))
            own["mean"].append(float(np.mean(found)))
            own["best by score"].append(found[0])
            own["best possible"].append(min(found))
        for name, order in agreed.items():
            agreement[name].append(float(np.mean(order)))
        for name, values in own.items():
            rows[name].append(float(np.mean(values)))
        print(f"{item.name}: agreement {agreement['score'][-1]:.2f}", flush=True)
    count = len(agreement["score"])
    pairs = args.regions * args.candidates * (args.candidates - 1) // 2 * count
    spread = "" if args.max_temperature is None else f" to {args.max_temperature:g}"
    print(
        f"{args.model}, {count} images, {pairs} pairs, variety {args.variety:g}, temperature "
        f"{args.temperature:g}{spread}, top-k {args.top_k}"
    )
    for name, values in apart.items():
        quarters = ", ".join(f"{value:.2f}" for value in np.quantile(values, (0.25, 0.5, 0.75)))
        print(f"difference of candidates to {name}, of 255: mean {np.mean(values):.2f}, quartiles {quarters}")
    print("| order by | the first is the closer one |\n|---|---|")
    for name, values in agreement.items():
        low, high = bootstrap_interval(values, 0)
        print(f"| {name} | {100 * np.mean(values):.1f} % ({100 * low:.1f}…{100 * high:.1f}) |")
    print("\n| choice | squeeze distance | difference to the mean of candidates |\n|---|---|---|")
    for name, values in rows.items():
        differences = [value - mean for value, mean in zip(values, rows["mean"], strict=True)]
        low, high = bootstrap_interval(differences, 0)
        print(f"| {name} | {np.mean(values):.4f} | {np.mean(differences):+.4f} ({low:+.4f}…{high:+.4f}) |")


if __name__ == "__main__":
    main()
