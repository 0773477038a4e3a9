"""Attacks on a real server: jobs without end, kill -9, a full disk, a lost database. Nothing acknowledged is lost."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.server.client import ServiceError
from realsrt.server.connections import HEAD_SECONDS
from support.serving import Running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SOON = 10.0  # seconds within which cancelling and stopping take effect


def image(path, height=24, width=30, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    imageio.write(path, Picture.from_array(pixels))
    return path


@pytest.fixture
def small(tmp_path):
    return image(tmp_path / "small.png")


def until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def computing(server):
    """The id of the process that computes."""
    return server.told("process.started")[-1]["pid"]


def endless(server, tmp_path):
    """A job that writes an AVIF of 31 megapixels when this returns: nothing in Python can interrupt that."""
    client = server.client()
    source = image(tmp_path / "large.png", 1400, 1400)
    id = client.submit(source, ext="avif", steps=0, quality=100, previews=False)
    until(lambda: client.job(id)["progress"] == 1)
    return id


def test_cancelling_what_cannot_be_interrupted(tmp_path, weights, small):
    with Running(tmp_path / "data", "--model-path", str(weights)) as server:
        client, id = server.client(), endless(server, tmp_path)
        first, started = computing(server), time.monotonic()
        assert client.cancel(id)["state"] == "cancelled"
        assert client.wait(client.submit(small))["state"] == "done"
        assert time.monotonic() - started < 2 * SOON  # with the start of another process
        assert computing(server) != first
        assert not (tmp_path / "data" / "jobs" / id).exists()
        assert server.end() == 0


def test_stopping_what_cannot_be_interrupted(tmp_path, weights):
    with Running(tmp_path / "data", "--model-path", str(weights)) as server:
        id, started = endless(server, tmp_path), time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - started < SOON
        assert [line["id"] for line in server.told("job.requeued")] == [id]


def test_the_computing_process_ends_with_the_service_and_may_die_alone(tmp_path, weights, small):
    with Running(tmp_path / "data", "--model-path", str(weights)) as server:
        client = server.client()
        os.kill(computing(server), signal.SIGKILL)  # while it waits
        assert client.wait(client.submit(small))["state"] == "done"
        id = endless(server, tmp_path)
        for deaths in range(1, 4):
            os.kill(computing(server), signal.SIGKILL)
            if deaths < 3:
                until(lambda begun=deaths + 2: len(server.told("process.started")) == begun)
        with pytest.raises(ServiceError, match="ended the process"):
            client.wait(id)
        assert client.wait(client.submit(small))["state"] == "done"
        left = computing(server)
        endless(server, tmp_path)
        server.end(signal.SIGKILL)
        until(lambda: not Path(f"/proc/{left}").exists(), SOON)


def test_ten_kills_under_load_and_a_lost_database(tmp_path, weights, small):
    data, asked = tmp_path / "data", []
    options = ("--model-path", str(weights), "--max-queue", "1000")
    for kill in range(10):
        with Running(data, *options) as server:
            client = server.client()
            for number in range(8):
                asked.append(client.submit(small, steps=1 + number % 3, previews=bool(number % 2)))
                if kill % 3 == 1 and number == 4:
                    for path in data.glob("jobs.sqlite3*"):
                        path.unlink()
            time.sleep(0.1 * kill)
            server.end(signal.SIGKILL)
            if kill % 3 == 2:
                for path in data.glob("jobs.sqlite3*"):
                    path.unlink()
    with Running(data, *options) as server:
        client = server.client()
        assert len(asked) == 80
        assert {client.wait(id)["state"] for id in asked} == {"done"}
        assert server.end() == 0


FAKED = [
    Path(f"/usr/lib/{place}/faketime/libfaketimeMT.so.1") for place in ("x86_64-linux-gnu", "aarch64-linux-gnu", "")
]


@pytest.fixture
def clock(tmp_path):
    """(a function that sets the clock of a server to hours from now, its environment)."""
    library = next((path for path in FAKED if path.exists()), None)
    if library is None:
        pytest.skip("libfaketime is not installed (Debian's package faketime)")
    file = tmp_path / "clock"

    def turn(hours):
        new = file.with_suffix(".new")
        new.write_text(f"{hours * 3600:+d}\n")
        new.replace(file)

    turn(0)
    more = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
    return turn, {**more, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}


def test_a_clock_that_is_set_while_jobs_wait(tmp_path, weights, small, clock):
    """25 hours on, which is beyond --keep, and 10 days back, with a kill -9 in between: all is done, and can be had."""
    turn, environment = clock
    data, options = tmp_path / "data", ("--model-path", str(weights), "--max-queue", "1000")
    asked: list[str] = []

    def send_and_look(client, hours):
        turn(hours)
        asked.extend(client.submit(small, steps=0) for _ in range(5))
        day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + hours * 3600))
        assert client.job(asked[-1])["created"].startswith(day), "the clock has not been set"

    with Running(data, *options, **environment) as server:
        client = server.client()
        send_and_look(client, 0)
        client.wait(asked[0])
        send_and_look(client, 25)
        until(lambda: [round(line["hours"]) for line in server.told("clock.jumped")] == [25])
        send_and_look(client, -240)
        server.end(signal.SIGKILL)
    with Running(data, *options, **environment) as server:
        client = server.client()
        send_and_look(client, 25)
        assert {client.wait(id)["state"] for id in asked[-10:]} == {"done"}
        until(lambda: [round(line["hours"]) for line in server.told("clock.jumped")] == [265])
        assert len({client.result(id) for id in asked}) == 1
        assert not [line for line in server.log if line["level"] in ("error", "critical")]
        assert server.end() == 0


def test_a_disk_that_is_full_in_the_middle(small_disk, tmp_path, weights):
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with Running(small_disk / "data", "--model-path", str(weights)) as server:
        client = server.client()
        source = image(tmp_path / "a.png", 300, 300)
        waiting = [client.submit(source, ext="png", steps=0, previews=False) for _ in range(6)]
        (small_disk / "stuff").write_bytes(bytes(52_000_000))
        until(lambda: _status(client, "/readyz") == 503)
        with pytest.raises(ServiceError, match="disk is full") as caught:
            client.submit(source, patient=False)
        assert caught.value.status == 507
        assert caught.value.retry_after
        time.sleep(3)
        assert {client.job(id)["state"] for id in waiting} <= {"queued", "running", "done"}
        (small_disk / "stuff").unlink()
        assert {client.wait(id)["state"] for id in waiting} == {"done"}
        until(lambda: _status(client, "/readyz") == 200)
        assert server.end() == 0
    with closing(sqlite3.connect(small_disk / "data" / "jobs.sqlite3")) as db:
        assert db.execute("SELECT count(*) FROM jobs WHERE state = 'done'").fetchone()[0] == len(waiting)


def _status(client, path):
    try:
        client._bytes("GET", path)
    except ServiceError as error:
        return error.status
    return 200


def test_what_would_compute_for_minutes_is_refused(tmp_path, weights):
    """A flat image of 16 megapixels has a few hundred bytes."""
    flat = tmp_path / "flat.png"
    imageio.write(flat, Picture.from_array(np.zeros((4000, 4000, 1), np.uint8)))
    with Running(tmp_path / "data", "--model-path", str(weights)) as server:
        client = server.client()
        for options in ({"tile": 512}, {"tile": 256}, {"steps": 64}, {"stride": 16, "steps": 8}):
            with pytest.raises(ServiceError) as caught:
                client.submit(flat, **options)
            assert caught.value.status == 422, options
        assert server.end() == 0


LOST = """
import sys, time
from realsrt.io import image
image.header = lambda *args, **more: time.sleep(600)
from realsrt.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def test_stopping_while_a_request_is_lost_in_what_it_sent(tmp_path, weights, small):
    """Reading a header that never ends, in a thread that nothing can end."""
    script = tmp_path / "lost.py"
    script.write_text(LOST)
    with Running(tmp_path / "data", "--model-path", str(weights), script=script) as server:
        sending = threading.Thread(target=lambda: _refused(server.client(), small))
        sending.start()
        until(lambda: list((tmp_path / "data" / "incoming").iterdir()))
        started = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - started < SOON
        sending.join(10)


def _refused(client, source):
    with contextlib.suppress(ServiceError):
        client.submit(source)


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))
from realsrt.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def test_hundreds_of_connections_that_come_to_nothing(tmp_path, weights, small):
    """Open files would run out: then nobody would be answered, and the log would be flooded."""
    script = tmp_path / "few.py"
    script.write_text(FEW_FILES)
    with (
        Running(tmp_path / "data", "--model-path", str(weights), script=script) as server,
        contextlib.ExitStack() as held,
    ):
        client, address = server.client(), tuple(server.url.removeprefix("http://").split(":"))
        asked = [client.submit(small, steps=0) for _ in range(10)]
        half = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + b"x" * 5000

        def send(data, count):
            for _ in range(count):
                with contextlib.suppress(OSError):
                    held.enter_context(socket.create_connection(address, timeout=5)).sendall(data)

        send(half, 60)
        send(b"GET / HT", 400)
        send(b"", 400)
        assert len(os.listdir(f"/proc/{server.process.pid}/fd")) < 500
        until(lambda: _answers(client), 2 * HEAD_SECONDS)  # all of them held still
        assert {client.wait(id)["state"] for id in asked} == {"done"}
        assert len(server.told("connections.full")) == 1
        assert server._reader.is_alive(), "a line of the log was no JSON"
        assert not [line for line in server.log if line["level"] in ("error", "critical")]
        assert server.end() == 0
        assert not list((tmp_path / "data" / "incoming").iterdir())


def _answers(client):
    with contextlib.suppress(ServiceError):
        return _status(client, "/healthz") == 200
    return False
