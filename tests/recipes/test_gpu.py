"""recipes/gpu.sh: what travels, how large it may be, what a start looks at, and a rehearsal on the CPU."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate")

import realsrt
from realsrt import presets
from realsrt.checkpoint.published import load_published
from realsrt.errors import UsageError
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

SCRIPT = Path(__file__).parents[2] / "recipes" / "gpu.sh"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="a shell script")


def part(name):
    """A module of the recipe, by its file."""
    spec = importlib.util.spec_from_file_location(f"recipes_gpu_{name}", SCRIPT.parent / "gpu" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


gpu_run, gpu_pack = part("run"), part("pack")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Photographs, a recorded pair, and start weights."""
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "photos").mkdir()
    (folder / "pairs").mkdir()
    for name, side in [*((f"photos/{n}.png", 256) for n in range(6)), ("pairs/a.lq.png", 64), ("pairs/a.gt.png", 256)]:
        pixels = np.random.default_rng(len(name) + side).integers(0, 256, (side, side, 3), np.uint8)
        imageio.write(folder / name, Picture.from_array(pixels))
    realsrt.save_model(presets.build("tiny"), folder / "init.safetensors")
    return folder


def call(*words, **environment):
    given = os.environ | {"PYTHON": sys.executable, "WHEELS": "0", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        ["bash", str(SCRIPT), *map(str, words)],
        env=given | {"START_SECONDS": "60"} | {key: str(value) for key, value in environment.items()},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def packed(places):
    done = call("pack", places / "packed", places / "photos", places / "pairs", places / "init.safetensors")
    assert done.returncode == 0, done.stderr
    return places / "packed"


@pytest.fixture
def pack(places, monkeypatch):
    """What the script's `pack` calls, on the photographs."""

    def packed(folder, **environment):
        for name, value in {"WHEELS": "0", **environment}.items():
            monkeypatch.setenv(name, str(value))
        gpu_pack.pack(folder, [places / "photos"], places / "init.safetensors")

    return packed


def test_bash_can_read_it():
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0
    if shellcheck := shutil.which("shellcheck"):
        assert subprocess.run([shellcheck, SCRIPT], check=False).returncode == 0
    done = call("fly")
    assert done.returncode == 2
    assert "gpu.sh pack FOLDER" in done.stderr


def test_a_pack_holds_what_a_run_needs(packed):
    contents = json.loads((packed / "contents.json").read_text())
    assert contents.keys() == {"photos.tar", "pairs.tar", "init.safetensors.xz"}
    assert all((packed / name).stat().st_size == size for name, size in contents.items())
    with tarfile.open(packed / "photos.tar") as photos, tarfile.open(packed / "pairs.tar") as pairs:
        assert photos.getnames() == [f"{n:05d}.png" for n in range(6)]
        assert sorted(pairs.getnames()) == ["00000.gt.png", "00000.lq.png"]


def test_photographs_are_taken_evenly_up_to_a_size(pack, places, tmp_path, capsys):
    size = (places / "photos" / "0.png").stat().st_size
    pack(tmp_path / "p", PHOTOS_MB=3.3 * size / 1e6)
    assert "photos: 3 of 6" in capsys.readouterr().out
    with tarfile.open(tmp_path / "p" / "photos.tar") as photos:
        first = photos.extractfile("00001.png").read()
    assert first == (places / "photos" / "2.png").read_bytes()
    with pytest.raises(UsageError, match="not one picture"):
        pack(tmp_path / "q", PHOTOS_MB=0.001)


def test_too_much_is_refused_and_leaves_nothing_to_run(pack, places, tmp_path, monkeypatch, capsys):
    for name, value in {"WHEELS": "0", "LIMIT_MB": "5", "PHOTOS_MB": "0.3"}.items():
        monkeypatch.setenv(name, value)
    argv = ["pack.py", tmp_path / "p", places / "photos", places / "init.safetensors"]
    monkeypatch.setattr(sys, "argv", list(map(str, argv)))
    assert gpu_pack.main() == 2
    said = capsys.readouterr().err
    assert re.search(r"\d+\.\d MB would travel, and 5 may: repository \d.*PHOTOS_MB", said)
    assert len(said.splitlines()) == 1
    done = call("run", tmp_path / "p", tmp_path / "out")
    assert done.returncode == 2
    assert "was not packed" in done.stderr
    with pytest.raises(UsageError, match="is there already"):
        pack(places / "photos")
    assert (places / "photos" / "0.png").exists()  # a folder that is no pack is left alone


@pytest.mark.parametrize(
    ("speeds", "minutes", "batch"),
    [
        ({16: 20.0, 32: 14.0, 64: 8.0, 128: 3.5}, 4.3, 64),  # 128 would leave 900 steps
        ({16: 20.0, 32: 8.0, 64: 4.0}, 4.3, 16),
        ({16: 3.0, 32: 2.0}, 4.3, 16),  # none leaves enough: the most steps
    ],
)
def test_the_batch_follows_from_what_was_measured(speeds, minutes, batch):
    assert gpu_run.choose_batch(speeds, minutes, 1500) == batch


def test_what_measuring_took_of_the_gpu_is_given_back(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(gpu_run, "prepare", lambda run: told.append("prepared"))
    monkeypatch.setattr(gpu_run, "measure", lambda run, batches: told.append("measured") or {2: 1.0})
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: told.append("released"))
    gpu_run.start(gpu_run.Run(tmp_path, tmp_path, tmp_path, None, 0.0), [1.0])
    assert told == ["prepared", "measured", "released"]


def test_commands_on_a_gpu(tmp_path):
    run = gpu_run.Run(tmp_path, tmp_path, tmp_path, None, 0.0, device="cuda", batch=64, speed=10.0)
    (tmp_path / "photos.tar").touch()
    run.teacher = tmp_path / "teacher.safetensors"
    control = shlex.join(gpu_run.command_of(run, "control", 1, 4.0, tmp_path / "w.safetensors"))
    assert "--precision bf16" in control
    assert "--compile" in control
    assert "--gan-warmup 720" in control  # three tenths of ten steps a second for four minutes
    assert "--batch 64" in control
    assert "--max-minutes 4.00" in control
    assert f"--teacher {run.teacher}" in control
    deep = gpu_run.command_of(run, "deep", 1, 4.0, tmp_path / "w.safetensors")
    assert deep[deep.index("--batch") + 1] == "12"
    assert "--teacher" not in deep  # it would be its own
    strength = gpu_run.command_of(run, "strength", 2, 0.3, tmp_path / "w.safetensors")
    assert strength[strength.index("--pool") + 1] == "1536"
    assert "--refresh" not in strength
    critic = gpu_run.command_of(run, "critic", 3, 0.8, tmp_path / "w.safetensors")
    assert "--compile" not in critic
    assert "--gan-warmup" not in critic


def test_a_bad_start_ends_in_a_line(packed, tmp_path, monkeypatch, capsys):
    def fails(folder=packed):
        """The last line of what the script's `run` calls."""
        monkeypatch.setattr(sys, "argv", ["run.py", str(folder), str(tmp_path / "out"), "--max-steps", "1"])
        assert gpu_run.main() == 2
        return capsys.readouterr().out.splitlines()[-1]

    done = call("run", packed, tmp_path / "out", RUNS=tmp_path / "runs")
    assert done.returncode == 2
    assert "no GPU" in done.stdout.splitlines()[-1]
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    with monkeypatch.context() as given:
        given.setenv("INIT", str(tmp_path / "missing.safetensors"))
        assert "reading the weights" in fails()
    with monkeypatch.context() as given:
        given.setattr(gpu_run, "START_SECONDS", 0)
        assert "took more than" in fails()
    shutil.copytree(packed, tmp_path / "cut")
    (tmp_path / "cut" / "photos.tar").write_bytes(b"0")
    assert "photos.tar is missing or cut off" in fails(tmp_path / "cut")


@pytest.mark.slow
def test_a_rehearsal_goes_through_all_stages(packed, tmp_path):
    done = call("run", packed, tmp_path / "out", "--max-steps", "2", RUNS=tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    names = ["deep", "strength", "control", "critic"]
    assert made == [*(f"{number}-{name}.safetensors.1" for number, name in enumerate(names, 1)), "log.txt"]
    whole = tmp_path / "4-critic.safetensors"
    whole.write_bytes((tmp_path / "out" / "4-critic.safetensors.1").read_bytes())
    model = realsrt.load_model(whole)
    assert [stage["stage"] for stage in model.info.provenance["stages"]] == names
    teacher, deep = load_published(tmp_path / "runs" / "teacher.safetensors"), presets.build("tiny").trunk.deep
    assert teacher.config == deep.config
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "--teacher" in log
    assert "measured, uncompiled: 2:" in log
    first = log[log.index("step=1") : log.index("step=2")]
    assert "d_loss" in first
    assert "d_grad_norm" in first
    assert " grad_norm" not in first  # the discriminator warms up


@pytest.mark.parametrize("fails", [(), ("control",), ("generator",)])
def test_a_stage_that_fails_is_tried_without_compiling(monkeypatch, tmp_path, fails):
    """And the next one starts from the last weights that there are."""
    calls = []

    def train_stage(run, name, number, minutes, init):
        calls.append((name, run.compile, init.name, round(minutes, 1)))
        failed = name in fails and run.compile
        return (None, False) if failed else (Path(f"/{name}"), True)

    def start(run, wished):
        run.device, run.init = "cuda", Path("/init")

    monkeypatch.setattr(gpu_run, "train_stage", train_stage)
    monkeypatch.setattr(gpu_run, "start", start)
    monkeypatch.setattr(sys, "argv", ["run.py", str(tmp_path), str(tmp_path / "out")])
    for name, value in {
        "RUNS": str(tmp_path / "runs"),
        "STAGES": "control generator critic",
        "MINUTES": "4 3 2",
        "TOTAL": "9",
    }.items():
        monkeypatch.setenv(name, value)
    assert gpu_run.main() == bool(fails)
    made = [call for call in calls if call[0] not in fails or not call[1]]
    assert [(name, init) for name, _, init, _ in made] == [
        ("control", "init"), ("generator", "control"), ("critic", "generator"),
    ]  # fmt: skip
    assert len(calls) == 3 + len(fails)
    assert [compiled for _, compiled, _, _ in calls].count(True) == {(): 3, ("control",): 1, ("generator",): 2}[fails]
