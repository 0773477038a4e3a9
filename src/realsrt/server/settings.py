"""What the service was told when it started."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from realsrt.errors import UsageError
from realsrt.server.keys import Keys

_MOST = {"max_queue": 10**6, "max_bytes": 10**12, "max_pixels": 10**9, "max_seconds": 10**7, "keep": 10**6}
_ORIGIN = re.compile(r"https?://[\w.*-]+(:\d+)?")
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServerSettings:
    """What a service is told. Raises UsageError for what makes no sense."""

    data: Path
    """A folder for jobs and their files; they survive a restart."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for all."""
    port: int = 8000
    """The port; 0 takes a free one."""
    model: str = "small"
    """Name or path."""
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    """Of the CPU that compute."""
    max_queue: int = 100
    """Jobs that may wait; more are told to come back later (429)."""
    max_bytes: int = 50_000_000
    """Refuse larger uploads (413)."""
    max_pixels: int = 16_000_000
    """Refuse larger inputs, before decoding them (413)."""
    max_seconds: float = 7200.0
    """A job that computes longer fails."""
    keep: float = 24.0
    """Hours until a result's files are removed."""
    keys: Keys = field(default_factory=Keys)
    cors_origins: tuple[str, ...] = ()
    """Pages of this origin may use the service; may be given several times."""
    page: bool = False
    """Show the page at /; visitors without a key see their own images only."""
    hosts: tuple[str, ...] = ()
    """A name of this service, besides IP addresses; may be given several times."""
    frame_origins: tuple[str, ...] = ()
    """A page of this origin may show the page in a frame, over HTTPS; may be given several times."""
    visitor_jobs: int = 500
    """Results that a visitor without a key may have at a time."""
    keep_visitors: bool = False
    """Keep what visitors without a key sent when the service is stopped, for its next start."""
    calibration: Path | None = None
    """A file of realsrt calibrate for masks of trust, else the one inside the package for these weights."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Log lines from here on."""

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if not 0 < (value := getattr(self, name)) <= most:
                raise UsageError(f"--{name.replace('_', '-')} must be above 0 and at most {most:,}, got {value}")
        for origin in self.frame_origins:
            if not _ORIGIN.fullmatch(origin):
                raise UsageError(f"--frame-origin takes an origin such as https://example.org, not '{origin}'")
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"--port goes from 0 to 65535, got {self.port}")

    @property
    def local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOCAL
