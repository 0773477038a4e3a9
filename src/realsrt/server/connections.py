"""Connections that come to nothing: who sends no request is let go, and no single address takes every place."""

import asyncio
import contextlib
import logging
import time

from uvicorn.protocols.http.h11_impl import H11Protocol

from realsrt.server.logs import say

HEAD_SECONDS = 20.0  # until the head of a request is in; also of the next one, on a connection that is kept
HEAD_BYTES = 2**16  # of the head of a request that is not whole yet; an archive's names a thousand jobs in 28,000
_PLACES = 1000  # connections at most; one address has the half of them
AT_ONCE = 64  # connections that are accepted before the first of them is looked at
_FILES = 4096  # open files that the service asks for, where the system lets it have them
_OTHERS = 100  # files besides those of connections
_SAID_EVERY = 60.0  # seconds


def places() -> int:
    """How many connections there may be: each takes a file, and perhaps one more for what is sent or received.

    Raises the process's limit on open files as far as needed and allowed.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return _PLACES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return _PLACES if soft == resource.RLIM_INFINITY else max(4, min(_PLACES, (soft - _OTHERS) // 2))


class Connection(H11Protocol):
    """uvicorn's, with an end to its patience. `most`: connections at a time."""

    most = _PLACES
    _waiting: asyncio.TimerHandle | None = None
    _said = float("-inf")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client and self.client[0]
        theirs = sum(bool(other.client and other.client[0] == address) for other in self.connections)  # pyright: ignore[reportAttributeAccessIssue]
        if len(self.connections) <= self.most and theirs <= max(1, self.most // 2):
            self._expect_request()
            return
        if time.monotonic() - Connection._said > _SAID_EVERY:
            Connection._said = time.monotonic()
            say("connections.full", logging.WARNING, connections=len(self.connections), client=address, theirs=theirs)
        transport.abort()  # an answer would be lost: what has come in is not read

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._waiting.cancel()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        if self._waiting:
            self._waiting.cancel()
        self._waiting = self.loop.call_later(HEAD_SECONDS, self._let_go)

    def _let_go(self) -> None:
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()
