"""FLOPs of one 64x64 window, counted by torch's counter: `python benchmarks/flops.py [preset …]`.

A multiply-add is two FLOPs.
"""

import copy
import sys
from collections.abc import Callable

import torch
from torch import Tensor
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


def gflop(run: Callable[[], object]) -> float:
    """GFLOP of a call."""
    counter = flop_counter()
    with torch.no_grad(), counter:
        run()
    return counter.get_total_flops() / 1e9


def estimator_flops(trunk: Trunk, lq_BCHW: Tensor) -> float:
    """GFLOP of the estimator's look at a window."""
    return gflop(lambda: trunk.costs(lq_BCHW))


def way_flops(trunk: Trunk, lq_BCHW: Tensor, way: Way) -> float:
    """GFLOP of a window's base image."""
    return gflop(lambda: trunk.restore(lq_BCHW, 1.0, way))


def main() -> None:
    for name in sys.argv[1:] or ("base", "small"):
        model, looking, whole = presets.build(name), 0.0, 0.0
        trunk, lq = model.trunk, torch.zeros(1, 3, 64, 64)
        if trunk is not None:
            looking, whole = estimator_flops(trunk, lq), way_flops(trunk, lq, Way.WHOLE)
            print(f"{name}, the estimator's look, once an image: {looking:.1f} GFLOP; not counted below")
            print(f"{name}, T=0: {whole:.1f} GFLOP")
        for steps in (1, 2, 4):
            parts = window_flops(model, num_steps=steps)
            parts |= {part: parts[part] - looking for part in ("trunk", "total") if part in parts}
            shown = ", ".join(f"{part} {count:.1f}" for part, count in parts.items())
            print(f"{name}, T={steps}, without the last confidence: {shown} GFLOP")
        if trunk is not None and trunk.deep is not None:
            for way in (Way.DEEP_REDUCED, Way.DEEP):
                print(f"{name}, on top, {way.name.lower()}: {way_flops(trunk, lq, way) - whole:.1f} GFLOP")


if __name__ == "__main__":
    main()
