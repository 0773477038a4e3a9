"""What the confidence is worth: `python benchmarks/confidence.py HR_DIR [--model small] [--protocol realesrgan]`.

On the windows of degraded validation images: the rank correlation between a token's confidence and whether it is the
target's token, between the confidence of a region of 64x64 px and its squeeze and (extra `judge`) lite distance to the
target (sign turned: more confident, closer), each within an image, as the mean over images with a bootstrap 95 %
interval; and the reliability curve, the share of right tokens in ten equally filled bins of confidence.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from common import degraded, spearman
from torch import Tensor

from realsrt.checkpoint import load_model
from realsrt.errors import UsageError
from realsrt.evaluation import registry
from realsrt.evaluation.lite import lite_maps, load_lite
from realsrt.evaluation.metrics import bootstrap_interval
from realsrt.losses import load_squeeze_features
from realsrt.models.features import SqueezeFeatures, squeeze_maps

REGION = 64


def windows(image_1CHW: Tensor, side: int) -> Tensor:
    """An image cut into whole squares (n, C, side, side), in raster order; what is left over is dropped."""
    cut = image_1CHW[0].unfold(1, side, side).unfold(2, side, side)
    return cut.permute(1, 2, 0, 3, 4).flatten(0, 1)


def region_means(maps: list[Tensor], cells: int) -> Tensor:
    """The sum (B, n, n) of maps, meaned over every region of 64x64 px."""
    return torch.stack([torch.nn.functional.adaptive_avg_pool2d(m, (cells, cells)) for m in maps]).sum(0)


def distances(squeeze: SqueezeFeatures) -> dict[str, Callable[[Tensor, Tensor], list[Tensor]]]:
    """By name: what gives maps of how far two images are apart; lite only where it is installed."""
    found = {"squeeze": partial(squeeze_maps, squeeze)}
    try:
        return found | {"lite": partial(lite_maps, load_lite())}
    except UsageError as missing:
        print(missing)
        return found


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--model", default="small")
    parser.add_argument("--protocol", default="realesrgan")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--features", type=Path)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    model = load_model(args.model)
    measures = distances(load_squeeze_features(args.features or registry.checkout_features()))
    side = model.config.window
    items = degraded(args.target, args.protocol, 0, args.limit)
    for steps in args.steps:
        by_token, all_confidence, all_right = [], [], []
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
            per_region = region_means([out.confidence], cells)
            for measure, values in zip(measures.values(), by_region.values(), strict=True):
                values.append(-spearman(per_region, region_means(measure(out.image.clamp(0, 1), gt), cells)))
            all_confidence.append(out.confidence.flatten())
            all_right.append(right.flatten())
        confidence, right = torch.cat(all_confidence), torch.cat(all_right)
        print(f"{args.model}, T={steps}, {args.protocol}, {len(items)} images, {len(right)} tokens")
        print(f"tokens that are the target's: {100 * float(right.mean()):.1f} %")
        for name, values in ({"token right": by_token} | by_region).items():
            low, high = bootstrap_interval(values, 0)
            print(f"rank correlation of confidence, {name}: {sum(values) / len(values):+.3f} ({low:+.3f}…{high:+.3f})")
        print("| confidence | right |\n|---|---|")
        for part in confidence.argsort(stable=True).chunk(10):
            print(f"| {float(confidence[part].mean()):.3f} | {100 * float(right[part].mean()):.1f} % |")


if __name__ == "__main__":
    main()
