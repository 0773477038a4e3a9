"""Published networks: their files as they are, and what is no such file."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from realsrt.checkpoint.published import load_published
from realsrt.errors import CheckpointError
from realsrt.models.rrdbnet import RRDBConfig
from realsrt.models.srvgg import SRVGGConfig

PRETRAINED = Path(__file__).parents[3] / "shared/pretrained"
SMALL = SRVGGConfig(channels=8, convs=3)


def network(config, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.build().eval()


@pytest.mark.parametrize("config", [SMALL, RRDBConfig(8, 2, 4)])
@pytest.mark.parametrize("wrapped", ["params_ema", "params", None])
def test_a_file_gives_the_network_it_was_written_from(tmp_path, config, wrapped):
    made = network(config)
    path = tmp_path / ("net.pth" if wrapped else "net.safetensors")
    if wrapped:
        torch.save({wrapped: made.state_dict()}, path)
    else:
        save_file(made.state_dict(), path)
    loaded = load_published(path)
    lq = torch.rand(2, 3, 9, 7)
    assert loaded.config == config
    assert torch.equal(loaded(lq), made(lq))
    assert loaded(lq).shape == (2, 3, 36, 28)


def test_the_weights_that_are_averaged_are_preferred(tmp_path):
    raw, averaged = network(SMALL, 1), network(SMALL, 2)
    torch.save({"params": raw.state_dict(), "params_ema": averaged.state_dict()}, tmp_path / "net.pth")
    assert torch.equal(load_published(tmp_path / "net.pth").body[0].weight, averaged.body[0].weight)


def test_the_features_and_the_picture_are_the_whole(tmp_path):
    made, lq = network(SMALL), torch.rand(1, 3, 8, 8)
    assert torch.equal(made.image(made.features(lq), lq), made(lq))


@pytest.mark.parametrize(("config", "traces"), [(SMALL, 0), (RRDBConfig(8, 1, 4), 3)])
def test_reach_is_how_far_a_pixel_looks(config, traces):
    """No less; and no further but for what rounding hides."""
    made = config.build().double()
    lq = torch.rand(1, 3, 63, 63, dtype=torch.float64)
    changed = lq.clone()
    changed[..., 31, 31] += 0.5
    moved = (made(lq) != made(changed)).any(1)[0].nonzero() // 4
    assert config.reach - traces <= (moved - 31).abs().max() <= config.reach


def test_bands_in_memory_that_is_used_again_are_the_whole(monkeypatch):
    monkeypatch.setattr("realsrt.models.rrdbnet._BAND", 5 * 9)
    monkeypatch.setattr("realsrt.models.rrdbnet._BAND_ROWS", 5)
    made, lq = RRDBConfig(8, 4, 4).build(), torch.rand(1, 3, 23, 9)
    whole = made(lq)
    with torch.no_grad():
        torch.testing.assert_close(made(lq), whole)


@pytest.mark.parametrize(
    "name, content",
    [
        ("missing.pth", None),
        ("damaged.pth", b"nothing of the kind"),
        ("damaged.safetensors", b"nothing of the kind"),
        ("other.safetensors", {"head.weight": torch.zeros(3, 3)}),
        ("cut.safetensors", "cut"),
        ("x2.safetensors", replace(SMALL, scale=2)),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, name, content):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        save_file(content, path)
    elif content == "cut":
        state = network(SMALL).state_dict()
        del state["body.2.bias"]
        save_file(state, path)
    elif content is not None:
        save_file(network(content).state_dict(), path)
    with pytest.raises(CheckpointError) as caught:
        load_published(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not PRETRAINED.is_dir(), reason=f"the published networks are not in {PRETRAINED}")
@pytest.mark.parametrize(
    "name, count",
    [
        ("realesr-general-x4v3", 1_213_296),
        ("realesr-general-wdn-x4v3", 1_213_296),
        ("realesrgan-x4plus", 16_697_987),
    ],
)
def test_the_published_files_load(name, count):
    loaded = load_published(PRETRAINED / f"{name}.safetensors")
    assert sum(p.numel() for p in loaded.parameters()) == count
    lq = torch.full((1, 3, 12, 12), 0.5)
    assert (loaded(lq)[..., 20:28, 20:28] - 0.5).abs().max() < 0.1  # gray stays gray
