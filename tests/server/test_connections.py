"""Connections that come to nothing, on uvicorn itself; and what gets into the log."""

import contextlib
import json
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from realsrt.server import connections, guard
from realsrt.server.connections import Connection, places
from realsrt.server.run import uvicorn_config
from realsrt.server.settings import ServerSettings

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def wait_for(done):
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


@contextlib.contextmanager
def served(app):
    """The port of a server as `realsrt serve` has it."""
    config = uvicorn_config(app, ServerSettings(Path(), port=0))
    config.lifespan = "off"
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture
def port(monkeypatch):
    """Of a server that answers all with 200, and soon loses patience."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(Connection, "most", 6)

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    with served(app) as found:
        yield found


def connected(port, sent=b""):
    made = socket.create_connection(("127.0.0.1", port), timeout=30)
    made.sendall(sent)
    return made


def ended(connection):
    """What comes until the other side closes; a test's time is up if it never does."""
    found = b""
    while part := connection.recv(1000):
        found += part
    return found


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX: "], ids=["nothing", "line", "head"]
)
def test_who_sends_no_request_is_let_go(port, sent):
    with connected(port, sent) as connection:
        assert ended(connection) == b""


def test_nor_is_waited_for_a_second_request_that_has_begun(port):
    with connected(port, GET) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.sendall(b"G")  # ends the patience of keep-alive
        assert ended(connection) in (b"", b"ok")


def test_one_address_has_half_of_the_places(port, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 60)
    held = [connected(port) for _ in range(3)]
    time.sleep(0.1)
    with connected(port) as connection, contextlib.suppress(ConnectionResetError):
        assert ended(connection) == b""
    held.pop().close()
    time.sleep(0.1)
    with connected(port, GET) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    for one in held:
        one.close()


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/x/regenerate"])
def test_a_body_that_comes_too_slowly_is_given_up(opened, monkeypatch, path):
    monkeypatch.setattr(guard, "_PATIENCE", 0.5)
    monkeypatch.setattr(guard, "_PACE", 100)
    here = opened(working=False)
    with served(here.http.app) as port:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode()
        with connected(port, head + b"Content-Length: 1000\r\n\r\n") as slow:
            began = time.monotonic()
            with contextlib.suppress(OSError):
                for _ in range(20):  # 40 bytes a second, and 100 are wanted
                    slow.sendall(b"    ")
                    time.sleep(0.1)
                    if slow in select.select([slow], [], [], 0)[0]:
                        break
            answer = ended(slow)
            assert time.monotonic() - began > 0.5
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"application/problem+json" in answer
        assert b"connection: close" in answer.lower()
        with connected(port, head + b"Content-Length: 200\r\n\r\n") as steady:
            for _ in range(10):  # fast enough, and longer than the patience
                steady.sendall(b" " * 20)
                time.sleep(0.08)
            assert steady.recv(1000)[9:12] in (b"415", b"422")


def test_the_head_of_the_largest_archive_may_come_in_pieces(opened):
    here = opened(working=False, page=True)
    here.http.post("/v1/visit")
    query = "&".join(f"id={number:024x}" for number in range(1000))
    cookies = "; ".join(f"{name}={value}" for name, value in here.http.cookies.items())
    head = f"GET /v1/archive.zip?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nCookie: {cookies}\r\n\r\n"
    with served(here.http.app) as port, connected(port, head[:20_000].encode()) as connection:
        time.sleep(0.3)
        connection.sendall(head[20_000:].encode())
        answer = ended(connection)
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"there is no such job" in answer


def test_there_are_files_enough_for_all_connections():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        found = places()
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert soft > 256 or before[1] <= 256
        assert 2 * found < soft
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


TALK = """
import logging, warnings
from realsrt.server.logs import to_stderr
to_stderr("info")
logging.getLogger("asyncio").error("no more files\\n{}")
warnings.warn("of a library")
logging.getLogger("python_multipart.multipart").warning("of what came in")
"""


def test_every_line_of_the_log_is_json_whoever_writes_it():
    ran = subprocess.run([sys.executable, "-c", TALK], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["error", "warning"]
    assert lines[0]["event"] == "no more files\n{}"
