"""The trunk: ends, strengths between them, the estimator's reach, and what is made of its costs."""

import copy

import pytest
import torch

from realsrt import presets
from realsrt.imaging.resize import upscale_bicubic
from realsrt.models.srvgg import SRVGGConfig
from realsrt.models.trunk import (
    CELL,
    MEASURED_AROUND,
    SHARES,
    STATISTICS,
    STRENGTHS,
    EstimatorConfig,
    StrengthEstimator,
    TrunkConfig,
    choose,
    measure,
    stretch,
    weigh_shares,
)


@pytest.fixture(scope="module")
def trunk():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = TrunkConfig(SRVGGConfig(16, 3), EstimatorConfig(8)).build().eval()
    return made.requires_grad_(False)


def costs(*cheap):
    """Costs of two cells, in which one (strength, share) each is by far the cheapest."""
    made = torch.ones(len(STRENGTHS), len(SHARES), 1, len(cheap))
    for cell, (strength, share) in enumerate(cheap):
        made[STRENGTHS.index(strength), SHARES.index(share), 0, cell] = 0.0
    return made.flatten(0, 1)


def test_the_ends_are_the_published_networks(trunk):
    assert trunk.network(0.0) is trunk.mild
    assert trunk.network(1.0) is trunk.strong


def test_strengths_between_interpolate_every_tensor(trunk):
    between = trunk.network(0.25).state_dict()
    mild, strong = trunk.mild.state_dict(), trunk.strong.state_dict()
    for key, value in between.items():
        torch.testing.assert_close(value, 0.75 * mild[key] + 0.25 * strong[key])


def test_as_many_strengths_are_kept_as_the_estimator_chooses_from(trunk):
    first = {strength: trunk.network(strength) for strength in STRENGTHS}
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


def test_one_strength_for_the_picture_and_a_share_for_each_cell():
    found = choose(costs((0.75, 1.0), (0.75, 0.25)))
    assert found.denoise == 0.75
    torch.testing.assert_close(found.share_hw, torch.tensor([[1.0, 0.25]]), rtol=0, atol=1e-3)


def test_a_given_strength_is_taken_and_its_shares_weighed():
    made = costs((0.25, 0.5), (0.75, 1.0))
    assert choose(made, 0.25).denoise == 0.25
    assert choose(made, 0.25).share_hw[0, 0] == pytest.approx(0.5, abs=1e-3)
    assert choose(made, 0.25).share_hw[0, 1] == pytest.approx(0.5, abs=1e-3)  # nothing is known: the mean of all
    halfway = weigh_shares(made[None], 0.125)[0, 0, 0]
    assert halfway == pytest.approx(0.5, abs=1e-3)


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
        monkeypatch.setattr(StrengthEstimator, "forward", lambda _, x, s=share: costs((1.0, s), (1.0, s))[None])
        torch.testing.assert_close(trunk(lq, 1.0)[1], expected, rtol=0, atol=1e-3)


def test_cells_are_measured_with_little_around_them():
    lq = torch.rand(1, 3, 3 * CELL, 9 * CELL)
    whole = measure(lq)
    first = 4 * CELL - MEASURED_AROUND
    part = measure(lq[..., first : 5 * CELL + MEASURED_AROUND])
    assert torch.equal(part[..., MEASURED_AROUND // CELL], whole[..., 4])
    assert whole.shape == (1, STATISTICS, 3, 9)


def test_noise_blur_and_jpeg_are_told_apart():
    rng = torch.Generator().manual_seed(0)
    smooth = upscale_bicubic(torch.rand(1, 3, 8, 8, generator=rng), 8).clamp(0, 1)
    noisy = smooth + 0.05 * torch.randn(smooth.shape, generator=rng)
    blocks = torch.nn.functional.avg_pool2d(smooth, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    clean, noise, jpeg = (measure(image).mean((0, 2, 3)) for image in (smooth, noisy, blocks))
    assert noise[3] > clean[3] + 1  # the median of what neighbours do not foretell
    assert (jpeg[-2:] > clean[-2:] + 1).all()


def test_costs_follow_from_a_cell_and_the_picture(trunk):
    found = measure(torch.rand(1, 3, 2 * CELL, 2 * CELL))
    other = found.clone()
    other[..., 0, 0] += 1.0
    moved = (trunk.estimator(found) != trunk.estimator(other)).any(1)[0]
    assert moved.all()


def test_sides_that_cells_do_not_fit(trunk):
    assert trunk.costs(torch.rand(1, 3, 17, 1)).shape[-2:] == (2, 1)
    assert trunk(torch.rand(1, 3, 1, 17))[1].shape == (1, 3, 4, 68)


def test_stretching_interpolates_between_centres_and_holds_at_the_border():
    cells = torch.tensor([[0.0, 1.0]])
    line = stretch(cells, torch.arange(4), torch.arange(8), 4)[0]
    torch.testing.assert_close(line, torch.tensor([0.0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]))
    part = stretch(cells, torch.arange(1), torch.arange(3, 6), 4)[0]
    assert torch.equal(part, line[3:6])


def test_an_untrained_small_model_is_its_trunk():
    model = presets.build("small")
    lq = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        out = model.super_resolve(lq, num_steps=1)
        assert torch.equal(out.image, model.trunk(lq)[1])
