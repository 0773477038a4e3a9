"""The exact path beside the paper's schedule (plain.py), and the share of this machine's peak:

    python benchmarks/speed.py [preset or weight file …] [--side 96] [--steps 4] [--repeats 3] [--compile]

Both take the same image, stride 32, threads and weights, in turns in one run. Share of peak: FLOPs of one window by
torch's counter, over its seconds, over the best float32 matrix product measured here; and where the time goes.
"""

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from flops import window_flops
from plain import upscale
from torch.profiler import ProfilerActivity, profile

import realsrt
from realsrt.model import RealSRT
from realsrt.training.throughput import matmul_peak


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    started = time.perf_counter()
    out = call()
    return time.perf_counter() - started, out


def soft_image(side: int) -> torch.Tensor:
    """An image (1,3,side,side) of soft shapes and a little noise."""
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, side // 12 + 1, side // 12 + 1, generator=rng)
    soft = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)
    return (soft + 0.02 * torch.randn(soft.shape, generator=rng)).clamp(0, 1)


def compare(model: RealSRT, side: int, steps: int, repeats: int, compiled: RealSRT | None) -> None:
    lq = soft_image(side)
    for one in (model, compiled):
        if one is not None:
            one.config = replace(one.config, blend="gaussian")
    up = realsrt.Upscaler(compiled or model, "cpu", compile=compiled is not None)
    options = {"steps": steps, "stride": 32, "color_fix": "adain", "refine": "dense", "confidence_exit": 1.0}
    ours, plain = [], []
    up.upscale(lq[..., :64, :64], **options)  # warm
    for _ in range(repeats):
        ours.append(timed(lambda: up.upscale(lq, confidence=False, **options)))
        plain.append(timed(lambda: upscale(model, lq[0], num_steps=steps)))
    out, (image, ids) = ours[-1][1], plain[-1][1]
    ours, plain = ([took for took, _ in runs] for runs in (ours, plain))
    same = (torch.from_numpy(out.ids[0]).flatten(1) == ids).float().mean()
    gap = (out.image[0] - image).abs().max()
    print(
        f"{len(ids)} windows, T={steps}: plain {median(plain):.2f} s, ours {median(ours):.2f} s, "
        f"ratio {median(ours) / median(plain):.3f}; same ids {same:.2%}, largest difference {gap:.1e}"
    )


def share(model: RealSRT, steps: int, repeats: int) -> None:
    lq = soft_image(64)
    with torch.inference_mode():
        call = lambda: model.super_resolve(lq, num_steps=steps, want_confidence=False)  # noqa: E731
        call()
        took = min(timed(call)[0] for _ in range(repeats + 2))
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            call()
    work = window_flops(model, num_steps=steps)["total"] * 1e9
    peak = matmul_peak("cpu", torch.float32, seconds=0.5)
    rate = work / took
    print(f"one window, T={steps}: {took:.3f} s, {rate / 1e9:.0f} GFLOP/s, {rate / peak:.0%} of {peak / 1e9:.0f}")
    rows = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)[:9]
    whole = sum(row.self_cpu_time_total for row in profiler.key_averages())
    print("  " + ", ".join(f"{row.key.removeprefix('aten::')} {row.self_cpu_time_total / whole:.0%}" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["base", "small"])
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="ours compiled; the plain schedule never is")
    args = parser.parse_args()
    for name in args.models:
        model = realsrt.presets.build(name, 0) if name == "base" else realsrt.load_model(name)
        model.eval()
        print(f"== {name}, {torch.get_num_threads()} threads")
        compare(model, args.side, args.steps, args.repeats, copy.deepcopy(model) if args.compile else None)
        share(model, args.steps, args.repeats)


if __name__ == "__main__":
    main()
