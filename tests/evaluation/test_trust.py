"""The guarantee of the mask, by simulation: it must hold whatever the confidence is worth."""

import json
from itertools import pairwise

import numpy as np
import pytest

from realsrt import presets
from realsrt.errors import UsageError
from realsrt.evaluation.trust import (
    Calibration,
    Group,
    calibrated_options,
    cell_errors,
    grouped,
    load_calibration,
    scores,
    trust_map,
    trust_mask,
)

BOUND = 8.0


def image(rng, kind):
    """Confidence, sums of errors and pixels of the cells of an image, whose error is its own."""
    confidence = rng.random((6, 7))
    trust = trust_map(confidence)
    trend = {"telling": 2 - 2 * trust, "worthless": 0.6 + rng.random((6, 7)), "misleading": 2 * trust}[kind]
    pixels = np.full((6, 7), 64.0)
    pixels[-1] = 8
    return confidence, rng.gamma(2, 4) * trend * pixels, pixels


def mask_error(threshold, confidence, error, pixels):
    """Mean error within the mask; 0 if it is empty."""
    mask = trust_mask(confidence, threshold)
    return error[mask].sum() / pixels[mask].sum() if mask.any() else 0.0


def calibration(values, **more):
    """Of one group; or of several, where values are lists by `up_to`."""
    groups = values if isinstance(values, dict) else {1.0: values}
    made = [Group(up_to=up_to, scores={BOUND: sorted(own)}) for up_to, own in groups.items()]
    return Calibration(model_sha256="a" * 64, options={"steps": 2}, groups=made, **more)


def flat(mean):
    return np.full((2, 3), mean)


@pytest.mark.parametrize("kind", ["telling", "worthless", "misleading"])
def test_the_mask_keeps_its_promise_over_many_draws(kind):
    rng = np.random.default_rng(1)
    pairs, draws, levels = 19, 600, (0.8, 0.9, 0.95)
    kept, covered = np.zeros(3), np.zeros(3)
    for _ in range(draws):
        drawn = [image(rng, kind) for _ in range(pairs + 1)]
        *values, own = (scores(*one, [BOUND])[0] for one in drawn)
        thresholds = [calibration(values).threshold(level, BOUND, drawn[-1][0]) for level in levels]
        kept += [mask_error(threshold, *drawn[-1]) <= BOUND for threshold in thresholds]
        covered += [own <= threshold for threshold in thresholds]
    for level, in_bound, below in zip(levels, kept / draws, covered / draws, strict=True):
        deviation = (level * (1 - level) / draws) ** 0.5
        assert in_bound >= level - 3 * deviation
        assert abs(below - level) < 3 * deviation  # exact, as (n + 1)·level is whole: promised no less than possible


def test_masks_grow_with_the_bound_and_shrink_with_the_level():
    rng = np.random.default_rng(2)
    found = np.array([scores(*image(rng, "telling"), [4.0, 8.0, 12.0]) for _ in range(60)])
    assert (np.diff(found, axis=1) <= 0).all()
    one = calibration(found[:, 1])
    low, middle, high = (one.threshold(level, BOUND, flat(0.5)) for level in (0.8, 0.9, 0.95))
    assert low <= middle <= high


def test_every_mask_above_a_score_is_within_the_bound_and_the_next_is_not():
    rng = np.random.default_rng(3)
    for _ in range(50):
        confidence, error, pixels = image(rng, "telling")
        confidence = np.tile(confidence[:, :1].round(1), 7)  # with ties
        (score,) = scores(confidence, error, pixels, [BOUND])
        above = [value for value in np.unique(trust_map(confidence)) if value >= score]
        assert all(mask_error(value, confidence, error, pixels) <= BOUND for value in above)
        if score >= 0:
            assert mask_error(np.nextafter(score, -1), confidence, error, pixels) > BOUND


def test_the_rank_is_that_of_the_theorem():
    one = calibration([i / 100 for i in range(19)])
    assert one.threshold(0.95, BOUND, flat(0.5)) == 0.18
    assert one.threshold(0.9, BOUND, flat(0.5)) == 0.17
    assert one.threshold(0.5, BOUND, flat(0.5)) == 0.09
    with pytest.raises(UsageError, match=r"19 pairs can promise a trust of up to 0.95, not of 0.96 \(needs 24\)"):
        one.thresholds(0.96, BOUND)
    for pairs in range(1, 60):  # what it says it can promise, it can; one pair less would not do for a level
        few = calibration([0.5] * pairs)
        assert few.thresholds(few.most, BOUND)
        assert few.beyond([pairs / (pairs + 1)]) == ""
        assert f"(needs {pairs + 1})" in few.beyond([(pairs + 1) / (pairs + 2)])
    for level in (0, 1, -1, float("nan")):
        with pytest.raises(UsageError, match="above 0 and below 1"):
            one.thresholds(level, BOUND)
    with pytest.raises(UsageError, match="it has 8"):
        one.thresholds(0.9, 7.0)


def test_an_image_has_the_threshold_of_the_group_of_its_mean_confidence():
    one = calibration({0.3: [0.1] * 9, 0.5: [0.2] * 19, 1.0: [0.3] * 9})
    assert one.pairs == 37
    found = [one.threshold(0.9, BOUND, flat(mean)) for mean in (0, 0.3, 0.31, 0.5, 0.51, 1)]
    assert found == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    uneven = np.array([[0.0, 0.0, 0.0, 1.0, 0.6]])  # its mean counts, not its extremes or its middle
    assert one.threshold(0.9, BOUND, uneven) == 0.2
    with pytest.raises(UsageError, match=r"9 pairs of a group can promise a trust of up to 0.9, not of 0.95 \("):
        one.threshold(0.95, BOUND, flat(0.4))  # of this image's own 19 are enough, but it must be known beforehand


@pytest.mark.parametrize("pairs, wanted", [(1, [1]), (79, [79]), (80, [40, 40]), (119, [60, 59]), (156, [52] * 3)])
def test_there_are_as_many_groups_as_have_enough_pairs_at_most_three(pairs, wanted):
    means = np.random.default_rng(4).permutation(np.linspace(0.2, 0.8, pairs))
    groups = grouped(list(means), [[mean] for mean in means], [BOUND])
    assert [one.pairs for one in groups] == wanted
    assert groups[-1].up_to == 1
    low = -1.0
    for one in groups:
        assert all(low < mean <= one.up_to for mean in one.scores[BOUND])  # whose scores here are their means
        low = one.up_to
    for before, after in pairwise(groups):
        assert before.up_to == pytest.approx((before.scores[BOUND][-1] + after.scores[BOUND][0]) / 2)


def test_equal_means_stay_together():
    for means, wanted in (([0.5] * 150, [150]), ([0.3] * 60 + list(np.linspace(0.4, 0.9, 60)), [60, 60])):
        assert [one.pairs for one in grouped(means, [[0.1]] * len(means), [BOUND])] == wanted


def test_groups_keep_the_promise_each_where_one_list_for_all_breaks_it():
    """Scores depend on the mean confidence: images that look hard need a far higher threshold."""
    rng = np.random.default_rng(5)
    level, draws = 0.9, 400

    def drawn(count):
        means = rng.random(count)
        return means, rng.random(count) + np.where(means < 1 / 3, 0.5, 0)

    covered = {"groups": [], "one": []}
    for _ in range(draws):
        means, own = drawn(120)
        rows = [[value] for value in own]
        several = Calibration(model_sha256="", options={}, groups=grouped(list(means), rows, [BOUND]))
        for mean, value in zip(*drawn(12), strict=True):
            number = sum(mean > group.up_to for group in several.groups)
            for kind, one in (("groups", several), ("one", calibration(own))):
                covered[kind].append((number, value <= one.threshold(level, BOUND, flat(mean))))
    deviation = (level * (1 - level) / (draws * 12 / 3)) ** 0.5
    for kind, kept in covered.items():
        numbers, within = np.array(kept).T
        shares = [within[numbers == number].mean() for number in range(3)]
        if kind == "groups":
            assert all(abs(share - level) < 4 * deviation for share in shares), shares
        else:
            assert shares[0] < level - 10 * deviation
            assert within.mean() > level - 4 * deviation  # over all together it holds


def test_the_mask_follows_the_confidence_around_a_cell_and_is_not_a_few_cells():
    confidence = np.zeros((20, 20), np.float32)
    confidence[4, 4] = 1
    assert trust_mask(confidence, 0.02).sum() == 25
    assert trust_mask(confidence, 0.039)[2:7, 2:7].all()
    assert not trust_mask(confidence, 0.041).any()
    confidence[:3, :3] = 1  # at the corner, edges repeated: trust 1 for one cell, too few for a mask
    assert trust_map(confidence).max() == 1
    assert not trust_mask(confidence, 0.99).any()
    assert trust_mask(confidence[:4, :4], 0.99).any()


def test_errors_of_cells_are_levels_weighed_by_their_pixels():
    target = np.zeros((10, 17, 3), np.float32)
    made = target.copy()
    made[:8, 8:16, 0] = 30 / 255
    error, pixels = cell_errors(made, target)
    assert pixels.tolist() == [[64, 64, 8], [16, 16, 2]]
    np.testing.assert_allclose(error, [[0, 640, 0], [0, 0, 0]], rtol=1e-6)


def test_a_calibration_goes_through_its_file(tmp_path):
    one = calibration({0.1 + 0.2: [0.25, -1.0, float(np.float32(0.1))], 1.0: [0.3]}, about="4 pairs: noise")
    one.save(tmp_path / "c.json")
    found = load_calibration(tmp_path / "c.json")
    assert found == one
    assert found.where == str(tmp_path / "c.json")
    assert load_calibration(str(tmp_path / "c.json")) == one


def test_a_file_of_the_first_format_has_one_group(tmp_path):
    document = {
        "format": 1,
        "model_sha256": "a" * 64,
        "about": "",
        "options": {"steps": 2},
        "scores": {"8": [0.3, 0.2]},
    }
    (tmp_path / "c.json").write_text(json.dumps(document))
    assert load_calibration(tmp_path / "c.json") == calibration([0.2, 0.3])


def test_other_weights_and_other_options_are_refused():
    one = calibration([0.1])
    one.check("a" * 64, {"steps": 2})
    with pytest.raises(UsageError, match=r"other weights \(aaaaaaaaaaaaaaaa…\) than these \(bbbbbbbbbbbbbbbb…\)"):
        one.check("b" * 64, {"steps": 2})
    with pytest.raises(UsageError, match=r"steps 2 \(now 3\)"):
        one.check("a" * 64, {"steps": 3})
    with pytest.raises(UsageError, match=r"precision not given \(now bfloat16\)"):
        one.check("a" * 64, calibrated_options({"steps": 2}, "torch.bfloat16", "torch.bfloat16", presets.get("tiny")))


def test_an_option_that_is_the_models_own_may_be_given():
    config = presets.get("small")
    bare = calibrated_options(
        {"steps": None, "stride": None, "color_fix": None, "fidelity": 1.0}, "fp32", "fp32", config
    )
    given = {"steps": config.num_steps, "stride": config.stride, "color_fix": config.color_fix, "fidelity": 1.0}
    assert calibrated_options(given, "fp32", "fp32", config) == bare
    assert calibrated_options(given | {"steps": 1}, "fp32", "fp32", config) != bare
    for tile, same in (
        (config.window, True),
        (2 * config.window, False),
    ):  # with which the model's own stride is another
        tiled = [calibrated_options(one | {"tile": tile}, "fp32", "fp32", config) for one in (bare, given)]
        assert (tiled[0] == tiled[1]) is same


def test_one_pair_is_one_pair():
    assert calibration([0.1]).images == "1 pair"
    assert calibration([0.1, 0.2]).images == "2 pairs"


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.pop("groups"),
        lambda one: one.update(groups=[]),
        lambda one: one.update(groups=3),
        lambda one: one["groups"].reverse(),  # out of order
        lambda one: one["groups"].pop(),  # none for sure images
        lambda one: one["groups"][0].update(up_to=1),
        lambda one: one["groups"][0].update(up_to=float("nan")),
        lambda one: one["groups"][1].update(up_to=None),
        lambda one: one["groups"][0].pop("up_to"),
        lambda one: one["groups"][0].update(scores={"9": [0.1]}),  # other bounds than the other
        lambda one: one["groups"][1].update(scores={"8": []}),  # empty
        lambda one: one["groups"][1].update(scores={"8": [0.1], "9": []}),
        lambda one: one["groups"][1].update(scores={}),
        lambda one: one["groups"][1].update(scores={"8": [float("nan")]}),
        lambda one: one["groups"][1].update(scores={"8": "x"}),
        lambda one: one["groups"][0].update(scores={"8": [10**400]}),  # beyond floating point
        lambda one: one["groups"][0].update(up_to=10**400),
        lambda one: one["groups"][1].update(scores={"8": ["0.1"]}),  # digits are no numbers
        lambda one: one["groups"][1].update(scores={"8": "1"}),
        lambda one: one["groups"][1].update(up_to="1"),
        lambda one: one.update(format=None),
        lambda one: one["groups"][1].update(scores=[1]),
        lambda one: one.update(options=3),
    ],
)
def test_files_that_are_no_calibration(tmp_path, change):
    calibration({0.4: [0.1], 1.0: [0.2]}).save(tmp_path / "c.json")
    load_calibration(tmp_path / "c.json")
    document = json.loads((tmp_path / "c.json").read_text())
    change(document)
    (tmp_path / "c.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"c\.json is no calibration; make one"):
        load_calibration(tmp_path / "c.json")


def test_files_of_another_kind_or_none(tmp_path):
    for content in (b"", b"[", b"\xff\xfe", b"[" * 100_000, b"[]", b"3"):
        (tmp_path / "c.json").write_bytes(content)
        with pytest.raises(UsageError, match="is no calibration"):
            load_calibration(tmp_path / "c.json")
    (tmp_path / "c.json").write_text('{"format": 3}')
    with pytest.raises(UsageError, match="has format 3, this version reads up to 2"):
        load_calibration(tmp_path / "c.json")
    with pytest.raises(UsageError, match="can't read"):
        load_calibration(tmp_path / "none.json")
    with pytest.raises(UsageError, match="can't write"):
        calibration([0.1]).save(tmp_path / "none" / "c.json")
