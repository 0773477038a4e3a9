"""recipes/mix.py: weights between two ends."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import realsrt
from realsrt import presets
from realsrt.models.rrdbnet import RRDBConfig

SCRIPT = Path(__file__).parents[2] / "recipes" / "mix.py"


def call(*words):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mix")
    for seed in (1, 2):
        realsrt.save_model(presets.build("tiny", seed=seed), folder / f"{seed}.safetensors")
    return folder


def test_a_share_of_the_way(ends, tmp_path):
    done = call(ends / "1.safetensors", ends / "2.safetensors", 0.25, tmp_path / "m.safetensors")
    assert done.returncode == 0, done.stderr
    one, two, mixed = (
        realsrt.load_model(path).state_dict()["control.fuse_in.weight"]
        for path in (ends / "1.safetensors", ends / "2.safetensors", tmp_path / "m.safetensors")
    )
    torch.testing.assert_close(mixed, 0.75 * one + 0.25 * two)


def test_from_a_published_network_the_deep_one_alone(ends, tmp_path):
    config = realsrt.load_model(ends / "2.safetensors").trunk.deep.config
    published = RRDBConfig(config.channels, config.blocks, config.growth).build()
    save_file(published.state_dict(), tmp_path / "p.safetensors")
    done = call(tmp_path / "p.safetensors", ends / "2.safetensors", 0.5, tmp_path / "m.safetensors")
    assert done.returncode == 0, done.stderr
    two, mixed = (realsrt.load_model(path) for path in (ends / "2.safetensors", tmp_path / "m.safetensors"))
    key = "body.0.rdb1.conv1.weight"
    between = 0.5 * (published.state_dict()[key] + two.trunk.deep.state_dict()[key])
    torch.testing.assert_close(mixed.trunk.deep.state_dict()[key], between)
    assert torch.equal(mixed.control.fuse_in.weight, two.control.fuse_in.weight)


@pytest.mark.parametrize(("share", "said"), [("1.5", "between 0 and 1, not 1.5"), ("half", "START END SHARE OUT")])
def test_a_useless_share_is_refused(ends, tmp_path, share, said):
    done = call(ends / "1.safetensors", ends / "2.safetensors", share, tmp_path / "m.safetensors")
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "m.safetensors").exists()
