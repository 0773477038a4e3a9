from pathlib import Path

import numpy as np
import pytest

import realsrt
from realsrt import presets
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.web.engine import Engine
from realsrt.web.session import Session


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    realsrt.save_model(presets.build("tiny", 0), path)
    return path


@pytest.fixture(scope="session")
def engine(weights) -> Engine:
    return Engine(str(weights), device="cpu", max_pixels=1_000_000)


@pytest.fixture
def session(tmp_path):
    session = Session(tmp_path / "sessions")
    yield session
    session.close()


@pytest.fixture
def make_picture(tmp_path):
    """make_picture(name, width=40, height=30, channels=3): noise in a file."""

    def make(name: str, width: int = 40, height: int = 30, channels: int = 3) -> Path:
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
        imageio.write(tmp_path / name, Picture.from_array(pixels))
        return tmp_path / name

    return make


@pytest.fixture
def png(make_picture) -> Path:
    return make_picture("cat.png")
