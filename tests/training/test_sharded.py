"""Networks cut up between two processes (FSDP2) learn what whole ones do, and their checkpoints are the same."""

import pytest
import torch

from support.launch import train_on_two

pytest.importorskip("accelerate")

from realsrt.training.config import make_config
from realsrt.training.loop import train
from support.runs import log_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
TINY = {
    "crop": 64, "tile": 64, "pool": 8, "log_every": 1, "discriminator_width": 8, "discriminator_lr": 2e-5,
    "warmup": 1, "lr": 2e-4, "max_steps": 4, "profile_flops": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def init(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("init")
    options = TINY | {"max_steps": 40, "lr": 3e-3}
    return train(make_config("tokenizer", preset="tiny", data=(photos,), out=out, batch=4, **options))


def assert_close(out, other):
    for line, reference in zip(log_of(out), log_of(other), strict=True):
        assert line == pytest.approx(reference, rel=1e-4 if line["step"] == 1 else 5e-3, abs=2e-5)
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (out, other)]
    for part in ("model", "ema"):
        a, b = (state[part] for state in states)
        assert a.keys() == b.keys()
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-4, msg=f"{part}: {key}")
    moments = [state["optimizer"]["state"] for state in states]
    assert moments[0].keys() == moments[1].keys()
    for index, moment in moments[0].items():
        assert moment["exp_avg"].shape == moments[1][index]["exp_avg"].shape


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("tokenizer", {}),
        ("generator", {"mask_sampling": "paper", "accumulate": 2}),
        ("critic", {}),
        ("control", {"gan": 0.5, "tune_generator": True}),
    ],
)
def test_cut_up_is_as_whole(photos, tmp_path, init, stage, options):
    options = TINY | {"data": (photos,), "init": init} | options
    parts = options.pop("accumulate", 1)
    train(make_config(stage, out=tmp_path / "one", batch=4, **options))
    shared = options | {"out": tmp_path / "two", "batch": 2 // parts, "accumulate": parts}
    train_on_two(stage, shared, **FSDP)
    assert_close(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("stage", ["tokenizer", "generator"])
def test_a_run_goes_on_cut_up_and_whole_again(photos, tmp_path, init, stage):
    """One process, two that share the networks, one again: lr_end=1, so that max_steps only says where to stop."""
    options = TINY | {"data": (photos,), "init": init, "global_batch": 4, "lr_end": 1.0}
    train(make_config(stage, out=tmp_path / "one", **options | {"max_steps": 6}))
    for until, processes in ((2, 1), (4, 2), (6, 1)):
        more = options | {"out": tmp_path / "two", "max_steps": until, "resume": until > 2}
        if processes == 2:
            assert "resumed at step 2" in train_on_two(stage, more, **FSDP)
        else:
            train(make_config(stage, **more))
    assert_close(tmp_path / "two", tmp_path / "one")


def test_fsdp_version_1_is_refused(photos, tmp_path):
    options = TINY | {"data": (photos,), "preset": "tiny", "out": tmp_path / "two"}
    with pytest.raises(AssertionError, match="fsdp_version: 2"):
        train_on_two("tokenizer", options, ACCELERATE_USE_FSDP="true", FSDP_VERSION="1")
