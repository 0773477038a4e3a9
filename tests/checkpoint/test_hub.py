"""`hf:` names, against a server on this machine that answers as the hub does."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import constants

import realsrt
from realsrt.checkpoint import save_model
from realsrt.checkpoint.load import HUB_FILE
from realsrt.errors import CheckpointError

COMMITS = {"main": "1" * 40, "v2": "2" * 40, "refs/pr/3": "3" * 40}


class Hub(ThreadingHTTPServer):
    """One repository, org/repo; ``files`` by commit; ``asked`` records every request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.broken = False

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        hub = self.server
        hub.asked.append(f"{self.command} {self.path}")
        if hub.broken:
            return self.refuse(500, None)
        if not self.path.startswith("/org/repo/resolve/"):
            return self.refuse(404, "RepoNotFound")
        revision, _, file = self.path.removeprefix("/org/repo/resolve/").replace("%2F", "/").rpartition("/")
        commit = COMMITS.get(revision, revision)
        if commit not in COMMITS.values():
            return self.refuse(404, "RevisionNotFound")
        content = hub.files.get(commit)
        if file != HUB_FILE or content is None:
            return self.refuse(404, "EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def refuse(self, status, code):
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", "no")
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield hub
    hub.shutdown()
    hub.server_close()
    thread.join()


def weights(tmp_path, seed):
    model = realsrt.presets.build("tiny", seed)
    save_model(model, tmp_path / "made.safetensors", provenance={"seed": seed})
    return model.state_dict(), (tmp_path / "made.safetensors").read_bytes()


def same(model, state):
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("revision", [None, "main", "v2", "refs/pr/3", "2" * 40])
def test_a_model_of_a_revision(hub, tmp_path, revision):
    for seed, commit in enumerate(COMMITS.values()):
        hub.files[commit] = weights(tmp_path, seed)[1]
    expected = {None: 0, "main": 0, "v2": 1, "refs/pr/3": 2, "2" * 40: 1}[revision]
    name = "hf:org/repo" + (f"@{revision}" if revision else "")
    model = realsrt.load_model(name)
    state, content = weights(tmp_path, expected)
    assert same(model, state)
    assert not model.training
    assert model.info.source == f"hf:org/repo@{list(COMMITS.values())[expected]}"  # what a report quotes stays true
    assert model.info.sha256 == hashlib.sha256(content).hexdigest()
    assert model.info.provenance == {"seed": expected}


def test_the_second_time_it_comes_from_the_cache_even_when_the_hub_is_away(hub, tmp_path):
    state, hub.files[COMMITS["main"]] = weights(tmp_path, 0)
    realsrt.load_model("hf:org/repo")
    assert sum(line.startswith("GET") for line in hub.asked) == 1
    realsrt.load_model("hf:org/repo")
    assert sum(line.startswith("GET") for line in hub.asked) == 1
    hub.shutdown()
    hub.server_close()
    assert same(realsrt.load_model("hf:org/repo"), state)


def test_a_new_version_is_noticed(hub, tmp_path, monkeypatch):
    hub.files[COMMITS["main"]] = weights(tmp_path, 0)[1]
    realsrt.load_model("hf:org/repo")
    monkeypatch.setitem(COMMITS, "main", "4" * 40)
    state, hub.files["4" * 40] = weights(tmp_path, 5)
    assert same(realsrt.load_model("hf:org/repo"), state)


def message(name):
    with pytest.raises(CheckpointError) as caught:
        realsrt.load_model(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf:org/nothing", ["hf:org/nothing", "no such repository"]),
        ("hf:org/repo@v9", ["hf:org/repo@v9", "no such revision"]),
        ("hf:org/repo@v2", ["hf:org/repo@v2", "no such file", HUB_FILE]),
        ("hf:repo", ["hf:org/repo[@revision]"]),
        ("hf:a/b/c", ["hf:org/repo[@revision]"]),
        ("hf:", ["hf:org/repo[@revision]"]),
        ("hf:org/re po", ["hf:org/re po"]),
    ],
)
def test_what_the_hub_does_not_have(hub, tmp_path, name, words):
    hub.files[COMMITS["main"]] = weights(tmp_path, 0)[1]
    found = message(name)
    for word in words:
        assert word in found


@pytest.fixture
def hasty(monkeypatch):
    """huggingface_hub tries again for half a minute; here without the waiting."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_a_hub_that_fails(hub, hasty):
    hub.broken = True
    assert "hf:org/repo" in message("hf:org/repo")


def test_a_hub_that_is_not_there(hub, hasty):
    hub.shutdown()
    hub.server_close()
    assert "can't be reached" in message("hf:org/repo")


def test_a_repository_with_another_kind_of_file(hub):
    hub.files[COMMITS["main"]] = b"<html>a login page</html>"
    assert "is no weight file, or a damaged one" in message("hf:org/repo")


@pytest.mark.slow
def test_the_hub_of_the_environment_is_asked(hub, tmp_path):
    hub.files[COMMITS["v2"]] = weights(tmp_path, 1)[1]
    code = "import realsrt; print(realsrt.load_model('hf:org/repo@v2').info.provenance)"
    environment = os.environ | {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{'seed': 1}"
    assert list((tmp_path / "home").rglob(HUB_FILE))
