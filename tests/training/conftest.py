import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from realsrt.models.srvgg import SRVGGConfig


def photograph(seed: int, height: int = 256, width: int = 256) -> np.ndarray:
    """Waves and noise, HWC uint8: detail everywhere, and no two places alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (5 + seed + c)) * np.cos(y / (7 + c)) for c in range(3)]
    return (127 + 100 * np.stack(waves, -1) + rng.normal(0, 8, (height, width, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of three photographs."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(3):
        Image.fromarray(photograph(seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="session")
def network_file(tmp_path_factory):
    """A small published network, to be a teacher."""
    path = tmp_path_factory.mktemp("teacher") / "net.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(SRVGGConfig(channels=8, convs=2).build().state_dict(), path)
    return path


@pytest.fixture(scope="session", autouse=True)
def on_the_cpu():
    """Every run on the CPU, wherever the tests run: only there it is exact."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        yield


@pytest.fixture(autouse=True)
def accelerate_forgets():
    """Accelerate keeps device and precision for the whole process otherwise."""
    yield
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
