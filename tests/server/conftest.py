import numpy as np
import pytest

from realsrt import Upscaler, presets
from realsrt.checkpoint import save_model
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
