import json
import math
import os
import signal
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate")

import realsrt
from realsrt import presets, training
from realsrt.checkpoint import load_model, save_model
from realsrt.errors import CheckpointError, RealSRTError, UsageError
from realsrt.training import train
from realsrt.training.config import make_config
from realsrt.training.progress import Log, rate
from support.runs import log_of, train_until_killed

STAGES = training.STAGES[2:]  # the trunk's two stages learn by themselves
TINY = {"batch": 2, "crop": 64, "tile": 64, "pool": 4, "refresh": 1, "log_every": 2, "discriminator_width": 8}


@pytest.fixture
def config(photos, tmp_path):
    """A config maker: tiny, on three photographs, into a folder of its own name."""

    def make(stage, name=None, **options):
        preset = "tiny" if stage == "tokenizer" else None
        given = {"data": (photos,), "out": tmp_path / (name or stage), "max_steps": 6, "preset": preset}
        return make_config(stage, **(TINY | given | options))

    return make


@pytest.fixture(scope="module")
def chain(photos, tmp_path_factory):
    """The weights after each of the four stages, three steps each."""
    folder, made, init = tmp_path_factory.mktemp("chain"), {}, None
    for stage in STAGES:
        preset = "tiny" if init is None else None
        init = train(
            make_config(stage, preset=preset, init=init, data=(photos,), out=folder / stage, max_steps=3, **TINY)
        )
        made[stage] = init
    return made


def before(chain, stage):
    """What a stage starts from."""
    if stage == "deep":
        return chain["control"]
    return chain[STAGES[STAGES.index(stage) - 1]] if stage != "tokenizer" else None


def assert_same(a, b, where="state"):
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{index}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def state_of(out):
    state = torch.load(out / "state.pt", weights_only=True)
    del state["minutes"]
    return state


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("tokenizer", {}),
        ("tokenizer", {"gan": 0.5, "discriminator": "patch"}),
        ("generator", {}),
        ("critic", {}),
        ("control", {}),
        ("control", {"gan": 0.5, "discriminator": "unet", "gan_start": 5, "tune_decoder": False}),
        ("control", {"gan": 0.5, "gan_warmup": 5}),
        ("deep", {"gan": 0.5, "reduced_share": 0.5}),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(config, chain, monkeypatch, stage, options):
    options = {"max_steps": 8, "save_steps": 4, "init": before(chain, stage)} | options
    whole = config(stage, "whole", **options)
    train(whole)
    broken = config(stage, "broken", **options)
    train_until_killed(broken, monkeypatch, 6)  # two steps, and a line of the log, are lost
    assert state_of(broken.out)["step"] == 4
    assert len(log_of(broken.out)) == 3
    train(replace(broken, resume=True))
    assert_same(state_of(broken.out), state_of(whole.out))
    assert_same(log_of(broken.out), log_of(whole.out))
    assert [line["step"] for line in log_of(whole.out)] == [2, 4, 6, 8]
    ours, theirs = (realsrt.load_model(c.out / "model.safetensors").state_dict() for c in (broken, whole))
    assert_same(dict(ours), dict(theirs))


def test_two_runs_are_the_same_and_another_seed_is_not(config):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(config("tokenizer", name, seed=seed, max_steps=2))
    a, b, c = (state_of(config("tokenizer", name).out) for name in "abc")
    assert_same(a, b)
    assert not torch.equal(
        a["model"]["tokenizer.decoder.to_full.weight"], c["model"]["tokenizer.decoder.to_full.weight"]
    )


def test_a_finished_run_resumes_to_itself_and_a_longer_one_goes_on(config):
    first = config("tokenizer", max_steps=2)
    train(first)
    done = state_of(first.out)
    train(replace(first, resume=True))
    assert_same(state_of(first.out), done)
    train(replace(first, resume=True, max_steps=4))
    assert state_of(first.out)["step"] == 4
    assert [line["step"] for line in log_of(first.out)] == [2, 4]


def test_a_new_run_in_an_old_folder_starts_a_new_log(config):
    train(config("tokenizer", max_steps=4))
    train(config("tokenizer", max_steps=2, overwrite=True))
    assert [line["step"] for line in log_of(config("tokenizer").out)] == [2]


@pytest.mark.parametrize("gone", ["", "state.pt", "model.safetensors"])
def test_a_run_is_not_destroyed_by_another(config, gone):
    run = config("tokenizer", max_steps=1)
    train(run)
    (run.out / gone).unlink() if gone else None
    before = {path: path.read_bytes() for path in run.out.iterdir() if path.is_file()}
    with pytest.raises(UsageError, match=r"holds a run already .*--overwrite"):
        train(run)
    if gone == "state.pt":  # nothing to go on from, but weights that would be lost
        with pytest.raises(UsageError, match=r"holds a run already .*--overwrite"):
            train(replace(run, resume=True))
    assert {path: path.read_bytes() for path in run.out.iterdir() if path.is_file()} == before
    with pytest.raises(UsageError, match="not both"):
        config("tokenizer", resume=True, overwrite=True)


def test_the_chain_makes_a_model_that_knows_its_history(chain):
    model = realsrt.load_model(chain["control"])
    stages = model.info.provenance["stages"]
    assert [s["stage"] for s in stages] == list(STAGES)
    assert [s["steps"] for s in stages] == [3, 3, 3, 3]
    assert stages[0]["settings"]["preset"] == "tiny"
    assert stages[3]["settings"]["init"] == "model.safetensors"  # no path of this machine
    assert "/" not in json.dumps(stages)
    out = model.super_resolve(torch.rand(1, 3, 16, 16), num_steps=3)
    assert out.image.shape == (1, 3, 64, 64)
    assert bool(out.image.isfinite().all())
    assert out.confidence is not None


def test_each_stage_of_the_chain_moves_its_own_part_only(chain):
    models = {stage: realsrt.load_model(path).state_dict() for stage, path in chain.items()}
    learns = {"generator": ("generator.", "critic."), "critic": ("critic.",), "control": ("control.", "tokenizer.")}
    for stage, parts in learns.items():
        old, new = models[STAGES[STAGES.index(stage) - 1]], models[stage]
        moved = {k for k in new if not torch.equal(old[k], new[k])}
        assert moved
        assert all(k.startswith(parts) for k in moved)
    critic = {k for k in models["critic"] if k.startswith("critic.") and "token_embedding" in k}
    book = models["critic"]["tokenizer.quantizer.weight"]
    assert critic
    assert all(torch.equal(models[s][k], book) for k in critic for s in ("generator", "critic", "control"))
    assert torch.equal(
        models["control"]["tokenizer.quantizer.weight"], models["tokenizer"]["tokenizer.quantizer.weight"]
    )


def test_history_survives_resuming_without_the_initial_weights(config, chain, monkeypatch):
    run = config("generator", init=chain["tokenizer"], save_steps=2)
    train_until_killed(run, monkeypatch, 3)
    path = train(replace(run, resume=True, init=None))
    assert [s["stage"] for s in realsrt.load_model(path).info.provenance["stages"]] == ["tokenizer", "generator"]


def test_the_weights_written_are_the_average(config):
    run = config("tokenizer", max_steps=5, lr=1e-2, warmup=1)
    path = train(run)
    state, written = state_of(run.out), realsrt.load_model(path).state_dict()
    key = "tokenizer.decoder.to_full.weight"
    assert torch.equal(written[key], state["ema"][key])
    assert not torch.equal(written[key], state["model"][key])
    book = "tokenizer.quantizer.weight"
    assert torch.equal(written[book], state["model"][book])


def test_minutes_end_a_run_and_its_learning_rate(config):
    run = config("tokenizer", max_steps=None, max_minutes=0.03, log_every=1, warmup=1)
    started = time.monotonic()
    train(run)
    assert 1.5 < time.monotonic() - started < 120
    lines = [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["lr"] < 0.1 * lines[0]["lr"]
    assert torch.load(run.out / "state.pt", weights_only=True)["minutes"] == pytest.approx(0.03, abs=0.01)
    train(replace(run, resume=True))  # its minutes are used up
    assert state_of(run.out)["step"] == lines[-1]["step"]


def test_learning_rate_warms_up_and_decays_to_its_end():
    config = make_config("tokenizer", max_steps=100, warmup=10, lr_end=0.05)
    factors = [rate(config, step, step / 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(factors[9], abs=0.03)
    assert factors[:9] == sorted(factors[:9])
    assert factors[12:] == sorted(factors[12:], reverse=True)
    assert factors[-1] == pytest.approx(0.05)
    assert rate(config, 50, 0.5) == pytest.approx(0.05 + 0.95 / 2)


def test_the_rate_is_what_the_optimizer_gets(config):
    run = config("tokenizer", max_steps=4, log_every=1, warmup=2, lr=1e-3)
    train(run)
    expected = [1e-3 * rate(run, step, step / 4) for step in range(4)]
    assert [line["lr"] for line in log_of(run.out)] == pytest.approx(expected, rel=1e-4)


def test_log_and_trackers(config):
    run = config("tokenizer", gan=0.3, gan_start=3, log_every=4)
    train(replace(run, max_steps=8))
    first, second = log_of(run.out)
    for line in (first, second):
        assert {"step", "lr", "grad_norm", "loss", "pixel", "commitment", "codes_used", "d_loss"} <= line.keys()
        assert all(math.isfinite(v) for v in line.values())
    assert first["d_loss"] > 0.5  # the mean of the one step that had it, not of all four
    assert list((run.out / "tensorboard").rglob("events*"))


@pytest.mark.parametrize(("stage", "start"), [("tokenizer", 0), ("tokenizer", 2), ("control", 1)])
def test_a_discriminator_warms_up_while_the_model_waits(config, chain, stage, start):
    """The model, its codebook and its average stay as they are until the discriminator has had its steps."""
    options = {"gan": 0.5, "gan_start": start, "gan_warmup": 3, "log_every": 1, "save_steps": 1, "lr_end": 1.0}
    options |= {"init": before(chain, stage), "warmup": 4}
    states, run = [], config(stage, **options)
    for steps in range(1, start + 5):
        train(replace(run, max_steps=steps, resume=steps > 1))
        states.append(state_of(run.out))
    for step, (old, new) in enumerate(pairwise(states), 1):
        waits = start <= step < start + 3
        for part in ("model", "ema"):
            same = all(torch.equal(old[part][key], new[part][key]) for key in old[part])
            assert same == waits
        learned = old["adversary"].keys() and any(
            not torch.equal(old["adversary"][key], new["adversary"][key]) for key in old["adversary"]
        )
        assert learned == (step >= start)
    lines = log_of(run.out)
    assert all("d_loss" in line for line in lines[start:])
    assert [line["step"] - 1 for line in lines if "grad_norm" not in line] == [start, start + 1, start + 2]
    learning = [line["lr"] for line in lines if "grad_norm" in line]
    expected = [run.lr * rate(run, step, 0) for step in range(start + 1)]
    assert learning == pytest.approx(expected, rel=1e-3)  # the warm-up of its rate waits, too


def test_networks_are_compiled_after_the_first_step_of_everything(config, chain, monkeypatch):
    """So that none is compiled without a gradient first, and the step that is counted is a whole one."""
    compiled = []
    monkeypatch.setattr("realsrt.training.loop.compile_parts", lambda model, adversary: compiled.append(adversary))
    add, seen = Log.add, {}

    def add_and_look(self, step, *args, **options):
        seen[step] = len(compiled), self.work.flops
        return add(self, step, *args, **options)

    monkeypatch.setattr(Log, "add", add_and_look)
    train(config("control", init=before(chain, "control"), gan=0.5, gan_warmup=2, compile=True, max_steps=4))
    assert [seen[step][0] for step in range(1, 5)] == [0, 0, 1, 1]
    assert compiled[0] is not None
    assert seen[2][1] < seen[3][1] == seen[4][1]


def test_the_log_says_how_fast(config):
    run = config("tokenizer", max_steps=2)
    train(run)
    (line,) = [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]
    assert line["samples_per_second"] == pytest.approx(2 * line["steps_per_second"], rel=1e-3)
    assert line["tflops"] > 0
    assert 0 < line["share_of_peak"] < 1.5
    train(replace(run, profile_flops=False, overwrite=True))
    (line,) = [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]
    assert "samples_per_second" in line
    assert "tflops" not in line


def test_counting_work_changes_nothing(config):
    runs = [config("tokenizer", name, gan=0.5, max_steps=2, profile_flops=name == "with") for name in ("with", "out")]
    for run in runs:
        train(run)
    assert_same(*(state_of(run.out) for run in runs))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_the_run(config, monkeypatch, capsys, number):
    whole, broken = (config("tokenizer", name) for name in ("whole", "broken"))
    train(whole)
    add = Log.add

    def add_and_signal(self, step, *args, **options):
        if step == 3:
            os.kill(os.getpid(), number)
        return add(self, step, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "add", add_and_signal)
        with pytest.raises(SystemExit) as caught:
            train(broken)
    assert caught.value.code == 128 + number
    assert "saved at step 3" in capsys.readouterr().out
    assert state_of(broken.out)["step"] == 3
    train(replace(broken, resume=True))
    assert_same(state_of(broken.out), state_of(whole.out))


def test_a_pool_that_does_not_divide_is_made_larger(config, capsys):
    train(config("tokenizer", pool=5, batch=2, max_steps=1))
    assert "a pool of 6 pairs instead of 5" in capsys.readouterr().out


def test_a_diverging_run_stops_and_keeps_its_last_save(config):
    run = config("tokenizer", max_steps=4, save_steps=2)
    train(run)
    good = state_of(run.out)
    with pytest.raises(RealSRTError, match=r"diverged.*--lr"):
        train(replace(run, resume=True, max_steps=40, lr=1e30, clip=1e30, save_steps=1))
    kept = state_of(run.out)
    assert kept["step"] >= good["step"]
    assert all(bool(v.isfinite().all()) for v in kept["model"].values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "huge"}, ["huge", "tiny"]),
        ({"data": ()}, ["--data"]),
        ({"degradation": "rain"}, ["rain", "mixed"]),
        ({"tile": 512, "crop": 64}, ["512 px"]),
        ({"crop": None, "tile": 96}, ["128", "--tile", "96"]),
        ({"perceptual_file": Path("f"), "perceptual_shift": 50, "crop": 64}, ["--perceptual-shift", "50", "64"]),
        ({"tile": 130, "crop": 64}, ["--tile", "multiple of 4", "130"]),
        ({"precision": "fp16"}, ["fp16"]),
        ({"preset": "tiny_paper", "stage": "generator", "crop": 64}, ["tiny_paper", "256", "64"]),
    ],
)
def test_settings_that_make_no_sense(config, tmp_path, options, words):
    options = dict(options)
    stage = options.pop("stage", "tokenizer")
    if stage == "generator":
        save_model(realsrt.presets.build(options["preset"]), tmp_path / "init.safetensors")
        options["init"] = tmp_path / "init.safetensors"
    with pytest.raises(UsageError) as caught:
        train(config(stage, **options))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("stage", "options", "words"),
    [
        ("cook", {}, ["cook", "tokenizer"]),
        ("tokenizer", {"max_steps": None}, ["--max-steps"]),
        ("generator", {}, ["--init", "generator"]),
        ("tokenizer", {"crop": 40}, ["--crop", "40"]),
        ("tokenizer", {"crop": 128, "tile": 64}, ["--crop"]),
        ("tokenizer", {"max_steps": 0}, ["--max-steps"]),
        ("tokenizer", {"max_minutes": -1.0}, ["--max-minutes"]),
        ("tokenizer", {"batch": 0}, ["--batch"]),
        ("tokenizer", {"refresh": -1}, ["--refresh"]),
        ("tokenizer", {"seed": -1}, ["--seed"]),
        ("tokenizer", {"max_minutes": float("nan")}, ["--max-minutes"]),
        ("tokenizer", {"gan": 1.0, "discriminator_width": 0}, ["--discriminator-width"]),
        ("tokenizer", {"ema": 2.0}, ["--ema", "0 to 1", "2.0"]),
        ("tokenizer", {"betas": (0.9, 1.0)}, ["--betas", "0.9, 1.0"]),
        ("tokenizer", {"gan_warmup": 5}, ["--gan-warmup", "--gan"]),
        ("tokenizer", {"gan_warmup": -5, "gan": 0.1}, ["--gan-warmup"]),
    ],
)
def test_configs_that_make_no_sense(stage, options, words):
    with pytest.raises(UsageError) as caught:
        make_config(stage, **({"max_steps": 5} | options))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_missing_and_foreign_initial_weights(config, chain, tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors"):
        train(config("generator", init=tmp_path / "nowhere.safetensors"))
    with pytest.raises(UsageError, match=r"'tiny'.* nothing that 'tiny_paper' can use"):
        train(config("generator", init=chain["tokenizer"], preset="tiny_paper"))
    with pytest.raises(UsageError, match=r"nothing to resume.*--init"):
        train(config("generator", resume=True))
    with pytest.raises(UsageError, match=r"nothing to resume.*--init"):  # a trunk is no start for tokens
        train(config("generator", resume=True, trunk=(tmp_path / "mild.pth", tmp_path / "strong.pth")))
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match=r"can't make the folder.*taken"):
        train(config("tokenizer", "taken"))


@pytest.fixture
def finished(config):
    run = config("tokenizer", max_steps=2)
    train(run)
    return replace(run, resume=True, max_steps=4)


@pytest.mark.parametrize("damage", ["cut", "noise", "other", "empty", "kinds"])
def test_a_damaged_state_is_a_checkpoint_error(finished, damage):
    file = finished.out / "state.pt"
    content = file.read_bytes()
    if damage == "other":
        torch.save({"epoch": 3}, file)
    elif damage == "kinds":
        torch.save({**torch.load(file, weights_only=True), "history": None}, file)
    else:
        file.write_bytes({"cut": content[: len(content) // 2], "noise": bytes(range(256)) * 40, "empty": b""}[damage])
    with pytest.raises(CheckpointError) as caught:
        train(finished)
    assert "state.pt" in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_state_of_other_settings_is_a_usage_error(finished, chain):
    other = make_config("generator", init=chain["tokenizer"], data=finished.data, out=finished.out, max_steps=4, **TINY)
    for run, words in (
        (replace(finished, preset="tiny_paper", crop=None), "'tiny', not 'tiny_paper'"),
        (replace(finished, gan=0.5), "does not fit"),
        (replace(other, resume=True), "tokenizer stage"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            train(run if run.crop else replace(run, crop=64))
        assert "\n" not in str(caught.value)


def test_a_failing_save_is_reported_and_leaves_the_old_files(finished, monkeypatch):
    import realsrt.io.atomic

    old = (finished.out / "state.pt").read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(realsrt.io.atomic.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"state\.pt.*No space left"):
        train(finished)
    assert (finished.out / "state.pt").read_bytes() == old
    assert sorted(p.name for p in finished.out.iterdir()) == [
        "log.jsonl",
        "model.safetensors",
        "state.pt",
        "tensorboard",
    ]


def test_the_papers_architecture_end_to_end(config, tmp_path, photos):
    tokenizer = train(config("tokenizer", preset="tiny_paper", max_steps=1, batch=1))
    larger = {"init": tokenizer, "max_steps": 1, "batch": 1, "tile": 256, "crop": 256, "pool": 1}
    path = train(config("control", gan=0.1, tune_decoder=False, **larger))
    model = realsrt.load_model(path)
    assert [s["stage"] for s in model.info.provenance["stages"]] == ["tokenizer", "control"]
    assert bool(model.control.zero_out.weight.any())


def test_half_precision_runs(config, chain):
    for stage in ("tokenizer", "control"):
        run = config(stage, precision="bf16", max_steps=2, init=before(chain, stage))
        train(run)
        assert all(math.isfinite(v) for v in log_of(run.out)[0].values())
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


def test_a_model_can_grow(config, chain, monkeypatch, capsys):
    """What has the same name and shape is taken over; a new control path starts as nothing."""

    def bigger():
        base = presets.tiny()
        return replace(base, preset="bigger", control=replace(base.control, fine_blocks=3))

    monkeypatch.setitem(presets.PRESETS, "bigger", bigger)
    before = load_model(chain["tokenizer"])
    grown = load_model(
        train(config("control", "grown", init=chain["tokenizer"], preset="bigger", max_steps=1, lr=1e-12))
    )
    assert "starting anew: control.fine" in capsys.readouterr().out
    assert grown.config.control.fine_blocks == 3
    old, new = before.state_dict(), grown.state_dict()
    kept = [k for k in old if k.startswith(("tokenizer.", "generator.blocks"))]
    assert all(torch.allclose(old[k], new[k], atol=1e-6) for k in kept)
