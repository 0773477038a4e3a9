"""What the confidence is worth: `python benchmarks/confidence.py HR_DIR [--model small] [--protocols realesrgan]`.

On the windows of degraded validation images: the rank correlation between a token's confidence and whether it is the
target's token, between the confidence of a region of 64x64 px and its squeeze and (extra `judge`) lite distance to the
target (sign turned: more confident, closer), each within an image, as the mean over images with a bootstrap 95 %
interval; and the reliability curve in ten equally filled bins of confidence: the share of right tokens, and by either
distance the mean rank of closeness, 1 being the closest. A confidence is right where it equals the rank by squeeze
distance: among the pairs it was fitted to (`recipes/confidence.py`; their distances are in the weight file), or else,
as lite's always is, among all places of these images. The largest gap depends on which photographs these are: in
brackets is where it lies in 95 of 100 draws of as many of them, with replacement.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from common import basic_parser, degraded, spearman, squeeze
from torch import Tensor

from realsrt.checkpoint import load_model
from realsrt.errors import UsageError
from realsrt.evaluation.lite import lite_maps, load_lite
from realsrt.evaluation.metrics import bootstrap_interval, largest_gap
from realsrt.models.features import SqueezeFeatures, cell_means, ranks, squeeze_maps

REGION = 64


def windows(image_1CHW: Tensor, side: int) -> Tensor:
    """An image cut into whole squares (n, C, side, side), in raster order; what is left over is dropped."""
    cut = image_1CHW[0].unfold(1, side, side).unfold(2, side, side)
    return cut.permute(1, 2, 0, 3, 4).flatten(0, 1)


def closeness_ranks(distance_N: Tensor, among: list[float] | None = None) -> Tensor:
    """Of each place, between 0, the farthest, and 1, the closest: of all, or among evenly spaced quantiles."""
    if among:
        return 1 - torch.from_numpy(np.interp(distance_N.numpy(), among, np.linspace(0, 1, len(among)))).float()
    return ranks(-distance_N)


def drawn_gaps(confidence: list[Tensor], rank: list[Tensor], names: list[str], draws: int = 200) -> list[float]:
    """The largest gap, in rising order, of as many photographs drawn with replacement; images of one name (inputs
    degraded in several ways) are drawn together."""
    rng = np.random.default_rng(0)
    groups = [[at for at, name in enumerate(names) if name == one] for one in dict.fromkeys(names)]
    found = []
    for _ in range(draws):
        places = [at for group in rng.integers(len(groups), size=len(groups)) for at in groups[group]]
        found.append(largest_gap(torch.cat([confidence[at] for at in places]), torch.cat([rank[at] for at in places])))
    return sorted(found)


def distances(features: SqueezeFeatures) -> dict[str, Callable[[Tensor, Tensor], list[Tensor]]]:
    """By name: what gives maps of how far two images are apart; lite only where it is installed."""
    found = {"squeeze": partial(squeeze_maps, features)}
    try:
        return found | {"lite": partial(lite_maps, load_lite())}
    except UsageError as missing:
        print(missing)
        return found


@torch.inference_mode()
def main() -> None:
    parser = basic_parser(__doc__)
    parser.add_argument("--model", default="small")
    parser.add_argument("--protocols", nargs="+", default=["realesrgan"])
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    args = parser.parse_args()
    model = load_model(args.model)
    measures = distances(squeeze(args))
    side = model.config.window
    items = [item for protocol in args.protocols for item in degraded(args.hr, protocol, 0, args.limit)]
    for steps in args.steps:
        by_token, all_confidence, all_right = [], [], []
        all_distance: dict[str, list[Tensor]] = {name: [] for name in measures}
        by_region = {f"region close ({name})": [] for name in measures}
        for item in items:
            assert item.target is not None
            lq = windows(item.lq, side)
            gt = windows(item.target, side * model.config.scale)
            out = model.super_resolve(lq, num_steps=steps)
            right = (out.ids == model.tokenizer.encode(gt, model.guide(lq))).float()
            assert out.confidence is not None
            by_token.append(spearman(out.confidence, right))
            cells = gt.shape[-1] // REGION
            per_region = cell_means([out.confidence], (cells, cells))
            for (name, measure), values in zip(measures.items(), by_region.values(), strict=True):
                maps = measure(out.image.clamp(0, 1), gt)
                values.append(-spearman(per_region, cell_means(maps, (cells, cells))))
                all_distance[name].append(cell_means(maps, out.confidence.shape[-2:]).flatten())
            all_confidence.append(out.confidence.flatten())
            all_right.append(right.flatten())
        confidence, right = torch.cat(all_confidence), torch.cat(all_right)
        print(f"{args.model}, T={steps}, {' '.join(args.protocols)}, {len(items)} images, {len(right)} tokens")
        print(f"tokens that are the target's: {100 * float(right.mean()):.1f} %")
        for name, values in ({"token right": by_token} | by_region).items():
            low, high = bootstrap_interval(values, 0)
            print(f"rank correlation of confidence, {name}: {sum(values) / len(values):+.3f} ({low:+.3f}…{high:+.3f})")
        fitted = {"squeeze": model.info.provenance.get("confidence", {}).get("distances")}
        ranks = {name: closeness_ranks(torch.cat(found), fitted.get(name)) for name, found in all_distance.items()}
        heads = " | ".join(f"rank by {name}" for name in ranks)
        print(f"| confidence | right | {heads} |\n|---|---|{'---|' * len(ranks)}")
        for part in confidence.argsort(stable=True).tensor_split(10):
            mean, close = float(confidence[part].mean()), [float(rank[part].mean()) for rank in ranks.values()]
            cells_of_row = " | ".join(f"{value:.3f}" for value in close)
            print(f"| {mean:.3f} | {100 * float(right[part].mean()):.1f} % | {cells_of_row} |")
        of_image = list(ranks["squeeze"].split([len(part) for part in all_confidence]))
        gaps = drawn_gaps(all_confidence, of_image, [item.name for item in items])
        gap, (low, high) = largest_gap(confidence, ranks["squeeze"]), np.quantile(gaps, (0.025, 0.975))
        print(f"largest gap to the rank by squeeze: {gap:.3f} ({low:.3f}…{high:.3f})")
        off = torch.stack([rank.mean() - part.mean() for part, rank in zip(all_confidence, of_image, strict=True)])
        print(f"mean rank of an image less its mean confidence: {float(off.mean()):+.3f} ± {float(off.std()):.3f}")


if __name__ == "__main__":
    main()
