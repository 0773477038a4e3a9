"""What the service was told when it started."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from realsrt.errors import UsageError
from realsrt.server.keys import Keys

_MOST = {"max_queue": 10**6, "max_bytes": 10**12, "max_pixels": 10**9, "max_seconds": 10**7, "keep": 10**6}
_ORIGIN = re.compile(r"https?://[\w.*-]+(:\d+)?")
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServerSettings:
    """`model`: name or path. threads: of the CPU that compute. max_bytes: of an upload. max_pixels: of an input, once
    decoded. max_queue: jobs that wait. max_seconds: that a job may compute. keep: hours that a result stays.
    keep_visitors: whether jobs of visitors without a key stay when the service is asked to stop. page: whether to show
    the page at /. hosts: names of this service besides IP addresses and names without a dot. visitor_jobs: results that
    a visitor without a key may have at a time. frame_origins: pages of these may show the page in a frame.
    calibration: a file of `realsrt calibrate`, else the one inside the package for these weights.

    Raises UsageError for what makes no sense.
    """

    data: Path
    model: str = "small"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    max_queue: int = 100
    max_bytes: int = 50_000_000
    max_pixels: int = 16_000_000
    max_seconds: float = 7200.0
    keep: float = 24.0
    keep_visitors: bool = False
    keys: Keys = field(default_factory=Keys)
    cors_origins: tuple[str, ...] = ()
    log_level: str = "info"
    page: bool = False
    hosts: tuple[str, ...] = ()
    visitor_jobs: int = 500
    frame_origins: tuple[str, ...] = ()
    calibration: Path | None = None

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
