"""Make the critic's confidence mean what it says, on pairs that took no part in training.

    python recipes/confidence.py small.safetensors lq/ hr/ out.safetensors

A critic of distances (`--critic-labels far`) foretells how close the image is to its target at each place, as a rank:
at confidence 0.8 a place is closer than 80 % of all places of these pairs. After training its ranks keep to the middle.
Here a rising map of its scores is fitted to the ranks of all places of all pairs by isotonic regression, and stored as
a few knots beside the critic; the scores themselves, their order, and so what is generated, stay. Last of all: any
later training makes another critic or other images. What is printed is measured on pairs that each map was not fitted
to, a fifth at a time; `benchmarks/confidence.py` draws the reliability curve on other images.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import realsrt
from realsrt.checkpoint.published import load_squeeze_features
from realsrt.evaluation import pairing, registry
from realsrt.evaluation.metrics import largest_gap
from realsrt.models.features import cell_means, ranks, squeeze_maps
from realsrt.models.heads import KNOTS, CodeCritic, straight

QUANTILES = 65
"""Of the pairs' distances, in the file: what its confidence is a rank among."""
RISE = 0.01
"""Of score and rank from a knot to the next, at least: half precision tells them apart."""
FOLDS = 5


def fit(score_N: Tensor, rank_N: Tensor) -> Tensor:
    """The knots (2, K) of a rising map from scores to logits of ranks, by isotonic regression on the means of equally
    filled bins: neighbours are pooled until they rise. Raises UsageError where nothing does."""
    pools: list[list[list[float]]] = []  # of bins, each mean score and mean rank
    for places in score_N.argsort(stable=True).tensor_split(KNOTS - 2):
        pools.append([[float(score_N[places].mean()), float(rank_N[places].mean())]])
        while len(pools) > 1 and not rises(*pools[-2:]):
            last = pools.pop()
            pools[-1] += last
    if len(pools) < 2:
        raise realsrt.UsageError("the confidence does not order these places; nothing is fitted")
    points = []
    for pool in pools:
        score, rank = np.mean(pool, 0)
        wide = pool[-1][0] - pool[0][0] >= RISE
        points += [(pool[0][0], rank - RISE / 4), (pool[-1][0], rank + RISE / 4)] if wide else [(score, rank)]
    found_2M, knots = torch.tensor(points).float().T, straight()
    found_2M[1] = found_2M[1].logit()
    count = len(points)
    knots[:, 1 : count + 1] = found_2M
    # Those left over divide the way from the last to the end.
    knots[:, count:] = torch.lerp(found_2M[:, -1:], knots[:, -1:], torch.linspace(0, 1, KNOTS - count))
    return knots


def rises(low: list[list[float]], high: list[list[float]]) -> bool:
    """Whether a pool's scores, and its mean rank, are above another's."""
    return high[0][0] - low[-1][0] >= RISE and bool(np.mean(high, 0)[1] - np.mean(low, 0)[1] >= RISE)


@torch.inference_mode()
def measured(model: realsrt.RealSRT, pairs: list[tuple[Tensor, Tensor]], features: Path) -> list[tuple[Tensor, Tensor]]:
    """Of each pair logits of the confidence, and squeeze distances, of all places of the image's whole windows."""
    squeeze = load_squeeze_features(features)
    side, scale = model.config.window, model.config.scale
    found = []
    for lq, target in pairs:
        lq = pairing.crop_multiple(lq, side)
        logits, distances = [], []
        for y in range(0, lq.shape[2], side):
            for x in range(0, lq.shape[3], side):
                out = model.super_resolve(lq[:, :, y : y + side, x : x + side], num_steps=model.config.num_steps)
                assert out.confidence is not None
                cut = tuple(slice(at * scale, (at + side) * scale) for at in (y, x))
                maps = squeeze_maps(squeeze, out.image.clamp(0, 1), target[:, :, *cut])
                rows, columns = out.confidence.shape[1:]
                logits.append(out.confidence.logit(1e-6).flatten())
                distances.append(cell_means(maps, (rows, columns)).flatten())
        found.append((torch.cat(logits), torch.cat(distances)))
    return found


def fit_to(critic: CodeCritic, places: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Give the critic the map of pairs' places, and say their distances in order."""
    score_N, distance_N = map(torch.cat, zip(*places, strict=True))
    critic.knots.copy_(fit(score_N, ranks(-distance_N)))
    return distance_N.sort().values


def held_out_gap(critic: CodeCritic, places: list[tuple[Tensor, Tensor]]) -> float:
    """The largest difference of mean confidence and mean rank in ten equally filled bins, each pair's by a map fitted
    to other pairs."""
    told, true = [], []
    for fold in range(FOLDS):
        among = fit_to(critic, [pair for index, pair in enumerate(places) if index % FOLDS != fold])
        for score, distance in places[fold::FOLDS]:
            told.append(critic.confidence(score))
            true.append(1 - torch.searchsorted(among, distance) / len(among))
    return largest_gap(torch.cat(told), torch.cat(true))


def main(weights: str, lq: Path, hr: Path, out: Path) -> None:
    model = realsrt.load_model(weights)
    critic = model.critic
    if not isinstance(critic, CodeCritic):
        raise realsrt.UsageError(f"{weights}: its critic has no map to fit")
    critic.knots.copy_(straight())  # what is measured is its scores
    groups = pairing.match({"lq": lq, "hr": hr}).groups.values()
    pairs = [(pairing.load(group["lq"]), pairing.load(group["hr"])) for group in groups]
    places = measured(model, pairs, registry.checkout_features())
    gap = held_out_gap(critic, places) if len(pairs) >= FOLDS else float("nan")
    quantiles = np.quantile(fit_to(critic, places).numpy(), np.linspace(0, 1, QUANTILES))
    told = {"pairs": len(pairs), "distances": [round(float(x), 4) for x in quantiles]}
    provenance = {**model.info.provenance, "confidence": told}
    realsrt.save_model(model, out, dtype=torch.float16, provenance=provenance)
    print(f"{out}: {len(pairs)} pairs; largest gap in ten bins of pairs that were held out: {gap:.3f}")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))
