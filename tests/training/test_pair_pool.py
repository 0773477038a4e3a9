import threading
from itertools import product

import pytest
import torch

pytest.importorskip("accelerate")

from realsrt.training.data import orient
from realsrt.training.pair_pool import PairPool, Pairs, gather_crops

SCALE, TILE = 4, 64


def coordinates(number: int):
    """A target that says at each pixel where it is, and a low-quality picture of every fourth pixel."""
    y, x = torch.meshgrid(torch.arange(TILE), torch.arange(TILE), indexing="ij")
    gt = torch.stack([y * 3, x * 3, torch.full_like(x, number % 256)]).to(torch.uint8)
    return gt[:, ::SCALE, ::SCALE].contiguous(), gt


def many(numbers):
    lqs, gts = zip(*map(coordinates, numbers), strict=True)
    return Pairs(torch.stack(lqs), torch.stack(gts))


@pytest.fixture
def make_pool():
    pools = []

    def make(make_pairs=many, *, size=8, refresh=2, seed=0, lanes=4, **options):
        options = {
            "size": size,
            "refresh": refresh,
            "seed": seed,
            "scale": SCALE,
            "tile": TILE,
            "lanes": lanes,
        } | options
        pools.append(PairPool(make_pairs, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def same(a, b):
    return torch.equal(a.lq, b.lq) and torch.equal(a.gt, b.gt) and a.seeds == b.seeds


def numbers_in(batch):
    return (batch.gt[:, 2, 0, 0] * 255).round().long().tolist()


def one_by_one(pool, step, crop):
    """A batch as slices that are turned: what the gather has to equal."""
    lqs, gts = [], []
    for number, top, left, turn in pool.draw(step, crop).tolist():
        lq, gt = coordinates(number)
        side, y, x = crop // SCALE, top * SCALE, left * SCALE
        lqs.append(orient(lq[:, top : top + side, left : left + side], turn))
        gts.append(orient(gt[:, y : y + crop, x : x + crop], turn))
    return torch.stack(lqs).float() / 255, torch.stack(gts).float() / 255


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("refresh", [0, 1, 3, 9])
def test_the_gather_is_slicing_and_turning(make_pool, background, refresh):
    pool = make_pool(refresh=refresh, background=background)
    for step in (0, 1, 2, 3, 4, 11, 12, 3):
        batch = pool.batch(step, 32)
        lq, gt = one_by_one(pool, step, 32)
        assert torch.equal(batch.lq, lq)
        assert torch.equal(batch.gt, gt)


def test_every_turn_is_orients():
    image = torch.arange(2 * 3 * 6 * 6).view(2, 3, 6, 6)
    places = list(product(range(2), range(3), range(3), range(8)))
    crops = gather_crops(image, torch.tensor(places), 4)
    for crop, (slot, top, left, turn) in zip(crops, places, strict=True):
        assert torch.equal(crop, orient(image[slot, :, top : top + 4, left : left + 4], turn))


def test_crops_of_input_and_target_stay_aligned(make_pool):
    batch = make_pool(lanes=64, size=64).batch(0, 32)
    lq, gt = (batch.lq * 255).round().long(), (batch.gt * 255).round().long()
    assert lq.shape == (64, 3, 8, 8)
    assert gt.shape == (64, 3, 32, 32)
    places, turns = set(), set()
    for sample in range(64):
        cells = gt[sample, :2].unflatten(1, (8, 4)).unflatten(3, (8, 4))  # (2, 8, 4, 8, 4)
        low = lq[sample, :2]
        # every low-quality pixel is the top-left pixel, before turning, of its own 4x4 cell of the target
        assert torch.equal(cells.amin((2, 4)), low)
        assert torch.equal(lq[sample, 2], gt[sample, 2, ::4, ::4])
        top, left = (int(gt[sample, axis].min()) // 3 for axis in (0, 1))
        assert top % 8 == 0  # so that tokens of crops are tokens of tiles
        assert left % 8 == 0
        places.add((top, left))
        down, right = (torch.sign(lq[sample, :2, 0, 0] - lq[sample, :2, 7, 7])).tolist()
        turns.add((down, right, bool(lq[sample, 0, 0, 0] == lq[sample, 0, 0, 7])))
    assert len(places) > 12  # of 25
    assert len(turns) == 8


def test_the_whole_tile_is_used(make_pool):
    batch = make_pool().batch(0, TILE)
    assert batch.gt.shape[-1] == TILE
    assert batch.gt.amax() == pytest.approx((TILE - 1) * 3 / 255)


def test_a_batch_is_a_function_of_the_step(make_pool):
    run = make_pool()
    batches = [run.batch(step, 32) for step in range(6)]
    assert same(make_pool().batch(5, 32), batches[5])  # fresh, as when resuming
    back = make_pool(background=False)
    back.batch(4, 32)
    assert same(back.batch(5, 32), batches[5])
    assert not any(same(batches[i], batches[j]) for i in range(6) for j in range(i))
    assert not same(make_pool(seed=1).batch(5, 32), batches[5])
    seeds = [seed for batch in batches for seed in batch.seeds]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("refresh", [0, 1, 5])
def test_two_ranks_make_the_full_batch_and_only_their_own_pairs(make_pool, refresh):
    made = {0: [], 4: [], 8: []}

    def noting(first):
        return lambda numbers: (made[first].extend(numbers), many(numbers))[1]

    whole = make_pool(noting(8), lanes=8, size=16, refresh=refresh)
    halves = [make_pool(noting(k), lanes=8, size=16, refresh=refresh, own=range(k, k + 4)) for k in (0, 4)]
    for step in range(7):
        batch, parts = whole.batch(step, 32), [half.batch(step, 32) for half in halves]
        assert torch.equal(torch.cat([p.lq for p in parts]), batch.lq)
        assert torch.equal(torch.cat([p.gt for p in parts]), batch.gt)
        assert parts[0].seeds + parts[1].seeds == batch.seeds
    for pool in (whole, *halves):
        pool.close()
    assert {n % 8 for n in made[0]} == {0, 1, 2, 3}
    assert {n % 8 for n in made[4]} == {4, 5, 6, 7}
    assert halves[0].gt_SCHW.numel() * 2 == whole.gt_SCHW.numel()


@pytest.mark.parametrize("background", [True, False])
def test_the_pool_moves_on_by_refresh_and_forgets(make_pool, background):
    made, seen, drawn = [], set(), set()
    note = lambda numbers: (made.extend(numbers), many(numbers))[1]  # noqa: E731
    pool = make_pool(note, size=7, refresh=3, lanes=2, background=background)
    assert pool.size == 8  # a multiple of the lanes
    for step in range(40):
        numbers = numbers_in(pool.batch(step, 32))
        assert all(number % 2 == lane for lane, number in enumerate(numbers))
        assert all(step * 3 <= number < step * 3 + 8 for number in numbers)
        seen |= {number - step * 3 for number in numbers}
        drawn |= set(numbers)
    assert seen == set(range(8))  # every pair of the pool is drawn
    pool.close()
    assert len(made) == len(set(made))  # no pair is made twice (one that no batch drew may never have been)
    assert set(made) >= drawn
    assert len(pool.pairs) <= len(pool.gt_SCHW)


def test_in_line_pairs_are_made_for_all_lanes_together(make_pool):
    calls = []
    pool = make_pool(lambda n: (calls.append(list(n)), many(n))[1], lanes=4, size=8, refresh=1, background=False)
    for step in range(6):
        pool.batch(step, 32)
    assert calls == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]


def test_a_batch_is_drawn_without_reading_the_device(make_pool):
    pool = make_pool(device="meta")  # has no values: reading one raises
    assert not pool.background
    batch = pool.batch(3, 32)
    assert (batch.lq.device.type, batch.gt.shape) == ("meta", (4, 3, 32, 32))


def test_values_are_fractions_of_255(make_pool):
    batch = make_pool().batch(0, 32)
    assert batch.gt.dtype == batch.lq.dtype == torch.float32
    assert float((batch.gt * 255 - (batch.gt * 255).round()).abs().max()) < 1e-4
    assert float(batch.gt.max()) <= 1


@pytest.mark.parametrize("background", [True, False])
def test_what_goes_wrong_with_a_pair_is_raised_here(make_pool, background):
    def fail(numbers):
        raise ValueError(f"pair {numbers}")

    with pytest.raises(ValueError, match="pair"):
        make_pool(fail, background=background).batch(0, 32)


def test_close_ends_the_background_thread(make_pool):
    pool = make_pool(size=52)
    pool.batch(0, 32)
    pool.close()
    assert not [t for t in threading.enumerate() if t in pool.executor._threads and t.is_alive()]
