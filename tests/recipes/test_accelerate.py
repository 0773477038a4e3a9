"""The configs for accelerate are read by the installed accelerate, and start what they say."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate")

FOLDER = Path(__file__).parents[2] / "recipes" / "accelerate"
CONFIGS = sorted(path.name for path in FOLDER.glob("*.yaml"))


@pytest.fixture
def photos(tmp_path):
    """Three photographs of noise."""
    from realsrt.io import image as imageio
    from realsrt.io.picture import Picture

    (tmp_path / "photos").mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (96, 96, 3), np.uint8)
        imageio.write(tmp_path / "photos" / f"{seed}.png", Picture.from_array(pixels))
    return tmp_path / "photos"


def launched(name, *more):
    """The arguments and the environment that `accelerate launch` makes of a config."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    given = ["--config_file", str(FOLDER / name), *more, "-m", "realsrt", "train", "tokenizer", "--max-steps", "1"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    return args, prepare_multi_gpu_env(args)


def test_there_is_one_for_each_way():
    assert CONFIGS == ["ddp.yaml", "multinode.yaml"]


@pytest.mark.parametrize("name", CONFIGS)
def test_accelerate_knows_every_key(name):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(FOLDER / name))
    assert config.mixed_precision == "no"
    assert config.num_processes % config.num_machines == 0


def test_what_each_one_asks_for():
    args, environment = launched("ddp.yaml")
    assert (args.multi_gpu, args.use_fsdp, args.num_processes, args.num_machines) == (True, False, 8, 1)
    assert (args.training_script, args.module) == ("realsrt", True)
    assert "ACCELERATE_USE_FSDP" not in environment
    args, _ = launched("multinode.yaml", "--machine_rank", "1", "--main_process_ip", "10.0.0.1")
    assert (args.num_machines, args.num_processes, args.machine_rank) == (2, 16, 1)
    assert (args.main_process_ip, args.main_process_port) == ("10.0.0.1", 29500)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["ddp.yaml"])
def test_the_launcher_trains_on_two_processes(name, photos, tmp_path):
    """On the CPU, as ACCELERATE_USE_CPU asks of every process; --cpu would start one only."""
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(FOLDER / name), "--num_processes", "2"]
    options = [
        "--preset",
        "tiny",
        "--global-batch",
        "4",
        "--crop",
        "64",
        "--tile",
        "64",
        "--pool",
        "8",
        "--max-steps",
        "2",
        "--log-every",
        "1",
    ]
    command = [sys.executable, *launch, "-m", "realsrt", "train", "tokenizer", "--data", str(photos)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run"), *options],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 of them here" in done.stdout  # of three photographs: each process holds its own lanes' only
    assert done.stdout.count("step=2 ") == 1
    assert (tmp_path / "run" / "model.safetensors").exists()
