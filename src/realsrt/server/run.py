"""Running the service until a signal ends it."""

import signal
import socket
from types import FrameType

import uvicorn

from realsrt.pipeline import Upscaler
from realsrt.server.app import create_app
from realsrt.server.logs import say, to_stderr
from realsrt.server.service import Service
from realsrt.server.settings import Settings

_PATIENCE = 10  # seconds for answers under way when the service stops


class _Server(uvicorn.Server):
    """Says where it listens. Tells the service of a signal at once, so that event streams and connections end."""

    service: Service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for bound in server.sockets:
                host, port = bound.getsockname()[:2]
                say("service.listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        say("service.stopping", signal=signal.Signals(sig).name)
        self.service.will_stop()
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> int:
    """Load the model, listen, and return the exit status once stopped. Raises RealSRTError if it cannot start."""
    to_stderr(settings.log_level)
    if not settings.keys and not settings.local:
        say("service.open", 30, detail=f"anyone who reaches {settings.host} may use the service; see --keys-file")
    up = Upscaler.from_pretrained(settings.model, device=settings.device, precision=settings.precision)
    service = Service(settings, up)
    config = uvicorn.Config(
        create_app(service), host=settings.host, port=settings.port, log_config=None, access_log=False,
        timeout_graceful_shutdown=_PATIENCE, server_header=False,
    )  # fmt: skip
    server = _Server(config)
    server.service = service
    server.run()
    return 0 if server.started else 1
