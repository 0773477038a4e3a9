"""What only a GPU can show: no wait for it, and pictures as on the CPU."""

import json
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file

from support.launch import train_on_two

pytest.importorskip("accelerate")

from realsrt.degradations import PROTOCOLS, degrade_seeded
from realsrt.models.srvgg import SRVGGConfig
from realsrt.training.config import make_config
from realsrt.training.loop import train
from realsrt.training.pairs import build_pool
from realsrt.training.teach import TeachConfig, teach
from realsrt.training.teacher import Teacher

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@contextmanager
def no_waiting():
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def smooth(count):
    coarse = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(128, 128), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_degrading_is_as_on_the_cpu_in_distribution(name):
    gt, seeds = smooth(64), range(64)
    cpu, gpu = (degrade_seeded(gt.to(d), seeds, PROTOCOLS[name]).cpu() for d in ("cpu", "cuda"))
    clean = torch.nn.functional.interpolate(gt, scale_factor=0.25, mode="area")
    harm = [(lq - clean).square().mean((1, 2, 3)).sqrt() for lq in (cpu, gpu)]
    torch.testing.assert_close(harm[0].mean(), harm[1].mean(), rtol=0.1, atol=2e-3)
    assert (cpu.mean((1, 2, 3)) - gpu.mean((1, 2, 3))).abs().max() < 0.05
    if name == "bicubic":
        torch.testing.assert_close(cpu, gpu, atol=1.5 / 255, rtol=0)


def test_degrading_waits_for_nothing():
    gt, protocol = smooth(16).cuda(), PROTOCOLS["mixed"]
    degrade_seeded(gt, range(16), protocol)  # tables are made once
    with no_waiting():
        degrade_seeded(gt, range(16, 32), protocol)


def test_batches_wait_for_nothing(photos):
    config = make_config("tokenizer", data=(photos,), tile=128, batch=8, pool=16, refresh=4, max_steps=1)
    pool = build_pool(config, scale=4, device=torch.device("cuda"))
    pool.batch(0, 64)
    with no_waiting():
        batches = [pool.batch(step, 64) for step in range(1, 9)]
    assert all(b.gt.device.type == "cuda" and 0 < float(b.lq.mean()) < 1 for b in batches)
    pool.close()


def test_recorded_pairs_and_a_teacher_wait_for_nothing(photos, tmp_path):
    """Recorded on the CPU, then read beside photographs that the same teacher sees on the GPU, in half precision."""
    network, taught = tmp_path / "net.safetensors", tmp_path / "taught.tar"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(SRVGGConfig(channels=8, convs=2).build().state_dict(), network)
    teach(TeachConfig((photos,), taught, network, 6, tile=128), device=torch.device("cpu"))
    options = {"data": (photos,), "pairs": (str(taught),), "teacher": network, "tile": 128}
    config = make_config("tokenizer", batch=8, pool=16, refresh=4, max_steps=1, **options)
    pool = build_pool(config, scale=4, device=torch.device("cuda"))
    pool.batch(0, 64)
    with no_waiting():
        batches = [pool.batch(step, 64) for step in range(1, 9)]
    assert all(batch.has_teacher.all() and batch.teacher.shape == batch.gt.shape for batch in batches)
    pool.close()
    exact, half = (Teacher(network, device=device) for device in ("cpu", "cuda"))
    lq = (smooth(20) * 255).round().byte()
    assert (exact(lq).int() - half(lq).cpu().int()).abs().max() <= 1


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_learn_what_one_does(photos, tmp_path, monkeypatch):
    """Losses are equal within what TF32 leaves."""
    options = {
        "preset": "tiny", "data": (photos,), "crop": 64, "tile": 64, "pool": 8, "global_batch": 4, "max_steps": 3,
        "log_every": 1, "warmup": 1, "profile_flops": False,
    }  # fmt: skip
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    train_on_two("tokenizer", options | {"out": tmp_path / "two"}, ACCELERATE_USE_CPU="false")
    train(make_config("tokenizer", out=tmp_path / "one", **options))
    ours, theirs = (
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("two", "one")
    )
    assert ours == pytest.approx(theirs, rel=2e-2)
