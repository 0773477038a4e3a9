"""What the service was told when it started."""

from dataclasses import dataclass, field
from pathlib import Path

from realsrt.server.keys import Keys

LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServerSettings:
    """`model`: name or path. max_bytes: of an upload. max_pixels: of an input, once decoded. max_queue: jobs that wait.
    keep: hours that a result stays. page: whether to show the page at /. hosts: names of this service besides IP
    addresses and names without a dot. visitor_jobs: results that a visitor without a key may have at a time."""

    data: Path
    model: str = "small"
    device: str = "auto"
    precision: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    max_queue: int = 100
    max_bytes: int = 50_000_000
    max_pixels: int = 16_000_000
    keep: float = 24.0
    keys: Keys = field(default_factory=Keys)
    cors_origins: tuple[str, ...] = ()
    log_level: str = "info"
    page: bool = False
    hosts: tuple[str, ...] = ()
    visitor_jobs: int = 500

    @property
    def local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOCAL
