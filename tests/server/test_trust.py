"""The mask of trust by the service: that of the command, and what is left of it after regenerating."""

import numpy as np
import pytest

from realsrt.cli import main
from realsrt.errors import UsageError
from realsrt.io import image as imageio
from realsrt.server.cells import pixel_mask, runs_of
from realsrt.server.trust import FirstConfidence, calibration_of
from support.serving import problem


@pytest.fixture(scope="session")
def calibrated(calibration):
    return calibration(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


@pytest.fixture
def made(opened, calibrated, picture):
    """A service with a calibration, a picture, and the job of it that is done."""
    here = opened(calibration=calibrated)
    source = picture("a.png", 40, 60)
    return here, source, here.ended(here.post(source).json()["id"])["id"]


def trust(here, id, **query):
    answer = here.http.get(f"/v1/jobs/{id}/trust", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def image(here, id, tmp_path):
    (tmp_path / "result.png").write_bytes(here.http.get(f"/v1/jobs/{id}/result").content)
    return imageio.read(tmp_path / "result.png").pixels


def test_it_is_the_mask_of_the_command(made, weights, calibrated, tmp_path):
    here, source, id = made
    argv = ["upscale", str(source), "-o", str(tmp_path / "cli.png"), "--model-path", str(weights), "-g", "cpu"]
    assert main([*argv, "--trust", "0.9", "--calibration", str(calibrated)]) == 0
    wanted = imageio.read(tmp_path / "cli_trust.png").pixels[..., 0] > 0
    found = trust(here, id)
    assert (pixel_mask(found["cells"], 240, 160) == wanted).all()
    assert 0.2 < wanted.mean() < 0.8
    assert found | {"cells": []} == {
        "level": 0.9, "error": 12.0, "about": "19 pairs", "share": pytest.approx(wanted.mean()), "cells": []
    }  # fmt: skip
    assert trust(here, id, level=0.8)["share"] > found["share"]  # a weaker promise
    assert trust(here, id, level=0.95)["cells"] == []


def test_what_was_regenerated_is_taken_out_and_the_rest_is_promised_less(made, tmp_path):
    here, _, id = made
    first = trust(here, id)
    whole = image(here, id, tmp_path)
    row, start, _ = first["cells"][len(first["cells"]) // 2]
    again, last = id, first
    for edit in ({"cells": [[row, start, start + 1]], "candidates": 2, "seed": 1}, {"box": [0, 0, 30, 30]}):
        again = here.ended(here.http.post(f"/v1/jobs/{again}/regenerate", json=edit).json()["id"])["id"]
        found = trust(here, again)
        before, after = (pixel_mask(one["cells"], 240, 160) for one in (first, found))
        assert not after[row * 8 + 4, start * 8 + 4]
        assert (before | ~after).all()
        assert (image(here, again, tmp_path)[after] == whole[after]).all()  # what is promised is as it was
        assert found["share"] < last["share"]
        assert found["error"] == pytest.approx(12 * before.sum() / after.sum())
        last = found
    here.service._maker._results._memory.__init__()  # computed again from the input: the same promise
    options = {"ext": "webp"}
    copy = here.ended(here.http.post(f"/v1/jobs/{again}/upscale", json=options).json()["id"])["id"]
    assert trust(here, copy) == last
    here.http.delete(f"/v1/jobs/{again}")
    problem(here.http.get(f"/v1/jobs/{again}/trust"), 410)


def test_where_nothing_is_promised_one_line_says_why(made, opened, calibrated):
    here, source, id = made
    for query, status, says in (
        ({"level": 0.99}, 422, "19 pairs of a group can promise a trust of up to 0.95, not of 0.99"),
        ({"error": 7}, 422, "no thresholds for a mean error of 7"),
        ({"level": 1}, 422, "level"),
    ):
        assert says in problem(here.http.get(f"/v1/jobs/{id}/trust", params=query), status)
    for options, says in (
        ({"outscale": 2}, "outscale 4 (now 2)"),
        ({"strength": 0.5}, "strength 1 (now 0.5)"),
        ({"steps": 0}, "there is no confidence of this job"),
    ):
        other = here.ended(here.post(source, **options).json()["id"])
        told = problem(here.http.get(f"/v1/jobs/{other['id']}/trust"), 404)
        assert says in told
        assert str(calibrated.parent) not in told


def test_without_a_calibration_there_is_none(opened, picture):
    here = opened(page=True)
    here.http.post("/v1/visit")
    assert here.http.get("/v1/page").json()["trust"] is False
    id = here.ended(here.post(picture()).json()["id"])["id"]
    assert "no calibration for these weights" in problem(here.http.get(f"/v1/jobs/{id}/trust"), 404)


def test_a_calibration_of_other_weights_or_none_at_all_ends_it(calibrated, tmp_path):
    with pytest.raises(UsageError, match="of other weights"):
        calibration_of("0" * 64, calibrated)
    with pytest.raises(UsageError, match="can't read"):
        calibration_of("0" * 64, tmp_path / "none.json")


def test_cells_at_the_border_count_by_their_pixels():
    """And where all of them were regenerated, nothing is left."""
    confidence = np.ones((2, 2), np.float32)
    mask, bound, share = FirstConfidence(confidence, np.array([[False, False], [True, True]])).mask(0.5, 12.0, 16, 10)
    assert mask.tolist() == [[True, True], [False, False]]
    assert (bound, share) == (pytest.approx(12 * 10 / 8), 0.8)
    assert FirstConfidence(confidence, np.ones((2, 2), bool)).mask(0.5, 12.0, 16, 10)[1:] == (12.0, 0.0)


def test_runs_are_those_that_a_mask_is_made_of():
    mask = np.random.default_rng(3).random((7, 9)) > 0.4
    assert (pixel_mask(runs_of(mask), 72, 56)[::8, ::8] == mask).all()
    assert runs_of(np.zeros((2, 2), bool)) == []
