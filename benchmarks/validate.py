"""Judge a model on targets and their degraded inputs, beside bicubic:

    realsrt degrade HR LQ --seed 0
    python benchmarks/validate.py LQ HR --steps 1 2 4 --sheet SHEETS

Prints PSNR-Y, SSIM and squeeze distance (all taps, and those the shipped weights were not trained on), each mean with
a bootstrap 95 % interval of its difference to bicubic. A sheet is input, bicubic, ours, confidence and target in a row.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from realsrt import imageio
from realsrt.imaging.resize import upscale_bicubic
from realsrt.losses import load_squeeze_features
from realsrt.metrics import bootstrap_interval, psnr_y, ssim
from realsrt.models.features import TAPS, squeeze_distance
from realsrt.pipeline import Upscaler

FEATURES = Path(__file__).parents[1] / "recipes" / "features" / "squeezenet1_1.safetensors"
TRAINED_TAPS = ("conv1", "fire3", "fire5")
HELD_OUT_TAPS = tuple(t for t in TAPS if t not in TRAINED_TAPS)


def to_tensor(path: Path) -> torch.Tensor:
    """(1, 3, H, W) in [0,1]."""
    return torch.from_numpy(imageio.read(path).rgb_float().copy()).permute(2, 0, 1)[None].float()


def to_8bit(image: torch.Tensor) -> torch.Tensor:
    return (image.clamp(0, 1) * 255).round() / 255


def save_sheet(path: Path, panels: list[torch.Tensor], height: int) -> None:
    """Panels side by side, each (1, 3, H, W), nearest to the same height."""
    rows = [
        torch.nn.functional.interpolate(p, size=(height, round(p.shape[3] * height / p.shape[2])), mode="nearest")
        for p in panels
    ]
    array = (torch.cat(rows, dim=3)[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def confidence_panel(confidence: np.ndarray, height: int, width: int) -> torch.Tensor:
    """The map stretched over the output, brighter = surer."""
    panel = torch.from_numpy(confidence)[None, None].expand(1, 3, -1, -1).float()
    return panel.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :height, :width]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lq", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--features", type=Path, default=FEATURES)
    parser.add_argument("--model", default="small")
    parser.add_argument("--steps", type=int, nargs="+", default=[4])
    parser.add_argument("--stride", type=int)
    parser.add_argument("--color-fix")
    parser.add_argument("--fidelity", type=float, default=1.0)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    features = load_squeeze_features(args.features)
    upscaler = Upscaler.from_pretrained(args.model)
    targets = {p.stem: p for p in sorted(args.target.iterdir())}
    pairs = [(p, targets[p.stem]) for p in sorted(args.lq.iterdir()) if p.stem in targets][: args.limit]
    scores: dict[str, dict[str, list[float]]] = {}
    for lq_path, target_path in pairs:
        lq, target = to_tensor(lq_path), to_tensor(target_path)
        results = {"bicubic": upscale_bicubic(lq, 4)}
        confidence = None
        for steps in args.steps:
            out = upscaler.upscale(
                lq, steps=steps, stride=args.stride, color_fix=args.color_fix, fidelity=args.fidelity
            )
            results[f"T={steps}"], confidence = out.image, np.asarray(out.confidence)[0]
        for name, image in results.items():
            image = to_8bit(image)
            row = scores.setdefault(name, {})
            with torch.inference_mode():
                row.setdefault("psnr_y", []).append(float(psnr_y(image, target)))
                row.setdefault("ssim", []).append(float(ssim(image, target)))
                row.setdefault("squeeze", []).append(float(squeeze_distance(features, image, target)))
                row.setdefault("squeeze_held_out", []).append(
                    float(squeeze_distance(features, image, target, HELD_OUT_TAPS))
                )
        if args.sheet and confidence is not None:
            height, width = target.shape[2:]
            shown = [lq, results["bicubic"], results[f"T={args.steps[-1]}"]]
            panels = [*shown, confidence_panel(confidence, height, width), target]
            save_sheet(args.sheet / f"{lq_path.stem}.png", panels, height)

    print(f"{len(pairs)} pictures, model {args.model}, {upscaler.model.info.sha256[:12]}")
    for name, row in scores.items():
        cells = []
        for metric, values in row.items():
            difference = np.array(values) - np.array(scores["bicubic"][metric])
            low, high = bootstrap_interval(difference, 0)
            cells.append(f"{metric} {np.mean(values):.4f} ({difference.mean():+.4f}, {low:+.4f}…{high:+.4f})")
        print(f"{name:8} " + "  ".join(cells))
    base, best = scores["bicubic"], scores[f"T={args.steps[-1]}"]
    for metric in ("squeeze", "squeeze_held_out"):
        print(f"{metric}: {100 * (np.mean(best[metric]) / np.mean(base[metric]) - 1):+.1f} % against bicubic")
    if args.json:
        args.json.write_text(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
