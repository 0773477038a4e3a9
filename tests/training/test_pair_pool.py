import threading

import pytest
import torch

pytest.importorskip("accelerate")

from realsrt.training.pair_pool import PairPool

SCALE, TILE = 4, 64


def coordinates(number: int):
    """A target that says at each pixel where it is, and a low-quality picture of every fourth pixel."""
    y, x = torch.meshgrid(torch.arange(TILE), torch.arange(TILE), indexing="ij")
    gt = torch.stack([y * 3, x * 3, torch.full_like(x, number % 256)]).to(torch.uint8)
    return gt[:, ::SCALE, ::SCALE].contiguous(), gt


@pytest.fixture
def make_pool():
    pools = []

    def make(make_pair=coordinates, *, size=6, refresh=2, seed=0, **options):
        pools.append(PairPool(make_pair, size=size, refresh=refresh, seed=seed, scale=SCALE, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def same(a, b):
    return torch.equal(a.lq, b.lq) and torch.equal(a.gt, b.gt) and a.seeds == b.seeds


def test_crops_of_input_and_target_stay_aligned(make_pool):
    batch = make_pool().batch(0, first=0, count=64, crop=32)
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
    batch = make_pool().batch(0, first=0, count=8, crop=TILE)
    assert batch.gt.shape[-1] == TILE
    assert batch.gt.amax() == pytest.approx((TILE - 1) * 3 / 255)


def test_a_batch_is_a_function_of_the_step(make_pool):
    run = make_pool()
    batches = [run.batch(step, first=0, count=4, crop=32) for step in range(6)]
    assert same(make_pool().batch(5, first=0, count=4, crop=32), batches[5])  # fresh, as when resuming
    back = make_pool()
    back.batch(4, first=0, count=4, crop=32)
    assert same(back.batch(5, first=0, count=4, crop=32), batches[5])
    assert not any(same(batches[i], batches[j]) for i in range(6) for j in range(i))
    assert not same(make_pool(seed=1).batch(5, first=0, count=4, crop=32), batches[5])
    seeds = [seed for batch in batches for seed in batch.seeds]
    assert len(set(seeds)) == len(seeds)


def test_two_halves_make_the_full_batch(make_pool):
    pool = make_pool()
    whole = pool.batch(3, first=0, count=6, crop=32)
    halves = [make_pool().batch(3, first=first, count=3, crop=32) for first in (0, 3)]
    assert torch.equal(torch.cat([h.lq for h in halves]), whole.lq)
    assert torch.equal(torch.cat([h.gt for h in halves]), whole.gt)
    assert halves[0].seeds + halves[1].seeds == whole.seeds


def test_the_pool_moves_on_by_refresh_and_forgets(make_pool):
    made = []
    pool = make_pool(lambda n: (made.append(n), coordinates(n))[1], size=4, refresh=3, ahead=0)
    for step in range(5):
        numbers = (pool.batch(step, first=0, count=40, crop=32).gt[:, 2, 0, 0] * 255).round().long()
        assert set(numbers.tolist()) == set(range(step * 3, step * 3 + 4))
    assert made == sorted(set(made))  # each pair is made once
    assert len(pool.pairs) == 4


def test_values_are_fractions_of_255(make_pool):
    batch = make_pool().batch(0, first=0, count=2, crop=32)
    assert batch.gt.dtype == batch.lq.dtype == torch.float32
    assert float((batch.gt * 255 - (batch.gt * 255).round()).abs().max()) < 1e-4
    assert float(batch.gt.max()) <= 1


def test_what_goes_wrong_in_the_background_is_raised_here(make_pool):
    def fail(number):
        raise ValueError(f"pair {number}")

    with pytest.raises(ValueError, match="pair"):
        make_pool(fail).batch(0, first=0, count=1, crop=32)


def test_close_ends_the_background_thread(make_pool):
    pool = make_pool(size=50)
    pool.batch(0, first=0, count=1, crop=32)
    pool.close()
    assert not [t for t in threading.enumerate() if t in pool.executor._threads and t.is_alive()]
