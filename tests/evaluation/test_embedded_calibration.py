"""The calibration inside the package: it belongs to the weights beside it, and its real pairs keep the promise."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import realsrt
from realsrt.batch.outputs import Files
from realsrt.batch.plan import FileJob
from realsrt.batch.process import save_image, upscale_rows
from realsrt.cli.upscale import TrustArgs
from realsrt.evaluation import trust
from realsrt.evaluation.trust import BOUNDS, LEAST_PAIRS, calibrated_options, embedded_calibration
from realsrt.inference.options import UpscaleOptions
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

ADVICE = "calibrate anew after new weights: see recipes/calibration.py"


@pytest.fixture(scope="module")
def model():
    return realsrt.load_model("small")


@pytest.fixture(scope="module")
def calibration(model):
    try:
        return embedded_calibration(model.info.sha256)
    except realsrt.UsageError as problem:
        pytest.fail(f"{problem}; {ADVICE}")


def test_it_holds_for_the_weights_and_options_that_people_get(model, calibration):
    for windows in ("torch.float32", "torch.bfloat16"):  # of which the CPU decides
        options = calibrated_options(UpscaleOptions(steps=2).pixel_options(), "torch.float32", windows, model.config)
        calibration.check(model.info.sha256, options)
    assert all(tuple(group.scores) == BOUNDS for group in calibration.groups)
    assert min(group.pairs for group in calibration.groups) >= LEAST_PAIRS
    assert all(threshold <= 1 for _, threshold in calibration.thresholds(0.95, TrustArgs.trust_error))


def test_one_made_in_either_precision_would_hold_for_both(calibration, tmp_path, monkeypatch):
    options = {**calibration.options, "window_precision": "bfloat16"}
    replace(calibration, options=options).save(tmp_path / "small.calibration.json")
    monkeypatch.setattr(trust, "files", lambda _: tmp_path)
    for windows in ("float32", "bfloat16"):
        options["window_precision"] = windows
        embedded_calibration(calibration.model_sha256).check(calibration.model_sha256, options)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_of_its_real_pairs_one_half_keeps_what_the_other_promises(calibration, level):
    rng = np.random.default_rng(0)
    for group, bound in ((group, bound) for group in calibration.groups for bound in (8.0, 12.0, 16.0)):
        half = group.pairs // 2
        rank = math.ceil((half + 1) * level - 1e-9)
        scores, kept = np.array(group.scores[bound]), []
        for _ in range(1000):
            drawn = rng.permutation(scores)
            kept.append((drawn[half:] <= np.sort(drawn[:half])[rank - 1]).mean())
        assert np.mean(kept) > level - 0.01


@pytest.mark.slow
def test_a_photograph_gets_a_mask(model, calibration, tmp_path):
    """Of the tests' photograph, halved: a mask of some of it, whose error is within the bound."""
    photograph = imageio.read(Path(__file__).parents[1] / "data" / "nyc.webp")
    small = np.ascontiguousarray(photograph.pixels.reshape(64, 4, 64, 4, 3).mean((1, 3)).round().astype(np.uint8))
    imageio.write(tmp_path / "lq.png", Picture.from_array(small))
    up = realsrt.Upscaler(model, "cpu")
    job, files = (
        FileJob(tmp_path / "lq.png", tmp_path / "out.png"),
        Files(trusted_above=calibration.thresholds(0.8, 20.0)),
    )
    out, store = upscale_rows(up, imageio.read(job.source), UpscaleOptions(), job.target)
    record, _ = save_image(job, out, files, None, size=(64, 64), seconds=0.0)
    store.close()
    mask = imageio.read(tmp_path / "out_trust.png").pixels[..., 0] == 255
    assert record.trusted == pytest.approx(mask.mean(), abs=1e-4)
    error = np.abs(imageio.read(tmp_path / "out.png").pixels.astype(float) - photograph.pixels).mean(2)
    assert mask.any()
    assert error[mask].mean() <= 20
