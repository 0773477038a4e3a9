"""A job as the service remembers it."""

from dataclasses import dataclass
from typing import Literal

from realsrt.server.options import JobOptions, Regeneration

State = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
FINAL = ("done", "failed", "cancelled", "expired")


@dataclass(frozen=True)
class JobRecord:
    """Times are seconds since 1970; sizes pixels. `edits`: what was generated anew, one after another, after upscaling.
    `expires`: when files go, once the job has ended. `notices`: one-line remarks. `attempts`: how often it was begun.
    """

    id: str
    owner: str
    name: str
    state: State
    options: JobOptions
    suffix: str
    width: int
    height: int
    created: float
    edits: tuple[Regeneration, ...] = ()
    parent: str | None = None
    started: float | None = None
    finished: float | None = None
    expires: float | None = None
    seconds: float | None = None
    confidence: float | None = None
    error: str | None = None
    notices: tuple[str, ...] = ()
    attempts: int = 0

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def out_size(self) -> tuple[int, int]:
        return self.options.upscaling.out_size(self.width, self.height)
