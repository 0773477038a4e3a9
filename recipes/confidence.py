"""Make the critic's confidence mean what it says, on pairs that took no part in training.

    python recipes/confidence.py small.safetensors lq/ hr/ out.safetensors

A critic of distances (`--critic-labels far`) foretells how close the image is to its target at each place, as a rank:
at confidence 0.8 a place is closer than 80 % of all places of these pairs. After training its ranks keep to the middle.
Its gain and shift, two numbers, are fitted again here by logistic regression (Platt scaling) to the ranks of all places
of all pairs; the order of places, and so what is generated, stays. `benchmarks/confidence.py` draws the reliability
curve on others.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import realsrt
from realsrt.evaluation import pairing, registry
from realsrt.losses import load_squeeze_features
from realsrt.models.features import cell_means, ranks, squeeze_maps
from realsrt.models.heads import CodeCritic

QUANTILES = 65
"""Of the pairs' distances, in the file: what its confidence is a rank among."""


def fit(logits_N: Tensor, ranks_N: Tensor) -> tuple[float, float]:
    """Factor and summand of logits whose sigmoid is nearest to ranks by cross-entropy, found by Newton's method."""
    x, y = logits_N.double(), ranks_N.double()
    both = torch.stack([x, torch.ones_like(x)], 1)
    found = torch.zeros(2, dtype=torch.float64)
    for _ in range(30):
        p = (both @ found).sigmoid()
        found += torch.linalg.solve((both * (p * (1 - p))[:, None]).T @ both, both.T @ (y - p))
    return float(found[0]), float(found[1])


@torch.inference_mode()
def measured(model: realsrt.RealSRT, pairs: list[tuple[Tensor, Tensor]], features: Path) -> tuple[Tensor, Tensor]:
    """Logits of the confidence, and squeeze distances, of all places of images' whole windows."""
    squeeze = load_squeeze_features(features)
    side, scale = model.config.window, model.config.scale
    logits, distances = [], []
    for lq, target in pairs:
        lq = pairing.crop_multiple(lq, side)
        for y in range(0, lq.shape[2], side):
            for x in range(0, lq.shape[3], side):
                out = model.super_resolve(lq[:, :, y : y + side, x : x + side], num_steps=model.config.num_steps)
                assert out.confidence is not None
                cut = tuple(slice(at * scale, (at + side) * scale) for at in (y, x))
                maps = squeeze_maps(squeeze, out.image.clamp(0, 1), target[:, :, *cut])
                rows, columns = out.confidence.shape[1:]
                logits.append(out.confidence.logit(1e-6).flatten())
                distances.append(cell_means(maps, (rows, columns)).flatten())
    return torch.cat(logits), torch.cat(distances)


def closeness(distance_N: Tensor) -> Tensor:
    """The rank of each among all, from 0, the farthest, to 1."""
    return ranks(-distance_N)


def main(weights: str, lq: Path, hr: Path, out: Path) -> None:
    model = realsrt.load_model(weights)
    if not isinstance(model.critic, CodeCritic):
        raise realsrt.UsageError(f"{weights}: its critic has no gain and shift to fit")
    groups = pairing.match({"lq": lq, "hr": hr}).groups.values()
    pairs = [(pairing.load(group["lq"]), pairing.load(group["hr"])) for group in groups]
    logits_N, distance_N = measured(model, pairs, registry.checkout_features())
    factor, summand = fit(logits_N, closeness(distance_N))
    if factor <= 0:
        raise realsrt.UsageError(f"{weights}: its confidence does not order these places; nothing is fitted")
    with torch.no_grad():
        model.critic.gain.mul_(factor)
        model.critic.shift.mul_(factor).add_(summand)
    distances = [round(float(x), 4) for x in np.quantile(distance_N.numpy(), np.linspace(0, 1, QUANTILES))]
    told = {"pairs": len(pairs), "factor": round(factor, 4), "summand": round(summand, 4)}
    provenance = {**model.info.provenance, "confidence": told | {"distances": distances}}
    realsrt.save_model(model, out, dtype=torch.float16, provenance=provenance)
    print(f"{out}: {told}")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))
