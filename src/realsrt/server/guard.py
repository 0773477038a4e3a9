"""Around every request: a log line and figures, limits on bodies and on how slowly they come, no orders from other
sites' pages, and problem details instead of plain text that says what is wrong."""

import asyncio
import ipaddress
import logging
import time
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from realsrt.server.logs import say
from realsrt.server.metrics import Metrics
from realsrt.server.problems import refuse, response

SUBMIT = "/v1/jobs"  # has a limit of its own
_SMALL = 262_144  # bytes of any other body; as many painted cells as there may be fit
_MOST = 600.0  # seconds of waiting for a body, at most
_PATIENCE = 30.0  # seconds of waiting for a body, and one more for each _PACE bytes of it
_PACE = 1000
_SHOWN = 300  # characters of a path in the log
_QUIET = ("/healthz", "/readyz", "/metrics")


class Guard:
    """An ASGI middleware. `origins`: pages of these may send requests besides those of the service's own host."""

    def __init__(self, app: ASGIApp, metrics: Metrics, origins: tuple[str, ...]) -> None:
        self._app, self._metrics, self._origins = app, metrics, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, plain = time.perf_counter(), 0, None

        async def noting(message: Message) -> None:
            nonlocal status, plain
            if plain:
                plain["body"] += message.get("body", b"")
                if not message.get("more_body"):
                    wrong, plain = plain, None
                    await _as_problem(wrong)(scope, receive, noting)
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= 400 and dict(message["headers"]).get(b"content-type", b"").startswith(b"text/plain"):
                    plain = {**message, "body": b""}
                    return
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            if "content-length" in headers and "transfer-encoding" in headers:  # a proxy may see another end than we do
                detail = "the request says twice how long it is: Content-Length and Transfer-Encoding"
                await response(400, detail, {"Connection": "close"})(scope, receive, noting)
                return
            if not self._welcome(headers):
                await response(403, "pages of this origin may not use the service; see --cors-origin")(
                    scope, receive, noting
                )
                return
            small = refuse(413, f"the request is above the limit of {_SMALL:,} bytes")
            body = paced(receive)
            await self._app(scope, body if scope["path"] == SUBMIT else limited(body, _SMALL, small), noting)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(scope["method"], route, status, seconds)
            level = logging.DEBUG if scope["path"] in _QUIET else logging.INFO
            client = (scope.get("client") or ("",))[0]
            say(
                "request", level, method=scope["method"][:_SHOWN], path=scope["path"][:_SHOWN], status=status,
                ms=round(seconds * 1000, 1), client=client,
            )  # fmt: skip

    def _welcome(self, headers: dict[str, str]) -> bool:
        origin = headers.get("origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return True
        return origin.partition("://")[2] == headers.get("host")


def _as_problem(plain: Message) -> Response:
    """Instead of Starlette's own answers: those of its FileResponse on ranges, and of CORSMiddleware."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in plain["headers"]}
    kept = {name: value for name, value in headers.items() if name not in ("content-type", "content-length")}
    beyond = "the range lies outside of the file" if plain["status"] == 416 else ""
    said = plain["body"].decode("utf-8", "replace") or beyond
    return response(plain["status"], said, kept)


def paced(receive: Receive) -> Receive:
    """The same, but raises a 408 where a body comes too slowly. Only waiting for it counts."""
    waited, size, whole = 0.0, 0, False

    async def timed() -> Any:
        nonlocal waited, size, whole
        if whole:
            return await receive()
        began, allowed = time.monotonic(), min(_MOST, _PATIENCE + size / _PACE)
        try:
            async with asyncio.timeout(allowed - waited):
                message = await receive()
        except TimeoutError:
            detail = f"the request's body came too slowly: {size:,} bytes in {allowed:.0f} seconds"
            raise refuse(408, detail, {"Connection": "close"}) from None
        waited += time.monotonic() - began
        size += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        return message

    return timed


def limited(receive: Receive, allowed: int, refusal: Exception) -> Receive:
    """The same, but raises `refusal` once more than `allowed` bytes of a body have come."""
    size = 0

    async def counted() -> Any:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > allowed:
            raise refusal
        return message

    return counted


class Hosts:
    """An ASGI middleware that answers requests to IP addresses, names without a dot and `allowed` names only: a page
    elsewhere whose name is pointed at this service (DNS rebinding) gets nothing."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app, self._allowed = app, frozenset(name.lower() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(hosts) > 1 or not all(map(self._known, hosts)):
                await response(421, "the service does not go by this name; see --host-name")(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _known(self, host: str) -> bool:
        name = host.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        if name in self._allowed or (name and "." not in name and ":" not in name):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
