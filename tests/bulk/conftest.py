import numpy as np
import pytest

from realsrt import presets
from realsrt.checkpoint import save_model
from realsrt.io import image as imageio
from realsrt.io.picture import Picture


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A weight file of the preset `tiny`."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_model(presets.build("tiny", seed=0), path)
    return path


@pytest.fixture
def make():
    """make(path, height, width, seed): a small RGB picture of noise, with a density."""

    def make(path, height=12, width=9, seed=0):
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        imageio.write(path, Picture.from_array(rng.integers(0, 255, (height, width, 3), np.uint8)))
        return path

    return make
