"""A run whose checkpoints are at a URL: an object store's server on this machine."""

import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("moto")
pytest.importorskip("s3fs")

from realsrt.checkpoint import load_model
from realsrt.errors import CheckpointError, UsageError
from realsrt.training import train
from realsrt.training.config import make_config
from realsrt.training.storage import RunStorage
from support.runs import train_until_killed

TINY = {
    "preset": "tiny", "batch": 2, "crop": 64, "tile": 64, "pool": 4, "refresh": 1, "log_every": 1, "max_steps": 6,
    "save_steps": 2, "profile_flops": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def endpoint():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch, tmp_path):
    """An empty bucket, and a cache of its own."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    name = f"b-{tmp_path.name}".lower().replace("_", "-")[:40].strip("-")
    fs.mkdir(name)
    return fs, name


def fresh_machine(monkeypatch, tmp_path, name):
    """Another machine: nothing of the first run's is on its disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


def weights(state):
    return {k: v for part in ("model", "ema") for k, v in state[part].items()}


def test_a_run_goes_on_elsewhere_from_the_newest_complete_checkpoint(bucket, photos, tmp_path, monkeypatch, capsys):
    fs, name = bucket
    url = f"s3://{name}/runs/one"
    config = make_config("tokenizer", data=(photos,), out=url, **TINY)
    whole = train(replace(config, out=tmp_path / "whole"))
    train_until_killed(config, monkeypatch, 5)  # saved at 2 and 4
    listed = sorted(path.rpartition("/")[2] for path in fs.ls(f"{name}/runs/one/checkpoints"))
    assert listed == ["00000002", "00000004"]
    # an upload of step 6 that was cut off: its state lies there, its mark does not; and one whose state is damaged
    fs.pipe_file(f"{name}/runs/one/checkpoints/00000006/state.pt", b"half")
    for part in ("complete.json", "state.pt"):
        content = fs.cat_file(f"{name}/runs/one/checkpoints/00000004/{part}")
        fs.pipe_file(
            f"{name}/runs/one/checkpoints/00000005/{part}", content[:-1] + b"}" if part[0] == "c" else content[:-9]
        )
    fresh_machine(monkeypatch, tmp_path, "second")
    train(replace(config, resume=True))
    assert "resumed at step 4" in capsys.readouterr().out
    state = RunStorage(url).read("tokenizer")
    assert state["step"] == 6
    reference = torch.load(tmp_path / "whole" / "state.pt", weights_only=True)
    assert all(torch.equal(value, weights(reference)[key]) for key, value in weights(state).items())
    kept = sorted(path.rpartition("/")[2] for path in fs.ls(f"{name}/runs/one/checkpoints", refresh=True))
    assert kept in (["00000006"], ["00000004", "00000006"])
    fs.get_file(f"{name}/runs/one/model.safetensors", str(tmp_path / "got.safetensors"))
    got, expected = load_model(tmp_path / "got.safetensors"), load_model(whole)
    assert all(torch.equal(v, expected.state_dict()[k]) for k, v in got.state_dict().items())
    assert "s3:" not in json.dumps(got.info.provenance)
    lines = fs.cat_file(f"{name}/runs/one/log.jsonl").decode().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_a_new_run_is_not_resumed_from_an_older_ones_later_checkpoint(bucket, photos, tmp_path, monkeypatch):
    fs, name = bucket
    url = f"s3://{name}/run"
    config = make_config("tokenizer", data=(photos,), out=url, **TINY)
    train(config)
    with pytest.raises(UsageError, match="holds a run already"):
        train(replace(config, max_steps=2, seed=1))
    train(replace(config, max_steps=2, seed=1, overwrite=True))
    assert RunStorage(url).read("tokenizer")["step"] == 2
    assert len(fs.ls(f"{name}/run/checkpoints", refresh=True)) == 1


def test_an_upload_that_fails_is_told_and_tried_again(bucket, photos, tmp_path, monkeypatch, capsys):
    _, name = bucket
    config = make_config("tokenizer", data=(photos,), out=f"s3://{name}/run", **TINY)
    upload, failed = RunStorage._upload, []

    def fails_once(self, step):
        if not failed:
            failed.append(step)
            raise OSError("the network is down")
        upload(self, step)

    monkeypatch.setattr(RunStorage, "_upload", fails_once)
    train(config)
    assert "can't upload step 2" in capsys.readouterr().out
    assert RunStorage(str(config.out)).read("tokenizer")["step"] == 6

    def fails(self, step):
        raise OSError("the network is down")

    monkeypatch.setattr(RunStorage, "_upload", fails)
    with pytest.raises(CheckpointError, match=r"the network is down; the run is in .*run-"):
        train(replace(config, overwrite=True))


def test_nothing_there_and_nothing_whole(bucket, photos):
    fs, name = bucket
    assert RunStorage(f"s3://{name}/none").read("tokenizer") is None
    fs.pipe_file(f"{name}/half/checkpoints/00000003/state.pt", b"x")
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        RunStorage(f"s3://{name}/half").read("tokenizer")


def test_urls_that_nothing_knows(tmp_path):
    with pytest.raises(UsageError, match="nowhere://x"):
        RunStorage("nowhere://x")
    assert RunStorage(tmp_path).folder == tmp_path


def test_the_command_takes_a_url(photos, tmp_path, monkeypatch, capsys):
    from realsrt.cli import main

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = f"file://{tmp_path}/remote/run"
    options = ["--preset", "tiny", "--batch", "2", "--crop", "64", "--tile", "64", "--pool", "4"]
    options += ["--max-steps", "1", "--profile-flops=false"]
    command = ["train", "tokenizer", "--data", str(photos), "--out", url, *options]
    assert main(command) == 0
    assert sorted(path.name for path in (tmp_path / "remote" / "run" / "checkpoints" / "00000001").iterdir()) == [
        "complete.json",
        "model.safetensors",
        "state.pt",
    ]
    assert main([*command, "--resume", "--max-steps", "2"]) == 2  # given twice
    assert main([*command[:-3], "--max-steps", "2", "--profile-flops=false", "--resume"]) == 0
    assert "resumed at step 1" in capsys.readouterr().out
