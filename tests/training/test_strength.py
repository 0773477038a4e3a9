"""The strength stage: what the estimator is told, what it pays for its choices, and what a run leaves."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("accelerate")

import realsrt
from realsrt import presets
from realsrt.errors import UsageError
from realsrt.models.features import SqueezeFeatures
from realsrt.models.rrdbnet import RRDBConfig
from realsrt.models.srvgg import SRVGGConfig
from realsrt.models.trunk import CHOICES, SHARES, STRENGTHS, Way
from realsrt.training import train
from realsrt.training.config import make_config
from realsrt.training.pair_pool import Batch, PairPool, Pairs
from realsrt.training.stages import BUILDERS
from realsrt.training.stages.strength import LEAN, TIME, StrengthMain, measured_costs
from support.runs import log_of, train_until_killed

TINY = {"batch": 2, "crop": 64, "tile": 64, "pool": 6, "refresh": 1, "log_every": 2}
cost_of_choice = StrengthMain.cost_of_choice


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A feature file; what it holds is of no consequence here."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("features") / "squeezenet.safetensors"
    save_file(dict(SqueezeFeatures().state_dict()), path)
    return path


@pytest.fixture
def stage(features):
    model = presets.build("tiny", seed=3)
    return BUILDERS["strength"](model, make_config("strength", max_steps=1, init=Path("x"), perceptual_file=features))


def table(costs, images=1):
    """Costs (B,K): 1 everywhere but for {(image, strength, share): cost}."""
    made = torch.ones(images, len(Way), *CHOICES[1:])
    for (image, strength, share), cost in costs.items():
        made[image, 0, STRENGTHS.index(strength), SHARES.index(share)] = cost
    return made.flatten(1)


def make_pool(count=6, side=64, lanes=2, own=None):
    """Pair n is noise of its own strength around its own brightness."""

    def make(numbers):
        lq = torch.zeros(len(numbers), 3, side // 4, side // 4, dtype=torch.uint8)
        for image, n in zip(lq, numbers, strict=True):
            rng = torch.Generator().manual_seed(n)
            image[:] = (100 + 5 * n + (3 + 4 * n) * torch.randn(image.shape, generator=rng)).clamp(0, 255)
        return Pairs(lq, torch.zeros(len(numbers), 3, side, side, dtype=torch.uint8))

    return PairPool(make, size=count, refresh=1, seed=0, scale=4, tile=side, lanes=lanes, own=own)


def test_a_sure_choice_costs_what_it_costs():
    paid = table({(0, 0.5, 0.75): -3.0, (1, 1.0, 0.25): 0.5}, images=2)
    sure = table({(0, 0.5, 0.75): -4.0, (1, 1.0, 0.25): -4.0}, images=2)
    assert float(cost_of_choice(sure, paid)) == pytest.approx((-3.0 + 0.5) / 2, abs=1e-4)
    wrong = table({(0, 0.0, 1.0): -4.0, (1, 0.0, 1.0): -4.0}, images=2)
    assert float(cost_of_choice(wrong, paid)) == pytest.approx(1.0, abs=1e-4)


def test_an_error_that_changes_no_choice_costs_nothing():
    paid = table({(0, 0.5, 0.5): -1.0})
    right, off = paid.clone(), paid * 3 - 7
    assert float(cost_of_choice(off, paid)) == pytest.approx(float(cost_of_choice(right, paid)), abs=1e-4)


def test_learning_moves_the_choice_to_what_is_cheaper():
    paid = table({(0, 0.5, 0.5): -1.0})
    guess = torch.zeros_like(paid, requires_grad=True)
    cost_of_choice(guess, paid).backward()
    place = STRENGTHS.index(0.5) * len(SHARES) + SHARES.index(0.5)
    slope = guess.grad.flatten()
    assert int(slope.argmax()) == place  # a lower guess there pays best
    assert float(slope[place]) > 0


def test_costs_are_those_of_the_images(stage):
    """A target that is the network's own image of some strength: that one, whole, costs least, but for what the lean
    gives and the time takes; and the plain enlargement costs these alone."""
    trunk = stage.main.trunk
    lq = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    features = stage.main._features[0]
    for number, (way, strength) in enumerate(itertools.product(Way, STRENGTHS)):
        target = trunk.restore(lq, strength, way)[1].clamp(0, 1)
        found = measured_costs(trunk, features, lq, target).unflatten(1, CHOICES)
        more = torch.tensor([[TIME.get(of, 0.0) * (other > 0) - LEAN * other for other in STRENGTHS] for of in Way])
        torch.testing.assert_close(found[..., 0], more.expand(2, -1, -1))
        bare = found - more[..., None]
        number = 0 if strength == 0 and way.deep else number  # of no strength, that is the whole way
        assert (bare.flatten(1).argmin(1) == number * len(SHARES) + len(SHARES) - 1).all()


def test_the_loss_is_the_error_and_the_choice(stage):
    """Every batch draws from the pairs that were measured, and what is learned is to choose for these."""
    stage.prepare(make_pool())
    main, batch = stage.main, Batch(*[torch.empty(6, 0)] * 2, tuple(range(6)), *[torch.empty(6, 0)] * 2)
    first = main(batch, 0)
    torch.testing.assert_close(first.loss, first.figures["error"] + first.figures["chosen"])
    torch.testing.assert_close(first.figures["best"], main.costs_NK.amin(1).mean())
    assert first.figures["best"] <= first.figures["chosen"]
    optimizer = torch.optim.AdamW([p for p in main.parameters() if p.requires_grad], lr=1e-2)
    for step in range(120):
        outcome = main(batch, step)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
    missed = first.figures["chosen"] - first.figures["best"]
    assert outcome.figures["error"] < first.figures["error"] / 2
    assert outcome.figures["chosen"] - outcome.figures["best"] < missed / 2


def test_what_is_measured_is_the_pool(stage):
    """The pairs that it holds at the start, once each; statistics are theirs."""
    pool, main = make_pool(), stage.main
    assert stage.prepare is not None
    stage.prepare(pool)
    lq, gt = (torch.cat(parts) for parts in zip(*pool.held(0, 4), strict=True))
    torch.testing.assert_close(main.looks_NS, main.trunk.look(lq))
    torch.testing.assert_close(main.costs_NK, measured_costs(main.trunk, main._features[0], lq, gt))
    found, estimator = main.looks_NS, main.trunk.estimator
    assert found.shape == (6, 2 * 16)
    torch.testing.assert_close(estimator.mean, found.mean(0))
    torch.testing.assert_close(estimator.deviation, found.std(0, correction=0).clamp(min=1e-3))
    before = estimator.mean.clone(), estimator.deviation.clone()
    stage.prepare(make_pool(count=2))  # weights that know theirs keep them
    assert torch.equal(estimator.mean, before[0])
    assert torch.equal(estimator.deviation, before[1])
    pool.close()


def test_a_pool_shows_every_pair_of_its_own():
    def held(step, count, **options):
        return torch.cat([lq for lq, _ in make_pool(**options).held(step, count)])

    tiles = held(3, 4)
    assert tiles.shape == (6, 3, 16, 16)
    assert torch.equal(tiles, held(3, 1))
    assert torch.equal(tiles[1::2], held(3, 2, own=range(1)))  # the first of step 3 is pair 3, of lane 1
    assert torch.equal(tiles[::2], held(3, 2, own=range(1, 2)))
    assert not torch.equal(tiles, held(0, 4))


def test_a_run_starts_from_published_networks(photos, features, tmp_path):
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    networks = [config.build() for config in (SRVGGConfig(16, 2), SRVGGConfig(16, 2), RRDBConfig(8, 1, 4))]
    for network, path in zip(networks, paths, strict=True):
        save_file(network.state_dict(), path)
    options = {"preset": "tiny", "data": (photos,), "perceptual_file": features, "max_steps": 1, **TINY}
    made = train(make_config("strength", trunk=tuple(paths), out=tmp_path / "run", **options))
    trunk = realsrt.load_model(made).trunk
    for network, own in zip(networks, (trunk.mild, trunk.strong, trunk.deep), strict=True):
        assert all(torch.equal(value, own.state_dict()[key]) for key, value in network.state_dict().items())
    with pytest.raises(UsageError, match=r"0\.safetensors holds SRVGGConfig.* takes RRDBConfig"):
        train(make_config("strength", trunk=(paths[0], paths[1], paths[0]), out=tmp_path / "no", **options))
    with pytest.raises(UsageError, match=r"two files, .* or three"):
        make_config("strength", trunk=(paths[0],), max_steps=1)


def test_a_run_leaves_an_estimator_and_nothing_else_new(photos, features, tmp_path, monkeypatch):
    """From weights that know no statistics; killed half-way it goes on to the same bits."""
    start = presets.build("tiny", seed=1)
    realsrt.save_model(start, tmp_path / "start.safetensors")
    options = {
        "data": (photos,), "init": tmp_path / "start.safetensors", "perceptual_file": features, "max_steps": 4,
        "save_steps": 2, **TINY,
    }  # fmt: skip
    path = train(make_config("strength", out=tmp_path / "whole", **options))
    made, known = realsrt.load_model(path).state_dict(), start.state_dict()
    moved = {key for key, value in made.items() if not torch.equal(value, known[key])}
    assert moved == {key for key in known if key.startswith("trunk.estimator.")}
    assert float(made["trunk.estimator.mean"].abs().max()) > 0.5

    broken = make_config("strength", out=tmp_path / "broken", **options)
    train_until_killed(broken, monkeypatch, 3)
    again = train(make_config("strength", out=tmp_path / "broken", resume=True, **options))
    assert all(torch.equal(value, made[key]) for key, value in realsrt.load_model(again).state_dict().items())
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "whole")
    further = train(
        make_config("strength", out=tmp_path / "more", **options | {"init": path, "seed": 5, "max_steps": 1})
    )
    assert torch.equal(realsrt.load_model(further).state_dict()["trunk.estimator.mean"], made["trunk.estimator.mean"])
