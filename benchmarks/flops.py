"""FLOPs of one 64x64 window, counted by torch's counter: `python benchmarks/flops.py [preset …]`.

A multiply-add is two FLOPs.
"""

import copy
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from realsrt import presets
from realsrt.model import RealSRT
from realsrt.models.trunk import Trunk, Way
from realsrt.nn.flops import FOR_CPU


def flop_counter() -> FlopCounterMode:
    """torch's counter, by module, with all formulas. Not for training steps: it hooks into modules, which
    ``torch.autograd.grad`` does not bear."""
    return FlopCounterMode(display=False, custom_mapping=FOR_CPU)


def window_flops(model: RealSRT, *, num_steps: int | None = None, want_confidence: bool = False) -> dict[str, float]:
    """GFLOP of one window by part, and in all ("total"), at ``num_steps`` (default: the preset's); a trunk restores it
    whole."""
    if model.trunk is not None:
        model = copy.deepcopy(model)
        assert model.trunk is not None
        torch.nn.init.zeros_(model.trunk.estimator.net[-1].weight)  # of costs that are equal the first is taken
        torch.nn.init.zeros_(model.trunk.estimator.net[-1].bias)
    counter = flop_counter()
    lq = torch.zeros(1, 3, model.config.window, model.config.window)
    with torch.no_grad(), counter:
        model.super_resolve(lq, num_steps=num_steps or model.config.num_steps, want_confidence=want_confidence)
    counts = counter.get_flop_counts()  # by class of the outermost module that was called
    networks = {
        "trunk": model.trunk,
        "encoder": model.tokenizer.encoder,
        "generator": model.generator,
        "critic": model.critic,
        "control": model.control,
        "decoder": model.tokenizer.decoder,
    }
    parts = {name: sum(counts.get(type(part).__name__, {}).values()) / 1e9 for name, part in networks.items() if part}
    total = counter.get_total_flops() / 1e9
    return parts | {"condition and rest": total - sum(parts.values()), "total": total}


def estimator_flops(trunk: Trunk, side: int) -> float:
    """GFLOP of looking at one window."""
    counter = flop_counter()
    with torch.no_grad(), counter:
        trunk.costs(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 1e9


def way_flops(trunk: Trunk, side: int, way: Way) -> float:
    """GFLOP of restoring a window: the base image."""
    counter = flop_counter()
    with torch.no_grad(), counter:
        trunk.restore(torch.zeros(1, 3, side, side), 1.0, way)
    return counter.get_total_flops() / 1e9


def main() -> None:
    for name in sys.argv[1:] or ("base", "small"):
        model, looking = presets.build(name), 0.0
        if model.trunk is not None:
            looking, whole = estimator_flops(model.trunk, 64), way_flops(model.trunk, 64, Way.WHOLE)
            print(f"{name}, the estimator's look, once an image: {looking:.1f} GFLOP; not counted below")
            print(f"{name}, T=0: {whole:.1f} GFLOP")
        for steps in (1, 2, 4):
            parts = window_flops(model, num_steps=steps)
            parts |= {part: parts[part] - looking for part in ("trunk", "total") if part in parts}
            shown = ", ".join(f"{part} {gflop:.1f}" for part, gflop in parts.items())
            print(f"{name}, T={steps}, without the last confidence: {shown} GFLOP")
        if model.trunk is not None and model.trunk.deep is not None:
            for way in (Way.DEEP_REDUCED, Way.DEEP):
                more = way_flops(model.trunk, 64, way) - way_flops(model.trunk, 64, Way.WHOLE)
                print(f"{name}, on top, {way.name.lower()}: {more:.1f} GFLOP")


if __name__ == "__main__":
    main()
