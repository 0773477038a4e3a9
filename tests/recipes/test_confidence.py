"""recipes/confidence.py: the map from the critic's scores to confidences, fitted to ranks."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import realsrt
from realsrt import presets
from realsrt.checkpoint.published import load_squeeze_features
from realsrt.evaluation import pairing, registry
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.models.features import ranks, squeeze_distance
from realsrt.models.heads import straight

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "confidence.py"))


def mapped(knots, score):
    critic = presets.build("tiny", 1).critic
    critic.knots.copy_(knots)
    return critic.confidence(score)


@pytest.mark.parametrize(
    "curve",
    [
        lambda x: (1.7 * x - 0.4).sigmoid(),
        lambda x: 0.3 + 0.3 * ((x > 1) * (x - 1)),  # flat, then steep, as no logistic curve is
        lambda x: 0.5 + 0.4 * (x / 2).tanh() + 0.02 * (9 * x).sin(),  # not everywhere rising
    ],
)
@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_a_fit_finds_the_curve_that_ranks_lie_around(curve, spread):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, generator=rng).clamp(-3, 3)
    y = curve(x)
    knots = RECIPE["fit"](x, y + spread * torch.randn(len(x), generator=rng))
    gaps = [abs(float(mapped(knots, x[part]).mean() - y[part].mean())) for part in x.argsort().chunk(10)]
    assert max(gaps) < 0.02
    assert (knots.half().diff() > 0).all()
    assert (mapped(knots.half().float(), torch.linspace(-8, 8, 4001)).diff() > 0).all()


@pytest.mark.parametrize("x", [torch.linspace(3, -3, 999), torch.zeros(999)])
def test_where_ranks_do_not_rise_with_the_scores_nothing_is_fitted(x):
    with pytest.raises(realsrt.UsageError, match="does not order"):
        RECIPE["fit"](x, torch.linspace(0, 1, 999))


def folders(path):
    rng = np.random.default_rng(0)
    for folder, side in (("lq", 72), ("hr", 288)):
        (path / folder).mkdir()
        pixels = (rng.random((side, side, 3)) * 255).astype(np.uint8)
        imageio.write(path / folder / "a.png", Picture.from_array(pixels))
    return path / "lq", path / "hr"


def test_what_is_measured_is_every_place_of_whole_windows(tmp_path):
    lq, hr = (pairing.load(folder / "a.png") for folder in folders(tmp_path))
    model = presets.build("tiny", 1)
    ((logits, distances),) = RECIPE["measured"](model, [(lq, hr)], registry.checkout_features())
    out = model.super_resolve(lq[:, :, :64, :64])
    torch.testing.assert_close(logits.sigmoid(), out.confidence.flatten())
    whole = squeeze_distance(
        load_squeeze_features(registry.checkout_features()), out.image.clamp(0, 1), hr[:, :, :256, :256]
    )
    assert float(distances.mean()) == pytest.approx(float(whole), rel=0.02)
    assert len(distances) == 1024


def places(rng, level=0.0):
    """Of a pair: ranks rise with the scores, but not as a logistic curve, and more or less far from the target."""
    score = torch.randn(2000, generator=rng)
    close = 0.3 * (score > 0.5) * score + 0.1 * torch.randn(2000, generator=rng) + level
    return score, 5 - close


def test_the_gap_is_of_pairs_that_were_held_out():
    rng = torch.Generator().manual_seed(0)
    critic = presets.build("tiny", 1).critic
    alike = [places(rng) for _ in range(10)]
    assert RECIPE["held_out_gap"](critic, alike) < 0.03
    apart = [places(rng, 0.5 * (index % 5 == 0)) for index in range(10)]
    assert RECIPE["held_out_gap"](critic, apart) > 0.1


def test_the_map_is_of_the_scores_whatever_map_there_was(tmp_path, monkeypatch):
    model = presets.build("tiny", 1)
    model.critic.shift.data.fill_(2.0)
    model.critic.knots[1, 1:-1] += 0.5
    realsrt.save_model(model, tmp_path / "before.safetensors", provenance={"by": "test"})
    lq, hr = folders(tmp_path)
    call = str(tmp_path / "before.safetensors"), lq, hr, tmp_path / "after.safetensors"
    score = 2 * torch.randn(1024, generator=torch.Generator().manual_seed(0))
    true = [(score, 5 - score.tanh())]  # an untrained critic orders nothing
    seen = []
    monkeypatch.setitem(
        RECIPE["main"].__globals__, "measured", lambda model, *_: seen.append(model.critic.knots.clone()) or true
    )
    RECIPE["main"](*call)
    after = realsrt.load_model(tmp_path / "after.safetensors")
    assert torch.equal(seen[0], straight())
    assert torch.equal(after.critic.knots, RECIPE["fit"](score, ranks(score)).half().float())
    assert float(after.critic.shift) == 2
    assert after.info.provenance["by"] == "test"
    told = after.info.provenance["confidence"]
    assert told["pairs"] == 1
    assert told["distances"] == sorted(told["distances"])
    assert told["distances"][0] == pytest.approx(float((5 - score.tanh()).min()), abs=1e-3)
