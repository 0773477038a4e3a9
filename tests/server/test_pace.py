import pytest

from realsrt import presets
from realsrt.server.options import JobOptions, Regeneration
from realsrt.server.pace import Pace
from realsrt.server.records import JobRecord


def job(width=200, height=100, *edits, **options):
    return JobRecord("a", "", "a.png", "queued", JobOptions(**options), ".png", width, height, 0.0, edits)


@pytest.fixture
def pace():
    made = Pace(presets.get("tiny"))
    assert made.seconds([job()]) is None
    assert made.per_pixel is None
    made.learn(job(), 10.0)
    return made


def test_time_grows_with_pixels_and_steps(pace):
    assert pace.seconds([job()]) == pytest.approx(10)
    assert pace.seconds([job(400), job()]) == pytest.approx(30)
    own = presets.get("tiny").num_steps
    assert pace.seconds([job(steps=own)]) == pytest.approx(10)
    times = [pace.seconds([job(steps=steps)]) for steps in range(9)]
    assert times == sorted(set(times))
    assert [200 * 100 * each for each in pace.per_pixel] == pytest.approx(times)


def test_an_edit_takes_as_long_as_its_candidates_and_what_sees_its_place(pace):
    one, three = (Regeneration(box=[0, 0, 8, 8], candidates=count) for count in (1, 3))
    whole = Regeneration(below=0.5)
    assert pace.seconds([job(2000, 2000, one)]) < pace.seconds([job(2000, 2000)]) / 100
    assert pace.seconds([job(200, 100, three)]) == pytest.approx(3 * pace.seconds([job(200, 100, one)]))
    assert pace.seconds([job(200, 100, whole)]) < pace.seconds([job()])
    assert pace.seconds([job(200, 100, whole, one)]) == pace.seconds([job(200, 100, one)])  # the first is in memory


def test_large_jobs_say_more_than_small_ones_and_late_ones_more_than_early_ones(pace):
    pace.learn(job(20, 10), 1000.0)
    assert pace.seconds([job()]) < 2000
    for _ in range(20):
        pace.learn(job(), 1.0)
    assert pace.seconds([job()]) == pytest.approx(1, rel=0.5)
