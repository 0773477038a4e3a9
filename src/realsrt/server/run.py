"""Running the service until a signal ends it."""

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from realsrt.server.app import create_app
from realsrt.server.connections import AT_ONCE, HEAD_BYTES, Connection, places
from realsrt.server.logs import say, to_stderr
from realsrt.server.process import ProcessMaker
from realsrt.server.service import Service
from realsrt.server.settings import ServerSettings

_PATIENCE = 7  # seconds for answers under way when the service stops


class _Server(uvicorn.Server):
    """Says where it listens. Tells the service of a signal at once, so that event streams and connections end."""

    service: Service

    loop: asyncio.AbstractEventLoop | None = None
    listening: Callable[[str], None] = staticmethod(lambda url: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for server in self.servers:
            for bound in server.sockets:
                host, port = bound.getsockname()[:2]
                url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                say("service.listening", url=url)
                self.listening(url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not uvicorn's own, which raises the signal once more at the end: whoever is asked to stop, and does, is
        done, with status 0."""
        if self.loop:  # in its own time: a handler may interrupt code that holds a lock
            self.loop.call_soon_threadsafe(self.service.will_stop)
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def uvicorn_config(app: ASGIApp, settings: ServerSettings) -> uvicorn.Config:
    """How an application is served."""
    return uvicorn.Config(
        app, host=settings.host, port=settings.port, log_config=None, access_log=False, ws="none", http=Connection,
        timeout_graceful_shutdown=_PATIENCE, server_header=False, backlog=AT_ONCE,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )  # fmt: skip


def serve(settings: ServerSettings, listening: Callable[[str], None] | None = None) -> int:
    """Load the model, listen, and return the exit status once stopped. `listening` is told the address. Raises
    RealSRTError if it cannot start."""
    to_stderr(settings.log_level)
    os.umask(0o077)  # what is written is for this user only
    if not settings.keys and not settings.local:
        say("service.open", 30, detail=f"anyone who reaches {settings.host} may use the service; see --keys-file")
    maker = ProcessMaker(settings)
    try:
        service = Service(settings, maker)
    except BaseException:
        maker.close()
        raise
    Connection.most = places()
    server = _Server(uvicorn_config(create_app(service), settings))
    server.service = service
    server.listening = listening or server.listening
    server.run()
    if server.started:
        service.stop()  # a second Ctrl-C leaves this out
    status = 0 if server.started else 1
    for thread in threading.enumerate():
        if thread.name.startswith("AnyIO worker"):  # of a request
            thread.join(1.0)
            if thread.is_alive():  # lost in what came in: Python would wait for it
                logging.shutdown()
                os._exit(status)
    return status
