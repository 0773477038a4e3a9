"""Two processes with half the batch each are one process with the whole batch."""

import shutil

import pytest
import torch

from support.launch import train_on_two

pytest.importorskip("accelerate")

from realsrt import presets
from realsrt.checkpoint import save_model
from realsrt.training.config import make_config
from realsrt.training.loop import train
from realsrt.training.progress import Log
from support.runs import log_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def init(photos, tmp_path_factory):
    """A tiny model whose tokenizer uses many codes."""
    out = tmp_path_factory.mktemp("init")
    options = {"batch": 4, "crop": 64, "tile": 64, "pool": 8, "warmup": 1, "lr": 3e-3, "ema": 0.1}
    return train(make_config("tokenizer", preset="tiny", data=(photos,), out=out, max_steps=60, **options))


def assert_close(out, other):
    ours, theirs = log_of(out), log_of(other)
    assert len(ours) == len(theirs) == 6
    for line, reference in zip(ours, theirs, strict=True):
        # from the same weights the same gradients; Adam then magnifies what rounding leaves between them
        assert line == pytest.approx(reference, rel=1e-4 if line["step"] == 1 else 5e-3, abs=2e-5)
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (out, other)]
    for part in ("model", "ema", "adversary"):
        a, b = (state[part] or {} for state in states)
        assert a.keys() == b.keys()
        for key in a:
            where = f"{part}: {key}"
            torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-4, msg=where)


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("tokenizer", {}),
        ("tokenizer", {"gan": 0.5, "discriminator": "unet"}),
        ("generator", {"mask_sampling": "paper"}),
        ("critic", {"critic_labels": "wrong"}),
        ("control", {"gan": 0.5, "discriminator": "patch_sn"}),
        ("generator", {"refresh": 5, "pool": 12}),
    ],
)
def test_two_halves_are_one_whole(photos, tmp_path, init, stage, options):
    options = {
        "data": (photos,), "init": init, "max_steps": 6, "crop": 64, "tile": 64, "pool": 8, "log_every": 1,
        "discriminator_width": 8, "discriminator_lr": 2e-5, "warmup": 1, "lr": 2e-4,
    } | options  # fmt: skip
    train(make_config(stage, out=tmp_path / "one", batch=4, **options))
    train_on_two(stage, options | {"out": tmp_path / "two", "batch": 2})
    assert_close(tmp_path / "two", tmp_path / "one")
    if stage == "tokenizer":
        before = torch.load(tmp_path / "two" / "state.pt", weights_only=True)["model"]["tokenizer.quantizer.weight"]
        assert not torch.equal(before, presets.build("tiny").tokenizer.quantizer.weight)
        for name in ("cluster_size_ema", "embed_ema"):  # learned from both halves, not from one
            key = f"tokenizer.quantizer.{name}"
            own, other = (
                torch.load(tmp_path / x / "state.pt", weights_only=True)["model"][key] for x in ("two", "one")
            )
            torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-3)


def test_two_processes_go_on_where_one_was_killed(photos, tmp_path, init, monkeypatch):
    options = {
        "data": (photos,), "init": init, "max_steps": 6, "crop": 64, "tile": 64, "pool": 8, "log_every": 1,
        "discriminator_width": 8, "discriminator_lr": 2e-5, "warmup": 1, "lr": 2e-4, "save_steps": 3,
    }  # fmt: skip
    train(make_config("control", out=tmp_path / "one", batch=4, **options))
    add = Log.add

    def add_then_die(self, step, *args, **given):
        if step == 5:
            raise KeyboardInterrupt
        return add(self, step, *args, **given)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "add", add_then_die)
        with pytest.raises(KeyboardInterrupt):
            train(make_config("control", out=tmp_path / "two", batch=4, **options))
    train_on_two("control", options | {"out": tmp_path / "two", "batch": 2, "resume": True})
    assert_close(tmp_path / "two", tmp_path / "one")


def test_a_run_shrinks_and_grows_over_resumes(photos, tmp_path, init):
    """Two processes, one, two: the losses are those of a run that nothing interrupts. lr_end=1, so that max_steps only
    says where to stop."""
    options = {
        "data": (photos,), "init": init, "crop": 64, "tile": 64, "pool": 8, "log_every": 1, "global_batch": 4,
        "batch": 2, "warmup": 1, "lr": 2e-4, "lr_end": 1.0, "mask_sampling": "paper", "out": tmp_path / "two",
    }  # fmt: skip
    train_on_two("generator", options | {"max_steps": 2})
    train(make_config("generator", **options | {"max_steps": 4, "resume": True}))
    assert "resumed at step 4" in train_on_two("generator", options | {"max_steps": 6, "resume": True})
    train(make_config("generator", **options | {"max_steps": 6, "out": tmp_path / "one", "batch": 4}))
    assert_close(tmp_path / "two", tmp_path / "one")


def test_machines_that_do_not_see_one_folder_are_told(photos, tmp_path, init):
    """Each process starts in a folder of its own, as machines without a common file system do; one has a state."""
    options = {
        "data": (photos,), "init": init, "crop": 64, "tile": 64, "pool": 8, "batch": 2, "max_steps": 2,
    }  # fmt: skip
    train(make_config("generator", out=tmp_path / "rank0" / "run", **options))
    (tmp_path / "rank1").mkdir()
    program = (
        "import os, sys; os.chdir(os.path.join(sys.argv.pop(1), 'rank' + os.environ['RANK'])); "
        "from realsrt.cli import main; sys.exit(main())"
    )
    (tmp_path / "apart.py").write_text(program)
    with pytest.raises(AssertionError, match=r"steps 0 and 2: give an --out that all see"):
        train_on_two("generator", options | {"out": "run", "resume": True}, script=(tmp_path / "apart.py", tmp_path))


def test_a_mistake_ends_both_processes(photos, tmp_path):
    save_model(presets.build("tiny"), tmp_path / "init.safetensors")
    with pytest.raises(AssertionError, match="huge"):
        train_on_two("tokenizer", {"data": (photos,), "preset": "huge", "out": tmp_path / "two", "max_steps": 2})
    shutil.rmtree(tmp_path / "two", ignore_errors=True)
