"""The sums about a fleet on cases whose answers are known."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from fleet import Fleet, Stages, breaks_at, limit, training_step
from scaling import extrapolate, main, stages_of

PICTURE = Stages(decode=0.01, compute=1.0, encode=0.05, driver=1e-4, bytes_in=1e5, bytes_out=4e6)
PLENTY = Fleet(store=1e12, requests=1e9, network=1e10, latency=0.0)


def test_one_gpu_that_is_never_idle_takes_its_computing_alone():
    assert limit(PICTURE, PLENTY) == ("GPU", 1.0)
    assert limit(PICTURE, replace(PLENTY, gpus=50)) == ("GPU", 50.0)


def test_with_room_for_one_image_every_stage_is_waited_for():
    name, rate = limit(PICTURE, replace(PLENTY, room=1, latency=0.1))
    assert name == "room on a worker"
    assert 1 / rate == pytest.approx(0.01 + 1.0 + 0.05 + 1e-4 + 0.2, rel=1e-2)


@pytest.mark.parametrize(
    ("fleet", "stages", "name", "rate"),
    [
        (replace(PLENTY, gpus=20, store=1e6), PICTURE, "store's bandwidth", 1 / 4.1),
        (replace(PLENTY, gpus=20, requests=4.0), PICTURE, "store's requests", 2.0),
        (replace(PLENTY, gpus=20), replace(PICTURE, driver=0.5), "driver", 2.0),
        (replace(PLENTY, gpus=20, cores=1, room=8), replace(PICTURE, decode=2.0), "cores", 20 / 2.05),
    ],
)
def test_what_is_scarce_is_named_and_sets_the_rate(fleet, stages, name, rate):
    assert limit(stages, fleet) == (name, pytest.approx(rate))


def test_where_more_gpus_stop_helping():
    fleet = replace(PLENTY, store=1e8)  # 4.1 MB an image: 24.4 images/s
    first, number = next(iter(breaks_at(PICTURE, fleet).items()))
    assert first == "store's bandwidth"
    assert number == pytest.approx(1e8 / 4.1e6, rel=1e-3)
    assert limit(PICTURE, replace(fleet, gpus=24))[0] == "GPU"
    assert limit(PICTURE, replace(fleet, gpus=25))[0] == "store's bandwidth"


def test_failures_take_the_time_of_a_restart():
    assert limit(PICTURE, replace(PLENTY, gpus=10, hours=1.0, restart=400.0)) == ("GPU", pytest.approx(9.0))


def test_slow_workers_hold_up_shards_but_hardly_those_who_ask_for_more():
    fleet = replace(PLENTY, gpus=20, slow=0.05, slower=3.0)
    assert limit(PICTURE, fleet)[1] == pytest.approx(19 + 1 / 3)
    assert limit(PICTURE, replace(fleet, shards=True))[1] == pytest.approx(20 / 3)  # the slow one's own share
    assert limit(PICTURE, replace(PLENTY, gpus=20, shards=True))[1] == 20


def test_training_steps():
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
          "--store", "1e8", "--price", "2"])  # fmt: skip
    text = capsys.readouterr().out
    assert "| 200 | " in text
    assert "store's bandwidth |" in text
    assert "dollars a million |" in text
    assert "* store's bandwidth: 5 GPUs" in text
    assert "* training on 200" in text
    lines = extrapolate(stages_of(FOUND), replace(PLENTY, hours=1.0), [3], None)
    assert any(line.startswith("* with no failures: +") for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_sum_of_the_stages_is_what_the_command_takes(tmp_path, capsys):
    """Stages measured by themselves, one after the other, against the command on the same images."""
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
    assert found["summed"] == pytest.approx(found["whole_run"], rel=0.35)
    assert found["training"]["samples_per_second"] > 0
    main(["extrapolate", str(tmp_path / "stages.json"), "--gpus", "1", "10"])
    assert "| 10 | " in capsys.readouterr().out
