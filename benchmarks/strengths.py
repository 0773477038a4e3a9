"""What the trunk's strength and share are worth: fixed ones, what its estimator chooses, and the best for each image.

    python benchmarks/strengths.py HR_DIR --strengths 0 0.5 1 --shares 0.5 0.75 1

Base images (0 steps) of degraded targets: every strength and every share of the trunk's image over the bicubic
enlargement, each the same for all images; `auto`, as `realsrt upscale --steps 0` takes them; and for each image the one
of the table that has the lowest lite distance. Results are rounded to 8 bit first. Tables are Markdown: PSNR-Y, squeeze
and lite distance, means over the images. Lite needs the extra `judge`.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
from common import build_metrics, degraded, heads, markdown, parser, to_8bit
from torch import Tensor

import realsrt
from realsrt.errors import RealSRTError, UsageError
from realsrt.evaluation import pairing
from realsrt.imaging.resize import upscale_bicubic
from realsrt.models.trunk import Trunk, mix

METRICS = ("psnr_y", "squeeze", "lite")


@torch.inference_mode()
def base_images(
    trunk: Trunk, lq_1CHW: Tensor, strengths: Sequence[float], shares: Sequence[float]
) -> dict[str, Tensor]:
    """By label: bicubic, each strength and share, auto; 8 bit."""
    plain = upscale_bicubic(lq_1CHW, trunk.config.network.scale)
    made = {"bicubic": plain}
    for strength in strengths:
        restored = trunk.network(strength)(lq_1CHW)
        for share in shares:
            made[f"strength {strength:g}, share {share:g}"] = mix(plain, restored, torch.tensor(share))
    made["auto"] = trunk(lq_1CHW)[1]
    return {label: to_8bit(image) for label, image in made.items()}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--strengths", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    made.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.75, 1.0])
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    trunk = realsrt.load_model(args.models[0]).trunk
    if trunk is None:
        raise UsageError(f"{args.models[0]} has no trunk")
    metrics = build_metrics(METRICS, features=args.features)
    for protocol in args.protocols:
        items = degraded(args.hr, protocol, args.seed, args.limit)
        values: dict[str, list[list[float]]] = {}
        for number, item in enumerate(items, 1):
            print(f"{protocol}: {number}/{len(items)} {item.name}", file=sys.stderr, flush=True)
            for label, image in base_images(trunk, item.lq, args.strengths, args.shares).items():
                found = pairing.measure(metrics, image, item.target, source=item.name)
                values.setdefault(label, []).append([found[metric.name] for metric in metrics])
        if metrics[-1].name == "lite":
            fixed = np.array([values[label] for label in values if label not in ("bicubic", "auto")])
            best = fixed[..., -1].argmin(0)
            values["best of each by lite"] = fixed[best, np.arange(len(items))].tolist()
        rows = [[label, *(f"{x:.3f}" for x in np.mean(own, 0))] for label, own in values.items()]
        print(f"\n{protocol}, {len(items)} images\n")
        print("\n".join(markdown(["", *heads(metrics)], rows)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except RealSRTError as problem:
        sys.exit(f"strengths.py: {problem}")
