"""The simulated fleet on cases whose answers are known."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from fleet import Fleet, Stages, breaks_at, dollars_per_million, limits, simulate, training_step
from scaling import extrapolate, main, stages_of

PICTURE = Stages(decode=0.01, compute=1.0, encode=0.05, driver=1e-4, bytes_in=1e5, bytes_out=4e6)
PLENTY = Fleet(store=1e12, requests=1e9, network=1e10, latency=0.0)


def test_one_gpu_that_is_never_idle_takes_the_sum_of_its_computing():
    out = simulate(PICTURE, PLENTY, 50)
    before_and_after = PICTURE.decode + PICTURE.encode + PICTURE.driver
    assert out.seconds == pytest.approx(50 * PICTURE.compute + before_and_after, rel=1e-3)
    assert out.bottleneck == "GPU"
    assert out.repeated == 0


def test_with_room_for_one_picture_every_stage_is_waited_for():
    out = simulate(PICTURE, replace(PLENTY, room=1, latency=0.1), 10)
    each = 0.01 + 1.0 + 0.05 + 1e-4 + 0.2
    assert out.seconds == pytest.approx(10 * each, rel=1e-2)


def test_many_gpus_are_as_many_times_faster_while_nothing_is_shared():
    one, many = simulate(PICTURE, PLENTY, 40), simulate(PICTURE, replace(PLENTY, gpus=50), 2000)
    assert many.rate == pytest.approx(50 * one.rate, rel=0.02)


@pytest.mark.parametrize(
    ("fleet", "stages", "name"),
    [
        (replace(PLENTY, gpus=20, store=1e6), PICTURE, "store's bandwidth"),
        (replace(PLENTY, gpus=20, requests=4.0), PICTURE, "store's requests"),
        (replace(PLENTY, gpus=20), replace(PICTURE, driver=0.5), "driver"),
        (replace(PLENTY, gpus=20, cores=1, room=8), replace(PICTURE, decode=2.0), "cores"),
        (replace(PLENTY, gpus=20), PICTURE, "GPU"),
    ],
)
def test_what_is_scarce_is_named_and_sets_the_rate(fleet, stages, name):
    out = simulate(stages, fleet, 600)
    allowed = limits(stages, fleet)
    assert out.bottleneck == name
    assert out.busy[name] > 0.9
    assert min(allowed, key=lambda part: allowed[part]) == name
    assert out.rate == pytest.approx(allowed[name], rel=0.1)


def test_where_more_gpus_stop_helping():
    fleet = replace(PLENTY, store=1e8)  # 4.1 MB a picture: 24.4 pictures/s
    first, number = next(iter(breaks_at(PICTURE, fleet).items()))
    assert first == "store's bandwidth"
    assert number == pytest.approx(1e8 / 4.1e6, rel=1e-3)
    under, at, over = (simulate(PICTURE, replace(fleet, gpus=n), n * 30).rate for n in (12, 25, 100))
    assert under == pytest.approx(12, rel=0.05)
    assert over == pytest.approx(24.4, rel=0.05)
    assert at > 0.85 * over


def test_failures_repeat_work_and_lose_no_picture():
    fleet = replace(PLENTY, gpus=10, hours=0.02, restart=10.0)
    out, calm = simulate(PICTURE, fleet, 1000), simulate(PICTURE, replace(fleet, hours=0.0), 1000)
    assert out.repeated > 0
    assert out.rate < 0.97 * calm.rate
    assert out.rate * out.seconds == pytest.approx(1000)
    assert simulate(PICTURE, fleet, 1000, seed=0) == out


def test_slow_workers_hold_up_shards_but_hardly_those_who_ask_for_more():
    fleet = replace(PLENTY, gpus=20, slow=0.05, slower=3.0)
    handed, dealt = simulate(PICTURE, fleet, 1000), simulate(PICTURE, replace(fleet, shards=True), 1000)
    assert dealt.seconds == pytest.approx(3 * 50, rel=0.02)  # the slow one's own 50 pictures
    assert handed.seconds < 0.4 * dealt.seconds


def test_costs_and_training_steps():
    assert dollars_per_million(1000, 2.0) == 2000
    assert training_step(1.0, 4e8, 1, 1e10) == 1.0
    assert training_step(1.0, 4e8, 2, 1e10) == pytest.approx(1.04)


FOUND = {
    "decode": 0.01, "compute": 4.0, "encode": 0.05, "driver": 1e-4, "bytes_in": 1e5, "bytes_out": 4e6, "windows": 20,
    "training": {"samples_per_second": 8.0, "batch": 4, "gradient_bytes": 1e7},
}  # fmt: skip


def test_a_gpus_own_speed_changes_what_is_computed_only():
    assert stages_of(FOUND).compute == 4.0
    assert stages_of(FOUND, 100.0) == replace(stages_of(FOUND), compute=0.2)


def test_the_command_says_what_breaks_first(tmp_path, capsys):
    (tmp_path / "stages.json").write_text(json.dumps(FOUND))
    main(["extrapolate", str(tmp_path / "stages.json"), "--gpus", "1", "200", "--windows-per-second", "100",
          "--store", "1e8", "--price", "2", "--each", "20"])  # fmt: skip
    text = capsys.readouterr().out
    assert "| 200 | " in text
    assert "store's bandwidth (" in text
    assert "dollars a million |" in text
    assert "* store's bandwidth: 5 GPUs" in text
    assert "* training on 200" in text
    lines = extrapolate(stages_of(FOUND), replace(PLENTY, hours=1.0), [3], 10, None)
    assert any(line.startswith("* with no failures: +") for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_simulation_of_one_machine_is_what_it_does(tmp_path, capsys):
    """Stages measured by themselves, put together by the simulation, against the command on the same pictures."""
    import numpy as np

    from realsrt import presets
    from realsrt.checkpoint import save_model
    from realsrt.io import image as imageio
    from realsrt.io.picture import Picture

    (tmp_path / "in").mkdir()
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(0, 256, (160, 160, 3), np.uint8)
        imageio.write(tmp_path / "in" / f"{seed}.png", Picture.from_array(pixels))
    save_model(presets.build("tiny"), tmp_path / "tiny.safetensors")
    main(["measure", str(tmp_path / "in"), "-o", str(tmp_path / "stages.json"), "--clock", "cpu",
          "--model", str(tmp_path / "tiny.safetensors"), "--device", "cpu"])  # fmt: skip
    found = json.loads((tmp_path / "stages.json").read_text())
    assert found["windows"] == 9
    assert found["bytes_out"] > found["bytes_in"] > 0
    assert found["simulated"] == pytest.approx(found["whole_run"], rel=0.35)
    assert found["training"]["samples_per_second"] > 0
    main(["extrapolate", str(tmp_path / "stages.json"), "--gpus", "1", "10", "--each", "10"])
    assert "| 10 | " in capsys.readouterr().out
