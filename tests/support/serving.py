"""The real command in a process of its own, for slow tests."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from realsrt.server.client import Client


class Running:
    """`realsrt serve` on a free port of 127.0.0.1; its log lines as they come."""

    def __init__(self, data: Path, *more: str, script: Path | None = None, **environment: str) -> None:
        """`script`: runs the command in place of the package itself."""
        command = [str(script)] if script else ["-m", "realsrt"]
        port = () if "--port" in more else ("--port", "0")
        argv = [sys.executable, *command, "serve", "--data", str(data), *port, "-g", "cpu", *more]
        self.process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
        self.log: list[dict] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listening.wait(240):  # as long as a busy machine may take
            self.process.kill()
            raise AssertionError(self.log)
        self.url = self.told("service.listening")[0]["url"]

    def _read(self):
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(json.loads(line))  # every line is JSON, or this thread ends and the tests fail
            if self.log[-1]["event"] == "service.listening":
                self._listening.set()

    def told(self, event):
        return [line for line in list(self.log) if line["event"] == event]

    def client(self, key=None):
        return Client(self.url, key)

    def end(self, number=signal.SIGTERM):
        """The exit status."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        self._reader.join(10)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end(signal.SIGKILL)


class Opened:
    """A service behind Starlette's client, which is not started until `with`."""

    def __init__(self, service, client):
        self.service, self.http = service, client

    def post(self, path, **query):
        return self.http.post("/v1/jobs", params=query, content=path.read_bytes())

    def ended(self, id, **more):
        until = time.monotonic() + 60
        while (job := self.http.get(f"/v1/jobs/{id}", **more).json())["state"] in ("queued", "running"):
            assert time.monotonic() < until
            time.sleep(0.01)
        return job


def problem(answer, status):
    """The one line of an answer that must be a refusal of this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert "\n" not in body["detail"]
    return body["detail"]
