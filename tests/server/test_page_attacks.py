"""What a visitor of the page might try, on a real server: nobody gets in, and nothing gets out."""

import http.client
import json
import signal
import socket
import struct
import sys
import time
import zlib

import numpy as np
import pytest

from realsrt.io import image as imageio
from support.serving import Running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
WATCHED = """
import os, socket, sys
def noted(name):
    plain = getattr(socket, name) if hasattr(socket, name) else getattr(socket.socket, name)
    def watched(*given, **more):
        with open(os.environ["WATCH"], "a") as file:
            file.write(f"{name} {given[-1] if name == 'connect' else given[:2]}\\n")
        return plain(*given, **more)
    return watched
socket.getaddrinfo = noted("getaddrinfo")
socket.socket.connect = noted("connect")
from realsrt.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


class Visitor:
    """A browser of somebody, as far as HTTP goes."""

    def __init__(self, server, address="127.0.0.1"):
        self._at, self.headers = (address, int(server.url.rpartition(":")[2])), {}
        answer, _ = self.ask("POST", "/v1/visit")
        assert answer.status == 204
        self.said = answer.headers["set-cookie"]
        self.headers = {"Cookie": self.said.partition(";")[0]}

    def ask(self, method, path, body=None, **headers):
        """The answer and its body."""
        connection = http.client.HTTPConnection(*self._at, timeout=60)
        kind = {"Content-Type": "application/json"} if isinstance(body, str) else {}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, self.headers | kind | given)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def status(self, *asked, **headers):
        return self.ask(*asked, **headers)[0].status

    def sent(self, body, query=""):
        """The id of a job once it is done."""
        answer, content = self.ask("POST", f"/v1/jobs?{query}", body)
        assert answer.status == 202, content
        return self.done(json.loads(content)["id"])

    def done(self, id):
        until = time.monotonic() + 120
        while (job := json.loads(self.ask("GET", f"/v1/jobs/{id}")[1]))["state"] in ("queued", "running"):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert job["state"] == "done", job
        return id


def image(path, height=24, width=30, bands=3):
    imageio.write(path, np.random.default_rng(1).integers(0, 256, (height, width, bands), np.uint8))
    return path.read_bytes()


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The command, with a list of all that it connects to or looks up, its computing process too."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "command.py").write_text(WATCHED)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, weights, watched):
    data = tmp_path_factory.mktemp("served") / "data"
    options = ("--page", "--model-path", str(weights), "--max-pixels", "100000", "--max-queue", "4")
    with Running(data, *options, script=watched / "command.py", WATCH=str(watched / "connected")) as server:
        server.data = data
        yield server
        assert server.end() == 0


def test_only_bytes_of_images_come_in_and_nothing_is_fetched(server, watched, tmp_path):
    me, secret = Visitor(server), tmp_path / "secret.png"
    image(secret)
    for body in (
        json.dumps({"path": str(secret), "image": f"file://{secret}"}), str(secret), f"file://{secret}", "/dev/zero",
        "http://192.0.2.1/a.png", f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{secret}"/></svg>',
        '<svg xmlns="http://www.w3.org/2000/svg"><image href="http://192.0.2.1/x.png"/></svg>',
        '<!DOCTYPE x [<!ENTITY e SYSTEM "http://192.0.2.1/x">]><x>&e;</x>', "GIF89a http://192.0.2.1/",
    ):  # fmt: skip
        for name in ("a.png", "../../secret.png", "http%3A%2F%2F192.0.2.1%2Fa.png"):
            assert me.status("POST", f"/v1/jobs?filename={name}", body.encode()) == 415, body
    id = me.sent(secret.read_bytes(), "filename=..%2F..%2Fetc%2Fpasswd")
    assert json.loads(me.ask("GET", f"/v1/jobs/{id}")[1])["name"] == "passwd"
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", f"/v1/jobs/{id}/input",
                 f"/v1/jobs/{id}/tiles/..%2finput/0/0_0.jpg", "/v1/jobs/..%2fvisitors.key", "/file=/a"):  # fmt: skip
        assert me.status("GET", path) in (404, 422), path
    connected = watched / "connected"
    outside = (
        [line for line in connected.read_text().splitlines() if "127.0.0.1" not in line] if connected.exists() else []
    )
    assert outside == []


def test_what_is_too_large_is_refused_by_its_header(server):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**7))) + chunk(b"IEND", b"")
    )
    answer, content = Visitor(server).ask("POST", "/v1/jobs", bomb)
    assert answer.status == 413
    assert b"40000x40000 is above the limit" in content


def test_masks_are_bounded_too(server, tmp_path):
    me = Visitor(server)
    id = me.sent(image(tmp_path / "a.png"))
    for cells, status in (
        ([[0, 0, 1]] * 200_000, 413),
        ([[0, 0, 10**9]], 422),
        ([[10**9, 0, 1]], 422),
        ([[-1, 0, 1]], 422),
    ):
        assert me.status("POST", f"/v1/jobs/{id}/regenerate", json.dumps({"cells": cells})) == status


def test_each_is_counted(server, tmp_path):
    """Half of the queue is what one may have in it; who else comes still has room."""
    greedy, other = Visitor(server), Visitor(server)
    large = image(tmp_path / "large.png", 250, 300)
    found = [greedy.status("POST", "/v1/jobs?steps=8", large) for _ in range(5)]
    assert found[0] == 202
    assert found[-1] == 429
    assert other.status("POST", "/v1/jobs", large) == 202
    for one in (greedy, other):
        for job in json.loads(one.ask("GET", "/v1/jobs")[1])["jobs"]:
            assert one.status("DELETE", f"/v1/jobs/{job['id']}") == 200


def test_nobody_sees_what_is_another_s(server, tmp_path):
    me, other = Visitor(server), Visitor(server)
    assert "HttpOnly" in me.said
    assert "samesite=strict" in me.said.lower()
    assert len(me.headers["Cookie"]) > 80  # not to be guessed
    assert me.headers != other.headers
    first = me.sent(image(tmp_path / "a.png"))
    edit = json.dumps({"cells": [[0, 0, 2]], "candidates": 2})
    id = me.done(json.loads(me.ask("POST", f"/v1/jobs/{first}/regenerate", edit)[1])["id"])
    gets = (
        "",
        "/result",
        "/confidence",
        "/events",
        "/tiles/before",
        "/tiles/after",
        "/cells",
        "/candidates",
        "/candidates/1",
    )
    asked = [("GET", f"/v1/jobs/{id}{path}") for path in gets]
    asked += [
        ("GET", f"/v1/jobs/{first}/steps/0"),
        ("GET", f"/v1/archive.zip?id={id}"),
        ("GET", f"/v1/jobs/{id}/tiles/after/0/0_0.jpg"),
    ]
    posts = [("POST", f"/v1/jobs/{id}/regenerate", edit), ("POST", f"/v1/jobs/{id}/pick", '{"candidate": 1}'),
             ("POST", f"/v1/jobs/{id}/upscale", "{}"), ("DELETE", f"/v1/jobs/{id}")]  # fmt: skip
    assert [me.status(*one) for one in asked] == [200] * len(asked)
    assert [other.status(*one) for one in asked + posts] == [404] * len(asked + posts)
    other.headers = {"Cookie": "realsrt=" + me.headers["Cookie"].partition("=")[2][:-1] + "0"}
    assert [other.status(*one) for one in asked + posts] == [401] * len(asked + posts)
    assert id not in other.ask("GET", "/v1/jobs")[1].decode()
    assert me.status("GET", f"/v1/jobs/{id}/result") == 200


def test_nothing_is_shown_but_what_the_server_made(server, tmp_path):
    me, markup = Visitor(server), b"<html><script>alert(1)</script></html>"
    assert me.status("POST", "/v1/jobs?filename=evil.html", markup) == 415
    id = me.sent(image(tmp_path / "a.png", bands=4) + markup, "filename=evil.html")
    for path, shown in (("result", False), ("confidence", False), ("tiles/after/0/0_0.webp", True), ("cells", True)):
        me.ask("GET", f"/v1/jobs/{id}/tiles/after")
        answer, content = me.ask("GET", f"/v1/jobs/{id}/{path}")
        assert answer.status == 200
        assert b"alert" not in content
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"] in ("image/png", "image/webp")
        assert shown or answer.headers["content-disposition"].startswith("attachment")
    policy = me.ask("GET", "/")[0].headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_names_pointed_here_and_pages_elsewhere_get_nothing(server):
    me = Visitor(server)
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost."):
        assert me.status("GET", "/v1/jobs", Host=host) == 421
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9"):
        assert me.status("POST", "/v1/visit", Origin=origin) == 403
        assert me.status("GET", "/v1/jobs", Origin=origin) == 403
    assert me.status("GET", "/v1/jobs", Host="127.0.0.1") == 200


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_files_are_for_one_user_and_go_when_it_is_stopped(tmp_path, weights):
    """Also with an upload under way; a key's jobs stay. After kill -9 all is there."""
    key = "a-key-of-the-tests-only"
    data, options = tmp_path / "data", ("--page", "--model-path", str(weights))
    with Running(data, *options, REALSRT_API_KEYS=key) as server:
        me = Visitor(server)
        mine = me.sent(image(tmp_path / "a.png"))
        kept = server.client(key).submit(tmp_path / "a.png")
        server.client(key).wait(kept)
        server.end(signal.SIGKILL)
    with Running(data, *options, "--port", server.url.rpartition(":")[2], REALSRT_API_KEYS=key) as server:
        assert me.status("GET", f"/v1/jobs/{mine}/result") == 200
        assert me.status("GET", f"/v1/jobs/{mine}/tiles/after") == 200
        modes = {path: path.stat().st_mode & 0o777 for path in [data, *data.rglob("*")]}
        assert {path.name: oct(mode) for path, mode in modes.items() if mode & 0o77} == {}
        half = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nCookie: {me.headers['Cookie']}\r\nContent-Length: 100000\r\n\r\n"
        half.sendall(head.encode() + b"x" * 50_000)
        until = time.monotonic() + 30
        while not list((data / "incoming").iterdir()):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert server.end() == 0
        half.close()
    assert [path.name for path in (data / "jobs").iterdir()] == [kept]
    assert list((data / "incoming").iterdir()) == []
    assert mine.encode() not in (data / "jobs.sqlite3").read_bytes()
