"""Parts of a batch, one after the other, teach what the batch does."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("accelerate")

from realsrt.errors import UsageError
from realsrt.training import train
from realsrt.training.config import make_config, shared_out
from realsrt.training.pair_pool import Batch
from support.runs import log_of

TINY = {
    "crop": 64, "tile": 64, "pool": 8, "refresh": 1, "log_every": 1, "discriminator_width": 8, "max_steps": 2,
    "warmup": 1, "lr": 2e-4, "discriminator_lr": 2e-5, "profile_flops": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def init(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("init")
    return train(make_config("tokenizer", preset="tiny", data=(photos,), out=out, batch=4, **TINY | {"max_steps": 30}))


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("tokenizer", {}),
        ("generator", {"mask_sampling": "paper"}),
        ("critic", {}),
        ("control", {"gan": 0.0}),
    ],
)
def test_gradients_are_those_of_the_whole_batch(photos, tmp_path, init, stage, options):
    options = TINY | {"data": (photos,), "init": init} | options
    train(make_config(stage, out=tmp_path / "whole", batch=4, **options))
    train(make_config(stage, out=tmp_path / "parts", batch=1, accumulate=4, **options))
    for ours, theirs in zip(log_of(tmp_path / "parts"), log_of(tmp_path / "whole"), strict=True):
        for key in ("loss", "grad_norm", "lr"):
            assert ours[key] == pytest.approx(theirs[key], rel=2e-3), key
    first, second = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("parts", "whole"))
    moments = [[s["exp_avg"] for s in state["optimizer"]["state"].values()] for state in (first, second)]
    assert max(float(m.abs().max()) for m in moments[1]) > 0
    for a, b in zip(*moments, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=2e-3 * float(b.abs().max()) + 1e-7)
    if stage == "tokenizer":  # the codebook learned from all vectors at once
        for name in ("weight", "cluster_size_ema", "embed_ema"):
            a, b = (state["model"][f"tokenizer.quantizer.{name}"] for state in (first, second))
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_discriminator_learns_from_every_part(photos, tmp_path, init):
    options = TINY | {"data": (photos,), "init": init, "gan": 0.5, "discriminator": "unet", "max_steps": 1}
    for name, how in (("whole", {"batch": 4}), ("parts", {"batch": 2, "accumulate": 2})):
        train(make_config("control", out=tmp_path / name, **options, **how))
    (ours,), (theirs,) = log_of(tmp_path / "parts"), log_of(tmp_path / "whole")
    for key in ("pixel", "d_loss", "d_real", "d_fake", "d_grad_norm"):
        assert ours[key] == pytest.approx(theirs[key], rel=2e-3), key
    assert ours["gan_weight"] == pytest.approx(theirs["gan_weight"], rel=0.5)  # adapts to each part by itself


def test_split_keeps_order_and_knows_the_whole():
    lq, gt = torch.arange(6.0).view(6, 1, 1, 1), torch.arange(6.0).view(6, 1, 1, 1) + 10
    has_teacher = torch.tensor([True, False] * 3)
    parts = Batch(lq, gt, tuple(range(6)), gt + 10, has_teacher).split(3)
    assert [part.lq.flatten().tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert [part.seeds for part in parts] == [(0, 1), (2, 3), (4, 5)]
    assert [part.teacher.flatten().tolist() for part in parts] == [[20, 21], [22, 23], [24, 25]]
    assert all(part.has_teacher.tolist() == [True, False] for part in parts)
    assert all(part.whole == tuple(range(6)) and len(part.gt) == 2 for part in parts)


@pytest.mark.parametrize(
    ("processes", "batch", "accumulate"), [(1, 16, 4), (2, 16, 2), (8, 8, 1), (64, 1, 1), (4, 16, 1)]
)
def test_a_global_batch_is_dealt_out(processes, batch, accumulate):
    config = shared_out(make_config("tokenizer", max_steps=1, global_batch=64), processes)
    assert (config.batch, config.accumulate) == (batch, accumulate)
    assert config.batch * config.accumulate * processes == 64


def test_a_global_batch_that_can_not_be_dealt_out():
    config = make_config("tokenizer", max_steps=1, global_batch=10)
    with pytest.raises(UsageError, match=r"--global-batch 10 .* 4 processes"):
        shared_out(config, 4)
    with pytest.raises(UsageError, match="not both"):
        shared_out(replace(config, accumulate=2), 1)
    uneven = shared_out(replace(config, batch=4), 1)
    assert (uneven.batch, uneven.accumulate) == (2, 5)  # 10 = 5 parts of 2: 4 at most, and equal parts
