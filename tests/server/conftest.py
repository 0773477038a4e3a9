import hashlib
import json

import numpy as np
import pytest

from realsrt import Upscaler, presets
from realsrt.checkpoint import save_model
from realsrt.evaluation.trust import calibrated_options, trust_map
from realsrt.inference.options import UpscaleOptions
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.server.app import create_app
from realsrt.server.service import Service
from realsrt.server.settings import ServerSettings
from support.serving import Opened


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_model(presets.build("tiny", seed=0), path)
    return path


@pytest.fixture(scope="session")
def up(weights):
    return Upscaler.from_pretrained(str(weights), device="cpu")


@pytest.fixture(scope="session")
def calibration(weights, up, tmp_path_factory):
    """A function: pixels → the file of a calibration of the tiny model. Of these pixels' result the mask is three
    quarters at a trust of 0.8, a half at 0.9 and nothing at 0.95."""

    def make(pixels):
        confidence = up.upscale(pixels).confidence
        low, middle = np.quantile(trust_map(confidence), (0.25, 0.5))
        mean = float(confidence.mean(dtype=float))
        groups = [  # of less sure images all would be in the mask, of surer ones nothing
            {"up_to": up_to, "scores": {"12": scores}}
            for up_to, scores in (
                (mean - 1e-4, [-1.0] * 19), (mean + 1e-4, [low] * 16 + [middle] * 2 + [2.0]), (1, [2.0] * 19)
            )
        ]  # fmt: skip
        document = {
            "format": 2, "model_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(), "about": "19 pairs",
            "options": calibrated_options(
                UpscaleOptions().pixel_options(), up.precision, up.window_precision, up.model.config
            ),
            "groups": groups,
        }  # fmt: skip
        path = tmp_path_factory.mktemp("calibration") / "c.json"
        path.write_text(json.dumps(document))
        return path

    return make


@pytest.fixture
def picture(tmp_path):
    """A function that writes a picture of noise and returns its path."""

    def make(name="a.png", height=20, width=30, bands=3, seed=0):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, bands), np.uint8)
        imageio.write(tmp_path / name, Picture.from_array(pixels))
        return tmp_path / name

    return make


@pytest.fixture
def opened(tmp_path, up, monkeypatch):
    """A function: settings → a running service and a client of it. `warm`: a page first computes an image of noise."""
    from contextlib import ExitStack

    from starlette.testclient import TestClient

    with ExitStack() as stack:

        def make(upscaler=up, working=True, warm=False, **settings):
            if not warm:
                monkeypatch.setitem(create_app.__globals__, "warm_up", lambda service: None)
            service = Service(ServerSettings(tmp_path / "data", **settings), upscaler)
            if not working:  # jobs stay in the queue
                service.store.take = lambda most=1: []
            return Opened(service, stack.enter_context(TestClient(create_app(service))))

        yield make
