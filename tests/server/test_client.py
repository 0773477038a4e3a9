"""The client against servers that are none, or go wrong."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from realsrt.errors import ImageError, UsageError
from realsrt.server import client as parts
from realsrt.server.client import Client, ServiceError


@pytest.fixture
def answering(monkeypatch):
    """A function: answers [(status, headers, body), ...], the last for ever → a client of who gives them."""
    monkeypatch.setattr(parts.time, "sleep", lambda seconds: None)
    servers = []

    def make(*answers):
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, body = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = do_GET

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return Client(f"http://127.0.0.1:{server.server_port}", timeout=5)

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "url", ["localhost:8000", "http://", "http://h:port", "http://h:99999", "http://[::1", "ftp://h"]
)
def test_what_is_no_address(url):
    with pytest.raises(UsageError, match="is not the address of a service"):
        Client(url)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"\xff"])
def test_answers_of_something_else(answering, body):
    client = answering((200, {}, body))
    for call in (client.models, lambda: client.job("a"), lambda: client.submit(b"x"), lambda: client.cancel("a")):
        with pytest.raises(ServiceError, match="does not answer as this service does"):
            call()


@pytest.mark.parametrize("body", [b"", b"<html>\n", b"event: state\ndata: {\n\n", b"event: state\ndata: {}\n\n"])
def test_streams_of_events_that_never_end_do_not_hold_one_for_ever(answering, body):
    client = answering((200, {}, body))
    with pytest.raises(ServiceError, match="is lost"):
        list(client.events("a"))


def test_files_that_cannot_be_read_or_written(answering, tmp_path):
    job = {"id": "a", "state": "done", "name": "a", "format": "png"}
    event = f"event: state\ndata: {json.dumps(job)}\n\n".encode()
    client = answering(
        (202, {}, b'{"id": "a"}'), (200, {}, event), (200, {}, json.dumps(job).encode()), (200, {}, b"x")
    )
    with pytest.raises(ImageError, match=r"nowhere\.png: No such file"):
        client.submit(tmp_path / "nowhere.png")
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"no/out\.png: No such file"):
        client.upscale(tmp_path / "a.png", tmp_path / "no" / "out.png")


@pytest.mark.parametrize("status", [429, 507])
def test_waits_while_there_is_no_room(answering, status):
    full = status, {"Retry-After": "1"}, b'{"detail": "full"}'
    client = answering(full, full, (202, {}, b'{"id": "a"}'))
    with pytest.raises(ServiceError, match="full") as caught:
        client.submit(b"x", patient=False)
    assert (caught.value.status, caught.value.retry_after) == (status, 1)
    assert client.submit(b"x") == "a"
