"""`hf:` names, against a server on this machine that answers as the hub does."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants

import realsrt
from realsrt.checkpoint import save_model
from realsrt.checkpoint.hub import HUB_FILE, model_card
from realsrt.errors import CheckpointError

COMMITS = {"main": "1" * 40, "v2": "2" * 40, "refs/pr/3": "3" * 40}


class Hub(ThreadingHTTPServer):
    """One repository, org/repo; ``files`` by commit; ``asked`` records every request.

    What is uploaded is kept in ``committed``, by name, the weight file by way of ``large``; ``token`` is wanted then.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.broken = False
        self.token: str | None = None
        self.large: dict[str, bytes] = {}
        self.committed: dict[str, bytes] = {}
        self.created: dict[str, object] = {}

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

    def do_POST(self):
        hub, body = self.server, self.read()
        hub.asked.append(f"{self.command} {self.path}")
        if hub.token and self.headers["Authorization"] != f"Bearer {hub.token}":
            return self.refuse(401, None)
        if self.path == "/api/repos/create":
            hub.created = json.loads(body)
            return self.give({"url": f"{hub.address}/org/repo"})
        if self.path == "/api/validate-yaml":
            block = json.loads(body)["content"].split("---\n")[1]
            known = yaml.safe_load(block)["pipeline_tag"] == "image-to-image"
            errors = [] if known else [{"message": "pipeline_tag is unknown"}]
            return self.give({"warnings": [], "errors": errors}, 200 if known else 400)
        if self.path == "/api/models/org/repo/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in names}
            return self.give(
                {"files": [{"path": k, "uploadMode": mode, "shouldIgnore": False} for k, mode in modes.items()]}
            )
        if self.path == "/org/repo.git/info/lfs/objects/batch":
            objects = [
                {**one, "actions": {"upload": {"href": f"{hub.address}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self.give({"transfer": "basic", "objects": objects})
        if self.path == "/api/models/org/repo/commit/main":
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.committed[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.committed[value["path"]] = hub.large[value["oid"]]
            hub.files[COMMITS["main"]] = hub.committed[HUB_FILE]
            oid = COMMITS["main"]
            return self.give({"commitUrl": f"{hub.address}/org/repo/commit/{oid}", "commitOid": oid})
        return self.refuse(404, None)

    def do_PUT(self):
        self.server.asked.append(f"{self.command} {self.path}")
        self.server.large[self.path.rpartition("/")[2]] = self.read()
        self.give({})

    def read(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def give(self, document, status=200):
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

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


def test_what_is_pushed_is_loaded_again(hub):
    hub.token = "hf_right"
    model = realsrt.presets.build("tiny", 4)
    address = realsrt.push_to_hub(model, "org/repo", licence="mit", private=True, token="hf_right")
    assert address == f"{hub.address}/org/repo/commit/{COMMITS['main']}"
    assert (hub.created["name"], hub.created["organization"]) == ("repo", "org")
    assert "private" in (hub.created.get("visibility"), hub.created.get("private") and "private")
    assert set(hub.committed) == {HUB_FILE, "README.md", "NOTICE"}
    assert b"Xintao Wang" in hub.committed["NOTICE"]
    card = hub.committed["README.md"].decode()
    assert 'from_pretrained("hf:org/repo")' in card
    assert metadata(card)["license"] == "mit"
    assert same(realsrt.Upscaler.from_pretrained("hf:org/repo", device="cpu").model, model.state_dict())


def test_the_model_has_both_as_methods(hub, tmp_path):
    model = realsrt.RealSRT.from_pretrained("small", device="cpu")
    assert model.info.source == "small"
    model = realsrt.presets.build("tiny", 4)
    assert model.push_to_hub("org/repo", licence="mit") == f"{hub.address}/org/repo/commit/{COMMITS['main']}"
    again = realsrt.RealSRT.from_pretrained("hf:org/repo")
    assert type(again) is realsrt.RealSRT
    assert same(again, model.state_dict())


def test_a_file_in_half_precision_stays_the_same_file(hub, tmp_path):
    save_model(realsrt.presets.build("tiny", 4), tmp_path / "half.safetensors", dtype=torch.float16)
    realsrt.push_to_hub(realsrt.load_model(tmp_path / "half.safetensors"), "org/repo")
    assert hub.committed[HUB_FILE] == (tmp_path / "half.safetensors").read_bytes()


@pytest.mark.parametrize("token", ["hf_wrong", None])
def test_who_may_not_write_is_told_so(hub, monkeypatch, token):
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: None)
    hub.token = "hf_right"
    with pytest.raises(CheckpointError, match="wants a login") as caught:
        realsrt.push_to_hub(realsrt.presets.build("tiny"), "org/repo", token=token)
    assert "org/repo" in str(caught.value)
    assert not hub.committed


def metadata(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_of_small_has_what_the_hub_reads():
    source = Path(__file__).parents[2] / "MODEL_CARD.md"
    card = model_card(realsrt.load_model("small"), "org/repo", source)
    found = metadata(card)
    assert (found["library_name"], found["pipeline_tag"]) == ("realsrt", "image-to-image")
    assert found["license"] == "other"
    assert found["license_link"] == "NOTICE"
    assert found["metrics"] == ["psnr", "ms_ssim"]
    assert "](docs/" not in card  # not there
    assert "](docs/" in source.read_text("utf-8")
    assert "Interpolating the tensors" in card


def test_a_card_without_metadata_gets_it_and_one_that_has_its_own_keeps_it(tmp_path):
    model, card = realsrt.presets.build("tiny"), tmp_path / "card.md"
    card.write_text("# Ours\n")
    assert metadata(model_card(model, "org/repo", card))["pipeline_tag"] == "image-to-image"
    card.write_text("---\npipeline_tag: other\nlicense: cc0-1.0\n---\n# Ours\n")
    found = metadata(model_card(model, "org/repo", card, "mit"))
    assert (found["pipeline_tag"], found["license"], found["library_name"]) == ("other", "cc0-1.0", "realsrt")


def test_a_card_that_the_hub_would_not_take_stops_before_anything_is_sent(hub, tmp_path):
    card = tmp_path / "card.md"
    for text, words in (
        (b"---\npipeline_tag: nonsense\n---\n", "pipeline_tag is unknown"),
        (b"---\na: [\n---\n", "metadata cannot be read"),
        (b"\xff\xfe", "cannot be read"),
    ):
        card.write_bytes(text)
        with pytest.raises(CheckpointError, match=r"metadata|cannot be read") as caught:
            realsrt.push_to_hub(realsrt.presets.build("tiny"), "org/repo", card=card)
        assert words in str(caught.value)
    with pytest.raises(CheckpointError, match="cannot be read"):
        realsrt.push_to_hub(realsrt.presets.build("tiny"), "org/repo", card=tmp_path / "none.md")
    assert not hub.committed
    assert not hub.large


def test_a_repository_without_its_prefix_is_told_how_to_write_it():
    assert "hf:org/repo" in message("org/repo")


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
    code = "import realsrt; print(realsrt.RealSRT.from_pretrained('hf:org/repo@v2').info.provenance)"
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
