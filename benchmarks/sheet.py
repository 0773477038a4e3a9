"""Look at images: `python benchmarks/sheet.py OUT_DIR PICTURE… [--model small] [--crop X Y SIDE]`.

One PNG an image: bicubic, ours, confidence (brighter = surer), side by side at the output's size, or a square crop of
it (in input pixels), with the input itself, enlarged without smoothing, before them.
"""

import argparse
from pathlib import Path

import numpy as np
from validate import confidence_panel, save_sheet

from realsrt.evaluation.pairing import load as to_tensor
from realsrt.imaging.resize import upscale_bicubic
from realsrt.inference.upscaler import Upscaler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--model", default="small")
    parser.add_argument("--crop", type=int, nargs=3, metavar=("X", "Y", "SIDE"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--stride", type=int)
    parser.add_argument("--color-fix")
    parser.add_argument("--fidelity", type=float, default=1.0)
    args = parser.parse_args()
    upscaler = Upscaler.from_pretrained(args.model)
    for path in args.images:
        lq = to_tensor(path)
        out = upscaler.upscale(
            lq, steps=args.steps, stride=args.stride, color_fix=args.color_fix, fidelity=args.fidelity
        )
        height, width = out.image.shape[2:]
        confidence = confidence_panel(np.asarray(out.confidence)[0], height, width)
        panels = [lq, upscale_bicubic(lq, 4), out.image, confidence]
        if args.crop:
            x, y, side = args.crop
            cuts = [(x, y, side)] + [(4 * x, 4 * y, 4 * side)] * 3
            panels = [p[..., y : y + n, x : x + n] for p, (x, y, n) in zip(panels, cuts, strict=True)]
        save_sheet(args.out / f"{path.stem}.png", panels, panels[1].shape[2])
        print(args.out / f"{path.stem}.png", f"mean confidence {float(np.mean(out.confidence)):.3f}")


if __name__ == "__main__":
    main()
