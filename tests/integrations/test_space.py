"""The Space: its files are as the hub wants them, and its app serves the page by the Space's name. No hub is needed."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

import realsrt
from realsrt import presets, save_model
from realsrt.cli import build_app

FOLDER = Path(__file__).parents[2] / "integrations" / "huggingface"
NAME = "you-realsrt.hf.space"


def app():
    spec = importlib.util.spec_from_file_location("space_app", FOLDER / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_fit_one_another():
    card = yaml.safe_load((FOLDER / "README.md").read_text("utf-8").split("---\n")[1])
    assert card["sdk"] == "docker"
    assert len(card["short_description"]) <= 60
    docker = (FOLDER / "Dockerfile").read_text("utf-8")
    assert f"EXPOSE {card['app_port']}" in docker
    assert app().arguments({})[5] == str(card["app_port"])
    assert "USER user" in docker
    for line in docker.splitlines():
        if line.startswith("COPY"):
            assert all((FOLDER / name).is_file() for name in line.split()[2:-1] if "*" not in name)
    wheel = f"realsrt-{realsrt.__version__}-py3-none-any.whl"
    assert (FOLDER / "requirements.txt").read_text("utf-8") == f"./{wheel}[serve]\n"
    assert any(fnmatch(wheel, name) for line in docker.splitlines() if line.startswith("COPY") for name in line.split())


@pytest.mark.parametrize("environment", [{}, {"SPACE_HOST": NAME}])
def test_the_command_takes_what_the_app_gives_it(environment):
    given = app().arguments(environment)
    build_app(given).parse_args(given, exit_on_error=False, print_error=False)
    assert (NAME in given) is bool(environment)


@pytest.mark.slow
def test_the_page_answers_to_the_name_of_the_space(tmp_path):
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    save_model(presets.build("tiny"), tmp_path / "tiny.safetensors")
    environment = os.environ | {
        "SPACE_HOST": NAME, "PORT": "0", "DATA": str(tmp_path / "data"), "MODEL": str(tmp_path / "tiny.safetensors"),
    }  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, FOLDER / "app.py"], env=environment, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    watchdog = threading.Timer(200, server.kill)
    watchdog.start()
    try:
        url = next(said["url"] for said in map(json.loads, server.stderr) if "url" in said)
        threading.Thread(target=server.stderr.read, daemon=True).start()
        url = url.replace("0.0.0.0", "127.0.0.1")

        def ask(path, name, method="GET"):
            headers = {"Host": name, "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
            try:
                with urllib.request.urlopen(urllib.request.Request(url + path, None, headers, method=method)) as answer:
                    return answer.status, answer.headers
            except urllib.error.HTTPError as problem:
                return problem.code, problem.headers

        status, headers = ask("/", NAME)
        assert status == 200
        assert "frame-ancestors https://huggingface.co" in headers["Content-Security-Policy"]
        assert ask("/", "evil.example")[0] == 421
        status, headers = ask("/v1/visit", NAME, "POST")
        assert status == 204
        assert "Partitioned" in headers["Set-Cookie"]
        while ask("/readyz", NAME)[0] != 200:
            time.sleep(0.1)
    finally:
        server.terminate()
        assert server.wait(60) == 0
        watchdog.cancel()
