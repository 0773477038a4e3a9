"""`Upscaler.regenerate` on tiny models: what changes, what stays, and what is refused."""

import pickle
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from realsrt import presets
from realsrt.errors import UsageError
from realsrt.inference.result import Change
from realsrt.inference.upscaler import Upscaler
from realsrt.io.picture import Picture

BOX = (160, 120, 216, 184)


@cache
def made(kind="tiny"):
    return Upscaler(presets.build(kind, 0), "cpu")


def picture(*shape, seed=0):
    return (np.random.default_rng(seed).random(shape) * 255).astype(np.uint8)


@cache
def result(kind="tiny", **options):
    return made(kind).upscale(picture(72, 90, 3), steps=2, **options)


def changed(one, two):
    """Whether each pixel differs, (H, W)."""
    different = np.asarray(one) != np.asarray(two)
    return different.any(2) if different.ndim == 3 else different


def around(box, margin, hw):
    x0, y0, x1, y1 = box
    mask = np.zeros(hw, bool)
    mask[max(0, y0 - margin) : y1 + margin, max(0, x0 - margin) : x1 + margin] = True
    return mask


@pytest.mark.parametrize("color_fix", ["adain", "wavelet", "coarse", "none"])
@pytest.mark.parametrize("outscale", [4.0, 2.5])
def test_nothing_changes_outside_the_region_and_its_margin(color_fix, outscale):
    before = result(color_fix=color_fix, outscale=outscale)
    box = tuple(int(side * outscale / 4) for side in BOX)
    out = made().regenerate(before, box, seed=1)
    difference = changed(out.image, before.image)
    hw = before.image.shape[:2]
    assert difference[around(box, 0, hw)].mean() > 0.02
    assert not difference[~around(box, round(8 * outscale / 4) + 1, hw)].any()
    cells = changed(out.confidence, before.confidence)
    touched = around((box[0] // 8, box[1] // 8, -(-box[2] // 8), -(-box[3] // 8)), 0, cells.shape)
    assert cells[touched].any()
    assert not cells[~touched].any()
    assert out.score == pytest.approx(out.confidence[touched].mean(), abs=1e-6)


@pytest.mark.parametrize("kind", ["tiny", "tiny_paper"])
def test_only_the_regions_tokens_change_in_every_window_that_sees_them(kind):
    before = result(kind, stride=32)
    out = made(kind).regenerate(before, BOX, seed=3)
    fold = made(kind).model.config.fold
    tiles = before.origin.job.tiles
    x0, y0, x1, y1 = (side / 4 for side in BOX)
    seen = 0
    for index in range(len(tiles)):
        y, x = tiles.position(index)
        different = before.ids[index] != out.ids[index]
        different = different.any(2) if different.ndim == 3 else different
        rows = y - tiles.top + fold * np.arange(different.shape[0])
        columns = x - tiles.left + fold * np.arange(different.shape[1])
        inside = np.outer((rows + fold > y0) & (rows < y1), (columns + fold > x0) & (columns < x1))
        assert not different[~inside].any()
        seen += bool(different.any())
    assert seen > 1


def test_overlapping_windows_draw_alike():
    """With the model's say taken away by a high temperature, windows agree on the tokens of the place they share."""
    before = result(stride=32)
    out = made().regenerate(before, BOX, temperature=1e6, seed=3)
    tiles, fold = before.origin.job.tiles, made().model.config.fold
    first, second = 0, 1  # side by side
    shift = (tiles.position(second)[1] - tiles.position(first)[1]) // fold
    left, right = out.ids[first][:, shift:], out.ids[second][:, :-shift]
    masked = (before.ids[first][:, shift:] != left) & (before.ids[second][:, :-shift] != right)
    assert masked.sum() > 20
    assert (left[masked] == right[masked]).mean() > 0.95


def test_it_is_the_picture_that_these_tokens_make():
    """In the region, blending the windows touched is blending all of them."""
    up, before = made(), result(color_fix="none")
    out = up.regenerate(before, (0, 0, 360, 288), seed=5, variety=0)
    job = before.origin.job
    from realsrt.inference.assemble import assemble
    from realsrt.inference.runner import WindowResult

    source = job.inputs[0].colour
    view = up._runner.view(source, job.tiles, job.settings)

    def windows():
        for index in range(len(job.tiles)):
            window = view.window(job.tiles, index)
            ids = torch.from_numpy(out.ids[index].astype(np.int64)).flatten()[None]
            image = up.model.decode(ids, up.model.guide(window.lq, window.ground))
            yield WindowResult(index, image[0], torch.from_numpy(out.ids[index]), torch.zeros(32, 32), 2)

    expected = job.pack([assemble(job, view, 2, windows()).planes])
    assert np.abs(expected.astype(int) - out.image).max() <= 1


@pytest.mark.parametrize("outscale", [4.0, 3.3, 2.0])
def test_the_likeliest_tokens_of_a_whole_image_are_those_of_upscaling(outscale):
    """So are its pixels, at any scale, where the model's own go beyond white and black."""
    up, before = made(), made().upscale((picture(40, 50, 3) > 127) * np.uint8(255), steps=2, outscale=outscale)
    height, width = before.image.shape[:2]
    out = up.regenerate(before, (0, 0, width, height), temperature=0, variety=0)
    np.testing.assert_array_equal(out.ids, before.ids)
    assert np.abs(out.image.astype(int) - before.image).max() <= 1


def test_seeds():
    before = result()
    one, two, again = (made().regenerate(before, BOX, seed=seed) for seed in (1, 2, 1))
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.ids, again.ids)
    assert changed(one.image, two.image).any()
    cold = [made().regenerate(before, BOX, temperature=0, seed=seed, variety=0).image for seed in (1, 2)]
    np.testing.assert_array_equal(*cold)
    varied = [made().regenerate(before, BOX, temperature=0, seed=seed).image for seed in (1, 2)]
    assert changed(*varied).any()
    likeliest = made().regenerate(before, BOX, top_k=1, seed=7)
    assert changed(likeliest.ids, made().regenerate(before, BOX, temperature=1, seed=7).ids).any()


def test_batches_do_not_matter():
    before = result(stride=32)
    alone = made().regenerate(before, BOX, seed=1)
    batched = Upscaler(made().model, "cpu")
    batched._runner.batch_size = lambda limit=None: 3
    together = batched.regenerate(before, BOX, seed=1)
    assert (alone.ids == together.ids).mean() > 0.999
    assert np.abs(alone.image.astype(int) - together.image).mean() < 0.01


def test_candidates_are_ranked_by_score_and_the_first_draw_is_the_single_one():
    before = result()
    calls = []
    best = made().regenerate(before, BOX, seed=4, candidates=3, on_progress=lambda *done: calls.append(done))
    scores = [candidate.score for candidate in best.candidates]
    assert len(scores) == len(set(scores)) == 3
    assert scores == sorted(scores, reverse=True)
    assert best.score == scores[0]
    np.testing.assert_array_equal(best.image, best.candidates[0].image)
    single = made().regenerate(before, BOX, seed=4)
    assert single.candidates == ()
    assert any((single.image == candidate.image).all() for candidate in best.candidates)
    assert calls == sorted(calls)
    assert calls[-1][0] == calls[-1][1] > 0
    same = made().regenerate(before, BOX, temperature=0, candidates=2, variety=0).candidates
    np.testing.assert_array_equal(same[0].image, same[1].image)


def test_temperatures_of_candidates_rise_to_the_boldest():
    """Each is the draw that its own temperature and number give."""
    before = result()
    best = made().regenerate(before, BOX, seed=4, temperature=0.5, max_temperature=8, candidates=3)
    assert sorted(one.temperature for one in best.candidates) == pytest.approx([0.5, 2, 8])
    assert best.temperature == best.candidates[0].temperature
    alike = made().regenerate(before, BOX, seed=4, temperature=2, candidates=3)
    assert {one.temperature for one in alike.candidates} == {2}
    (middle,) = [one for one in best.candidates if one.temperature == pytest.approx(2)]
    assert sum((middle.ids == one.ids).all() for one in alike.candidates) == 1


def test_variety_changes_the_trunks_amounts():
    """Candidates differ by far more than their tokens alone make them, each by the change that it tells; a model
    without a trunk has none."""
    before = result()
    x0, y0, x1, y1 = BOX
    inside = lambda one: one.image[y0:y1, x0:x1].astype(int)  # noqa: E731
    far = made().regenerate(before, BOX, seed=4, candidates=4).candidates
    near = made().regenerate(before, BOX, seed=4, candidates=4, variety=0).candidates
    apart = [np.mean([np.abs(inside(one) - inside(before)).mean() for one in some]) for some in (far, near)]
    assert apart[0] > 1.2 * apart[1]
    assert {one.change for one in near} == {Change(0, 0)}
    assert len({one.change for one in far}) == 4
    assert max(one.change.denoise for one in far) - min(one.change.denoise for one in far) > 0.3
    assert max(one.change.share for one in far) - min(one.change.share for one in far) > 0.3
    assert made("tiny_paper").regenerate(result("tiny_paper"), BOX).change is None


def test_again_and_back():
    before = result()
    image = before.image.copy()
    one = made().regenerate(before, BOX, seed=1)
    two = made().regenerate(one, (0, 0, 40, 40), seed=1)
    np.testing.assert_array_equal(before.image, image)
    x0, y0, x1, y1 = BOX
    np.testing.assert_array_equal(two.image[y0:y1, x0:x1], one.image[y0:y1, x0:x1])
    assert changed(two.image, one.image)[:40, :40].any()
    assert two.origin is before.origin


def test_regions_of_other_forms():
    before = result()
    mask = around(BOX, 0, before.image.shape[:2])
    np.testing.assert_array_equal(
        made().regenerate(before, mask, seed=1).image, made().regenerate(before, BOX, seed=1).image
    )
    limit = float(np.quantile(before.confidence, 0.1))
    out = made().regenerate(before, limit, seed=1)
    low = before.confidence < limit
    np.testing.assert_array_equal(out.confidence[~low], before.confidence[~low])
    assert (out.confidence[low] != before.confidence[low]).any()


KINDS = {
    "gray": lambda a: a[:, :, 0],
    "one channel": lambda a: a[:, :, :1],
    "16 bit": lambda a: a.astype(np.uint16) * 257,
    "float": lambda a: a.astype(np.float32) / 255,
    "alpha": lambda a: np.dstack([a, a[:, :, 0] // 2 + 60]),
    "picture": Picture.from_array,
    "gray picture with alpha": lambda a: Picture.from_array(np.dstack([a[:, :, 0], a[:, :, 1]])),
    "pil": Image.fromarray,
    "pil gray": lambda a: Image.fromarray(a[:, :, 0]),
    "pil 16 bit": lambda a: Image.fromarray(a[:, :, 0].astype(np.uint16) * 257),
    "tensor": lambda a: torch.from_numpy(a).permute(2, 0, 1)[None].float() / 255,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture(kind):
    def array(image):
        image = np.asarray(getattr(image, "pixels", image))
        return image[0].transpose(1, 2, 0) if image.ndim == 4 else image

    up = made()
    before = up.upscale(KINDS[kind](picture(40, 44, 3)), steps=1)
    out = up.regenerate(before, (40, 48, 96, 104), seed=1)
    assert type(out.image) is type(before.image)
    assert array(out.image).dtype == array(before.image).dtype
    difference = changed(array(out.image), array(before.image))
    assert difference[48:104, 40:96].any()
    assert not difference[~around((40, 48, 96, 104), 8, difference.shape)].any()
    assert out.ids.shape == before.ids.shape
    assert out.confidence.shape == before.confidence.shape
    if "alpha" in kind:
        np.testing.assert_array_equal(array(out.image)[..., -1], array(before.image)[..., -1])


def test_a_picture_keeps_its_metadata_and_pil_its_profile():
    source = Image.fromarray(picture(32, 32, 3))
    source.info["icc_profile"] = b"profile"
    before = made().upscale(source, steps=1)
    assert made().regenerate(before, (0, 0, 64, 64)).image.info["icc_profile"] == b"profile"
    given = Picture(picture(32, 32, 3), {"icc-profile-data": (1, b"icc")}, (3.0, 3.0))
    out = made().regenerate(made().upscale(given, steps=1), (0, 0, 64, 64)).image
    assert (out.icc, out.density) == (b"icc", (3.0, 3.0))


def test_a_result_of_stream_and_one_without_confidence_can_be_regenerated():
    up = made()
    *_, last = up.stream(picture(40, 44, 3), steps=2)
    assert changed(up.regenerate(last, (0, 0, 64, 64)).image, last.image).any()
    bare = up.upscale(picture(40, 44, 3), steps=2, confidence=False)
    out = up.regenerate(bare, (0, 0, 64, 64))
    assert out.confidence is None
    assert 0 < out.score < 1
    with pytest.raises(UsageError, match="no confidence map"):
        up.regenerate(bare, 0.5)


def test_a_pickled_result_forgets_what_it_was_made_of():
    copy = pickle.loads(pickle.dumps(result()))
    np.testing.assert_array_equal(copy.image, result().image)
    with pytest.raises(UsageError, match="nothing to go on from"):
        made().regenerate(copy, BOX)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((10, 10, 10, 20), "is empty"),
        ((20, 10, 10, 20), "is empty"),
        ((-1, 0, 10, 10), "not inside the image of 360x288"),
        ((350, 280, 361, 288), "not inside"),
        ((0, 0, 10), "a region is a box"),
        ((0, 0, 10.5, 20), "a region is a box"),
        ((0, 0, float("inf"), 8), "a region is a box"),
        ((0, -float("inf"), 8, 8), "a region is a box"),
        ((0, 0, float("nan"), 8), "a region is a box"),
        ((0, 0, 1e300, 8), "not inside the image"),
        ("here", "a region is a box"),
        (None, "a region is a box"),
        (True, "a region is a box"),
        ([[1, 2], [3]], "a region is a box"),
        (np.zeros((288, 360), np.uint8), "a region is a box"),
        (np.ones((288, 361), bool), "the mask is 361x288, the image 360x288"),
        (np.zeros((288, 360), bool), "the mask is empty"),
        (0.0, "between 0 and 1"),
        (float("nan"), "between 0 and 1"),
        (1.5, "between 0 and 1"),
        (1e-9, "no place has a confidence below"),
    ],
)
def test_regions_that_are_refused(region, message):
    with pytest.raises(UsageError, match=message) as caught:
        made().regenerate(result(), region)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"candidates": 0}, "candidates"),
        ({"variety": 1.5}, "variety goes from 0 to 1"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"candidates": 2.0}, "candidates must be a whole number"),
        ({"top_k": "all"}, "top_k must be a whole number"),
        ({"temperature": None}, "temperature must be a number"),
        ({"variety": float("nan")}, "variety"),
        ({"max_temperature": 2.0}, "max_temperature is for several candidates"),
        ({"max_temperature": 0.5, "candidates": 2}, "max_temperature goes from the temperature"),
        ({"max_temperature": 2.0, "candidates": 2, "temperature": 0}, "max_temperature goes from the temperature"),
        ({"max_temperature": float("nan"), "candidates": 2}, "max_temperature goes from the temperature"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        made().regenerate(result(), BOX, **options)


def test_results_that_are_refused():
    up = made()
    rows = up.upscale(Picture.from_array(picture(32, 32, 3)), steps=1, rows=lambda first, planes: None)
    assert rows.origin is None
    with pytest.raises(UsageError, match="nothing to go on from"):
        up.regenerate(rows, (0, 0, 8, 8))
    batch = up.upscale(torch.rand(2, 3, 32, 32), steps=1)
    with pytest.raises(UsageError, match="not a batch of 2"):
        up.regenerate(batch, (0, 0, 8, 8))
    with pytest.raises(UsageError, match="another model"):
        made("tiny_paper").regenerate(result(), BOX)
