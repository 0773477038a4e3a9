"""The deep stage: a thinned published network learns, from reduced inputs, what a teacher made of the whole."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("accelerate")

import realsrt
from realsrt import presets
from realsrt.errors import UsageError
from realsrt.models.rrdbnet import RRDBConfig
from realsrt.models.srvgg import SRVGGConfig
from realsrt.training import train
from realsrt.training.config import make_config
from realsrt.training.pair_pool import Batch
from realsrt.training.stages import BUILDERS


@pytest.fixture
def published(tmp_path):
    """Files like the published ones, of the tiny preset's shapes; the large one with three blocks, not one."""
    paths = []
    for number, config in enumerate((SRVGGConfig(16, 2), SRVGGConfig(16, 2), RRDBConfig(8, 3, 4))):
        torch.manual_seed(number)
        paths.append(tmp_path / f"{number}.safetensors")
        save_file(config.build().state_dict(), paths[-1])
    return tuple(paths)


def batch_of(target):
    lq = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    gt = torch.nn.functional.interpolate(lq.flip(0), scale_factor=4.0)  # no photograph of this input: it lost a lot
    return Batch(lq, gt, (0, 1), teacher=target, has_teacher=torch.tensor([True, True]))


def test_a_thinned_network_keeps_first_and_last_block():
    network = RRDBConfig(8, 7, 4).build()
    thin = network.thinned(3)
    assert thin.config == RRDBConfig(8, 3, 4)
    for new, old in ((0, 0), (1, 3), (2, 6)):
        assert torch.equal(thin.body[new].rdb2.conv3.weight, network.body[old].rdb2.conv3.weight)
    assert torch.equal(thin.conv_hr.weight, network.conv_hr.weight)
    assert len(network.thinned(1).body) == 1


def test_bands_of_rows_are_the_whole(monkeypatch):
    monkeypatch.setattr("realsrt.models.rrdbnet._BAND", 5)
    network, lq = RRDBConfig(8, 1, 4).build(), torch.rand(1, 3, 23, 9)
    whole = network(lq)
    with torch.no_grad():
        torch.testing.assert_close(network(lq), whole)


def test_the_run_starts_from_the_published_network_and_moves_it_alone(published, photos, tmp_path):
    path = train(
        make_config(
            "deep", preset="tiny", trunk=published, teacher=published[2], data=(photos,), out=tmp_path / "run",
            max_steps=2, batch=2, crop=64, tile=64, pool=4, refresh=1, perceptual=0.0, ema=0.0,
        )
    )  # fmt: skip
    made = realsrt.load_model(path).state_dict()
    before = RRDBConfig(8, 3, 4).build()
    before.load_state_dict(load_file(published[2]))
    start = before.thinned(1).state_dict()
    moved = {key for key, value in start.items() if not torch.equal(made[f"trunk.deep.{key}"], value)}
    assert moved == set(start)
    for key, value in load_file(published[0]).items():
        assert torch.equal(made[f"trunk.mild.{key}"], value)
    far = max(float((made[f"trunk.deep.{key}"] - value).abs().max()) for key, value in start.items())
    assert far < 1e-3  # two small steps away


def test_it_comes_closer_to_the_teachers_image():
    model = presets.build("tiny", seed=3)
    config = make_config("deep", max_steps=1, init=Path("x"), perceptual=0.0)
    stage = BUILDERS["deep"](model, config)
    target = torch.full((2, 3, 48, 48), 0.3)
    optimizer = torch.optim.Adam([p for p in stage.main.parameters() if p.requires_grad], 3e-3)
    errors = []
    for step in range(25):
        outcome = stage.main(batch_of(target), step)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        errors.append(float(outcome.figures["mse"]))
    assert errors[-1] < errors[0] / 3


def test_what_does_not_fit_is_refused(published, tmp_path, photos):
    paper = presets.build("tiny_paper")
    with pytest.raises(UsageError, match="no deep network"):
        BUILDERS["deep"](paper, make_config("deep", max_steps=1, init=Path("x")))
    with pytest.raises(UsageError, match=r"two files, .* or three"):
        make_config("deep", max_steps=1, trunk=published[:1])
    swapped = (published[2], published[1], published[0])
    with pytest.raises(UsageError, match=r"2\.safetensors holds RRDBConfig.* takes SRVGGConfig"):
        train(make_config("deep", preset="tiny", trunk=swapped, data=(photos,), out=tmp_path / "no", max_steps=1))
