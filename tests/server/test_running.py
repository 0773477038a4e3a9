"""A real server in a process of its own."""

import http.client
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from realsrt.cli import main
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.server.client import ServiceError
from support.serving import Running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
JOBS, THREADS = 200, 16
KEY, OTHER = "a-key-of-the-tests-only", "another-key-of-the-tests"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twenty different pictures of all kinds."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(20):
        rng = np.random.default_rng(number)
        path = folder / f"{number:02}.{('png', 'jpg', 'tif', 'webp')[number % 4]}"
        pixels = rng.integers(0, 256, (12 + number, 40 - number, 3), np.uint8)
        imageio.write(path, Picture.from_array(pixels))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(pictures, weights, tmp_path_factory):
    """What the command writes for them, at two settings: {(name, fidelity): bytes}."""
    found = {}
    for fidelity in (1.0, 0.5):
        out = tmp_path_factory.mktemp("out")
        argv = ["upscale", str(pictures[0].parent), "-o", str(out), "--model-path", str(weights), "-g", "cpu"]
        assert main([*argv, "--fidelity", str(fidelity), "--steps", "1"]) == 0
        found |= {(path.name, fidelity): (out / path.name).read_bytes() for path in pictures}
    assert len(set(found.values())) == 40
    return found


def test_two_hundred_jobs_from_sixteen_threads(tmp_path, weights, pictures, expected, capsys):
    """None is lost, none mixed up: every result is, byte for byte, what the command writes."""
    with Running(tmp_path / "data", "--model-path", str(weights), "--max-queue", "6") as server:
        ids, asked = [], threading.Lock()

        def one(number):
            path, fidelity = pictures[number % 20], (1.0, 0.5)[number // 20 % 2]
            client = server.client()
            id = client.submit(path, fidelity=fidelity, steps=1, previews=number % 3 == 0)
            with asked:
                ids.append(id)
            job = client.wait(id)
            assert job["name"] == path.name
            return client.result(id) == expected[path.name, fidelity]

        started = time.monotonic()
        with ThreadPoolExecutor(THREADS) as pool:
            right = list(pool.map(one, range(JOBS)))
        seconds = time.monotonic() - started
        refused = sum(line.get("status") == 429 for line in server.told("request"))
        assert right == [True] * JOBS
        assert len(set(ids)) == JOBS
        assert len(server.told("job.done")) == JOBS
        assert not [line for line in server.log if line["level"] in ("error", "critical")]
        assert server.end() == 0
    with capsys.disabled():
        print(f"\n{JOBS} jobs from {THREADS} threads in {seconds:.1f} s, {refused} times told to wait (queue of 6)")
    assert refused > 0


def test_killed_and_started_again(tmp_path, weights, pictures, expected, capsys):
    """Kill -9, three times; at the end every job that was acknowledged is done, with the right bytes."""
    data, asked = tmp_path / "data", {}
    options = ("--model-path", str(weights))
    rng = random.Random(3)
    for kill in range(3):
        with Running(data, *options) as server:
            client = server.client()
            for number in range(20):
                path, fidelity = pictures[number], (1.0, 0.5)[kill % 2]
                asked[client.submit(path, fidelity=fidelity, steps=1)] = path.name, fidelity
            time.sleep(rng.uniform(0, 0.5))
            server.end(signal.SIGKILL)
    with Running(data, *options) as server:
        started = server.told("service.started")[0]
        client = server.client()
        for id, (name, fidelity) in asked.items():
            assert client.wait(id)["state"] == "done"
            assert client.result(id) == expected[name, fidelity]
        assert server.end() == 0
    with capsys.disabled():
        print(f"\n{len(asked)} jobs, 3 kills; {started['waiting']} were waiting at the last start")
    assert started["waiting"] > 0
    assert len(asked) == 60


def large(tmp_path, side=700):
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    imageio.write(tmp_path / "large.png", Picture.from_array(pixels))
    return tmp_path / "large.png"


def running(client, id):
    until = time.monotonic() + 60
    while client.job(id)["state"] == "queued":
        assert time.monotonic() < until
        time.sleep(0.02)


def test_sigterm_puts_a_long_job_back_and_ends_event_streams(tmp_path, weights, pictures):
    options = ("--model-path", str(weights))
    with Running(tmp_path / "data", *options) as server:
        client = server.client()
        long, short = client.submit(large(tmp_path, 2500), steps=8, previews=False), client.submit(pictures[0])
        running(client, long)
        seen = []
        listener = threading.Thread(target=lambda: seen.extend(_until_closed(server.url, long)))
        listener.start()
        while not seen and listener.is_alive():
            time.sleep(0.02)
        started = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - started < 20
        listener.join(10)
        assert not listener.is_alive()
        assert [line["id"] for line in server.told("job.requeued")] == [long]
        assert server.told("service.stopped")
    with Running(tmp_path / "data", *options) as server:
        client = server.client()
        assert client.job(short)["state"] == "queued"
        running(client, long)
        client.cancel(long)
        assert client.wait(short)["state"] == "done"


def _until_closed(url, id):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.request("GET", f"/v1/jobs/{id}/events")
    yield from connection.getresponse()


def bomb(path):
    """A PNG that says it is 40,000 pixels a side."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(120_001 * 2000), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def peak_mb(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def test_what_must_not_hurt(tmp_path, weights, pictures, expected):
    """Too large, a bomb, a wrong key, cancelled, gone away in the middle; and then a job like any other."""
    options = ("--model-path", str(weights), "--max-bytes", "3000000")
    with Running(tmp_path / "data", *options, REALSRT_API_KEYS=f"{KEY},{OTHER}") as server:
        client = server.client(KEY)
        client.wait(client.submit(pictures[0]))
        before = peak_mb(server.process)

        with pytest.raises(ServiceError, match="above the limit of 3,000,000 bytes") as caught:
            client.submit(bytes(60_000_000))
        assert caught.value.status == 413
        with pytest.raises(ServiceError, match="40000x40000 is above the limit of 16,000,000 pixels") as caught:
            client.submit(bomb(tmp_path / "bomb.png"))
        assert caught.value.status == 413
        assert peak_mb(server.process) - before < 60

        for key in (None, KEY + "x", KEY[:-1]):
            with pytest.raises(ServiceError) as caught:
                server.client(key).submit(pictures[0])
            assert caught.value.status == 401
        with pytest.raises(ServiceError) as caught:
            server.client(OTHER).job(client.submit(pictures[1]))
        assert caught.value.status == 404

        slow = client.submit(large(tmp_path), steps=8, fidelity=0.9)
        running(client, slow)
        assert client.cancel(slow)["state"] == "cancelled"
        with pytest.raises(ServiceError, match="cancelled"):
            client.wait(slow)

        host, port = server.url.removeprefix("http://").split(":")
        head = (
            f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 100000\r\n\r\n"
        )
        with socket.create_connection((host, int(port))) as half:
            half.sendall(f"POST /v1/jobs {head}Content-Length: 100000\r\n\r\n".encode() + b"x" * 5000)
        listened = client.submit(large(tmp_path), steps=2)
        with socket.create_connection((host, int(port))) as half:
            half.sendall(
                f"GET /v1/jobs/{listened}/events HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\n\r\n".encode()
            )
            assert half.recv(100).startswith(b"HTTP/1.1 200")
        kinds = [kind for kind, _ in client.events(listened)]
        assert kinds.count("preview") == 3  # the base image, and two steps
        assert client.job(listened)["state"] == "done"

        id = client.submit(pictures[5], steps=1)
        assert client.wait(id)["state"] == "done"
        assert client.result(id) == expected[pictures[5].name, 1.0]
        saved = client.upscale(pictures[6], tmp_path / f"saved{pictures[6].suffix}", steps=1)
        assert saved.read_bytes() == expected[pictures[6].name, 1.0]
        other = client.upscale(pictures[6], tmp_path / "other.jpeg", steps=1)  # a target's ending is its format
        assert imageio.header(other).format == "JPEG"
        again = client.regenerate(id, box=[0, 0, 32, 32], seed=2)
        assert client.wait(again)["parent"] == id
        assert not list((tmp_path / "data" / "incoming").iterdir())
        assert not [line for line in server.log if line["level"] in ("error", "critical")]
        assert server.end() == 0


@pytest.mark.timeout(1800)
def test_the_interface_is_what_its_description_says(tmp_path, weights, pictures, capsys):
    """Schemathesis: its checks on requests made from the OpenAPI document, but for two: what an option may be depends
    on the others, the model and the picture, so some requests that fit the document are refused (422); and DELETE
    cancels a job, which stays known as cancelled until it expires."""
    schemathesis = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if not schemathesis:
        pytest.skip("schemathesis is not installed")
    with Running(tmp_path / "data", "--model-path", str(weights), REALSRT_API_KEYS=KEY) as server:
        client = server.client(KEY)
        client.wait(client.submit(pictures[0]))
        argv = [
            schemathesis, "run", f"{server.url}/openapi.json", "-H", f"Authorization: Bearer {KEY}",
            "--max-examples", "20", "--seed", "1",
            "--exclude-checks", "positive_data_acceptance,use_after_free",
            "--continue-on-failure", "--generation-database", "none",
            "--no-color", "--request-timeout", "30",
        ]  # fmt: skip
        ran = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
        with capsys.disabled():
            print("\n" + "\n".join(ran.stdout.splitlines()[-25:]))
        assert ran.returncode == 0, ran.stdout
        assert not [line for line in server.log if line["level"] in ("error", "critical")]
        assert server.process.poll() is None
