"""Jobs as clients see them."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from realsrt.server.options import JobOptions, Regeneration
from realsrt.server.records import JobRecord, State
from realsrt.server.service import Service
from realsrt.server.visitors import WARM_UP

_EXAMPLE = {
    "id": "5b1f0c9a7d3e4f60718293a4", "state": "running", "progress": 0.5, "eta_seconds": 3.2, "name": "sign.jpg",
    "width": 320, "height": 240, "out_width": 1280, "out_height": 960, "format": "jpg", "options": {"outscale": 4},
    "created": "2026-01-01T12:00:00Z", "started": "2026-01-01T12:00:01Z",
}  # fmt: skip


class JobView(BaseModel):
    """One job. Sizes in pixels; `progress` from 0 to 1; `ahead`: jobs before it in the queue."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    state: State
    progress: float = Field(ge=0, le=1)
    eta_seconds: float | None = Field(default=None, description="Until the end, as far as it can be told.")
    ahead: int | None = None
    name: str
    width: int
    height: int
    out_width: int
    out_height: int
    format: str
    options: JobOptions
    regenerated: list[Regeneration] = Field(default_factory=list, description="Parts generated anew, in this order.")
    parent: str | None = Field(default=None, description="The job that this one regenerates.")
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    expires: datetime | None = Field(default=None, description="When the files of the result are removed.")
    seconds: float | None = Field(default=None, description="Time to compute.")
    confidence: float | None = Field(default=None, description="The mean of the map, 0 to 1.")
    error: str | None = None
    notices: list[str] = Field(default_factory=list)


class JobList(BaseModel):
    """Jobs, newest first. `next`: for `before`, to have older ones."""

    jobs: list[JobView]
    next: str | None = None


def view(record: JobRecord, service: Service) -> JobView:
    share, ahead, eta = 1.0 if record.state in ("done", "expired") else 0.0, None, None
    if record.state == "running":
        share, spent = service.live.progress(record.id)
        expected = service.pace.seconds([record]) or (spent / share if share else None)
        # As expected at the beginning, as it has gone so far towards the end.
        eta = None if expected is None else (1 - share) * (spent + (1 - share) * expected)
    elif record.state == "queued":
        before = service.store.ahead(record.id)
        ahead = sum(other.owner != WARM_UP for other in before)
        eta = service.pace.seconds([record, *before])
    width, height = record.out_size
    seen = {
        "progress": round(share, 4), "eta_seconds": None if eta is None else round(eta, 1), "ahead": ahead,
        "out_width": width, "out_height": height, "format": record.suffix[1:], "regenerated": record.edits,
        "expires": record.expires if record.state == "done" else None,
    }  # fmt: skip
    return JobView(**vars(record) | seen)


class Accepted(BaseModel):
    """A new job."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": _EXAMPLE["id"], "state": "queued"}]})

    id: str
    state: State


class Model(BaseModel):
    """A model this service has. `loaded`: the one that computes the jobs."""

    name: str
    sha256: str | None = None
    loaded: bool
    steps: int | None = Field(default=None, description="Steps where a job says nothing.")
    tile: int | None = Field(default=None, description="Side of a window in input pixels.")


class Models(BaseModel):
    models: list[Model]
    device: str
    precision: str


class Health(BaseModel):
    status: str
    detail: str = ""
