"""The trunk: ends, strengths between them, the estimator's reach, and what is made of its costs."""

import copy

import pytest
import torch

from realsrt import presets
from realsrt.imaging.resize import upscale_bicubic
from realsrt.models.srvgg import SRVGGConfig
from realsrt.models.trunk import (
    CHOICES,
    PIECE,
    SHARES,
    STRENGTHS,
    EstimatorConfig,
    StrengthEstimator,
    TrunkConfig,
    Variation,
    Way,
    choose,
    mix,
    pieces,
    vary,
    weigh_shares,
)


@pytest.fixture(scope="module")
def trunk():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = TrunkConfig(SRVGGConfig(16, 3), EstimatorConfig(8)).build().eval()
    return made.requires_grad_(False)


def costs(*cheap, way=Way.WHOLE):
    """Costs (K,), in which some (strength, share) are by far the cheapest."""
    made = torch.ones(len(Way), *CHOICES[1:])
    for strength, share in cheap:
        made[way, STRENGTHS.index(strength), SHARES.index(share)] = 0.0
    return made.flatten()


def test_the_ends_are_the_published_networks(trunk):
    assert trunk.network(0.0) is trunk.mild
    assert trunk.network(1.0) is trunk.strong


def test_strengths_between_interpolate_every_tensor(trunk):
    between = trunk.network(0.25).state_dict()
    mild, strong = trunk.mild.state_dict(), trunk.strong.state_dict()
    for key, value in between.items():
        torch.testing.assert_close(value, 0.75 * mild[key] + 0.25 * strong[key])


def test_the_last_three_strengths_between_are_kept(trunk):
    first = {strength: trunk.network(strength) for strength in (0.25, 0.5, 0.75)}
    assert all(trunk.network(strength) is network for strength, network in first.items())
    trunk.network(0.1)  # takes the place of 0.25
    assert trunk.network(0.75) is first[0.75]
    assert trunk.network(0.25) is not first[0.25]


@pytest.mark.parametrize("change", ["loaded", "moved"])
def test_kept_strengths_follow_the_weights(trunk, change):
    own = copy.deepcopy(trunk)
    own.network(0.25)
    if change == "loaded":
        own.load_state_dict({f"mild.{key}": value + 1 for key, value in trunk.mild.state_dict().items()}, strict=False)
    else:
        own.double()
    after = own.network(0.25).state_dict()
    mild, strong = own.mild.state_dict(), own.strong.state_dict()
    for key, value in after.items():
        torch.testing.assert_close(value, 0.75 * mild[key] + 0.25 * strong[key])


def test_the_cheapest_strength_and_its_share():
    found = choose(costs((0.5, 0.25)))
    assert found.denoise == 0.5
    assert found.share == pytest.approx(0.25, abs=1e-3)
    assert found.way == Way.WHOLE
    assert choose(costs((1.0, 0.5), (1.0, 1.0))).share == pytest.approx(0.75, abs=1e-3)  # two as good: their mean


@pytest.mark.parametrize("denoise", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("way", Way)
def test_every_way_under_autocast(way, denoise):
    """Images of single precision, and near to those without: bfloat16 has 128 levels from a half to one."""
    trunk = presets.build("tiny", 5).trunk
    ramp = torch.linspace(0.4, 0.6, 40).expand(1, 3, 24, 40)
    with torch.inference_mode():
        exact = mix(upscale_bicubic(ramp, 4), trunk.restore(ramp, denoise, way)[1], 0.5)
        with torch.autocast("cpu", torch.bfloat16):
            found = mix(upscale_bicubic(ramp, 4), trunk.restore(ramp, denoise, way)[1], 0.5)
            if way.deep and denoise == 1:
                seen = trunk.see(ramp, denoise, way)
                assert seen.dtype == torch.float32
                assert seen[0, 0, 40].unique().numel() > 150
    torch.testing.assert_close(found, exact, rtol=0, atol=0.02)


@pytest.mark.parametrize("way", [Way.DEEP_REDUCED, Way.DEEP])
def test_a_deep_way_is_taken_where_it_costs_less_and_may_be(way):
    made = costs((1.0, 0.5), way=way)
    made[STRENGTHS.index(0.5) * len(SHARES)] = 0.5
    assert choose(made) == pytest.approx((1.0, 0.5, way), abs=1e-3)
    assert choose(made, deep=False) == pytest.approx((0.5, 0.0, Way.WHOLE), abs=1e-3)
    assert choose(made[: len(made) // 2]).way == Way.WHOLE  # a trunk without it
    assert choose(costs((0.0, 0.5), way=way)) == pytest.approx((0.0, 0.5, Way.WHOLE), abs=1e-3)  # of no strength


def test_an_input_is_reduced_where_that_costs_less():
    made = costs((0.5, 0.25), way=Way.REDUCED)
    assert choose(made) == pytest.approx((0.5, 0.25, Way.REDUCED), abs=1e-3)
    assert choose(made, 0.75).way == Way.REDUCED  # by the costs at that strength
    assert choose(made, 1.0).way == Way.WHOLE


@pytest.mark.parametrize("own", [0.0, 0.5, 1.0])
def test_variations_lie_around_the_own_amounts(own):
    """Their strengths reach the other end and never leave the range, their shares go both ways; none is the own."""
    costs = torch.zeros(len(Way), *CHOICES[1:]).flatten()
    before = choose(costs, own)
    around = [vary(costs, before, Variation(turn / 16, 1.0)) for turn in range(16)]
    strengths, shares, _ = zip(*around, strict=True)
    assert min(strengths) >= 0
    assert max(strengths) <= 1
    assert max(abs(strength - own) for strength in strengths) >= 0.5
    assert min(shares) < before.share - 0.3
    assert max(shares) > before.share + 0.7
    assert min(abs(strength - own) + abs(share - before.share) for strength, share, _ in around) > 0.3
    assert len(set(around)) > 14
    assert vary(costs, before, Variation(0.3, 0.0)) == before


def test_a_given_strength_is_taken_and_its_shares_weighed():
    made = costs((0.0, 0.25), (1.0, 1.0))
    assert choose(made, 0.0) == pytest.approx((0.0, 0.25, Way.WHOLE), abs=1e-3)
    assert choose(made, 0.5) == pytest.approx((0.5, 0.5, Way.WHOLE), abs=1e-3)  # nothing is known: the mean of all
    assert float(weigh_shares(made.unflatten(0, CHOICES)[:1], 0.75)) == pytest.approx(
        1.0, abs=0.01
    )  # half of what is known of 1


def test_pictures_of_a_batch_get_their_own_amounts(trunk):
    lq = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features, base = trunk(lq)
        for index in range(3):
            alone = trunk(lq[index : index + 1])
            torch.testing.assert_close(alone[0][0], features[index])
            torch.testing.assert_close(alone[1][0], base[index])
    assert features.shape == (3, 16, 32, 48)
    assert base.shape == (3, 3, 128, 192)


def test_a_share_of_nothing_is_the_plain_enlargement_and_a_whole_one_the_network(trunk, monkeypatch):
    lq = torch.rand(1, 3, 16, 32)
    for share, expected in ((0.0, upscale_bicubic(lq, 4)), (1.0, trunk.strong(lq))):
        monkeypatch.setattr(StrengthEstimator, "forward", lambda _, x, s=share: costs((1.0, s))[None])
        torch.testing.assert_close(trunk(lq, 1.0)[1], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("side", "count"), [(1, 1), (64, 1), (65, 2), (384, 2), (385, 3), (30_000, 3)])
def test_pieces_are_spread_over_the_image(side, count):
    found = pieces(side, 64)
    assert len(found) == count
    assert all(columns == slice(0, 64) for _, columns in found)
    assert all(rows.stop - rows.start == min(side, PIECE) for rows, _ in found)
    assert found[0][0].start == 0
    assert found[-1][0].stop == side
    assert len(pieces(side, side)) == count**2


def test_a_small_image_is_looked_at_whole_and_a_large_one_at_its_pieces(trunk):
    small, large = torch.rand(1, 3, 20, 40), torch.rand(1, 3, 70, 200)
    parts = [trunk.look(large[:, :, rows, columns]) for rows, columns in pieces(70, 200)]
    with torch.inference_mode():
        torch.testing.assert_close(trunk.costs(small), trunk.estimator(trunk.look(small)))
        torch.testing.assert_close(trunk.costs(large), trunk.estimator(torch.stack(parts).mean(0)))
    assert trunk.look(small).shape == (1, 2 * 16)


def test_sides_of_any_size(trunk):
    assert trunk.costs(torch.rand(1, 3, 17, 1)).shape == (1, Way.DEEP_REDUCED * len(STRENGTHS) * len(SHARES))
    assert bool(trunk.look(torch.zeros(1, 3, 1, 1)).isfinite().all())
    assert trunk(torch.rand(1, 3, 1, 17))[1].shape == (1, 3, 4, 68)


def test_an_untrained_small_model_is_its_trunk():
    model = presets.build("small")
    lq = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        out = model.super_resolve(lq, num_steps=1)
        assert torch.equal(out.image, model.trunk(lq)[1])
