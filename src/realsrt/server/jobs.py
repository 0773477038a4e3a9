"""The routes of jobs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, StreamingResponse

from realsrt.server.events import events
from realsrt.server.guard import SUBMIT
from realsrt.server.options import Choice, JobOptions, Regeneration, Submission
from realsrt.server.problems import documented, refuse
from realsrt.server.records import JobRecord
from realsrt.server.service import Service
from realsrt.server.trust import TrustMask
from realsrt.server.uploads import receive
from realsrt.server.views import Accepted, JobList, JobView, view

MEDIA = {
    "png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "tif": "image/tiff", "avif": "image/avif",
    "jxl": "image/jxl",
}  # fmt: skip
_BINARY = {"type": "string", "format": "binary"}
_EVENTS = """event: state
data: {"id": "5b1f0c9a7d3e4f60718293a4", "state": "running", "progress": 0.0, ...}

event: preview
data: {"step": 1, "of": 2, "confidence": 0.61, "image": "data:image/jpeg;base64,..."}

event: progress
data: {"progress": 0.5, "eta_seconds": 3.2}
"""


def add_routes(app: APIRouter, service: Service, owner: Callable[..., str]) -> None:
    limits = service.settings.max_bytes, service.settings.max_pixels
    follows: dict[str, Any] = {
        "status_code": 202, "tags": ["jobs"], "responses": documented(400, 404, 409, 410, 413, 429, 507),
    }  # fmt: skip

    def accepted(record: JobRecord, response: Response) -> Accepted:
        response.headers["Location"] = f"{SUBMIT}/{record.id}"
        return Accepted(id=record.id, state=record.state)

    @app.post(
        SUBMIT, status_code=202, tags=["jobs"], openapi_extra={"requestBody": _request_body()},
        responses=documented(400, 408, 413, 415, 429, 507),
    )  # fmt: skip
    async def submit(
        request: Request,
        response: Response,
        whose: Annotated[str, Depends(owner)],
        query: Annotated[Submission, Query()],
    ) -> Accepted:
        """Send a picture: as the field `image` of a form, options as its other fields; or its bytes as the body,
        options in the query. 429 says in Retry-After when to try again."""
        await run_in_threadpool(service.check_room)
        with service.uploads.one_of(whose, request.client.host if request.client else ""):
            upload = await receive(request, query.options, query.filename, service.store.incoming, limits)
        return accepted(await run_in_threadpool(service.submit, upload, whose), response)

    @app.get(SUBMIT, response_model_exclude_none=True, tags=["jobs"], responses=documented(404))
    def jobs(
        whose: Annotated[str, Depends(owner)],
        limit: Annotated[int, Query(ge=1, le=100, description="Jobs at most.")] = 20,
        before: Annotated[str | None, Query(max_length=64, description="Older ones than this job.")] = None,
    ) -> JobList:
        """One's own jobs, newest first; `next` is the `before` of the next page, if there may be one."""
        if before is not None:
            service.job(before, whose)
        found = service.store.of_owner(whose, limit, before)
        views = [view(record, service) for record in found]
        return JobList(jobs=views, next=found[-1].id if len(found) == limit else None)

    @app.get(SUBMIT + "/{id}", response_model_exclude_none=True, tags=["jobs"], responses=documented(404))
    def job(id: str, whose: Annotated[str, Depends(owner)]) -> JobView:
        """State, progress and facts of a job."""
        return view(service.job(id, whose), service)

    @app.get(
        SUBMIT + "/{id}/events", response_class=StreamingResponse, tags=["jobs"],
        responses={
            200: {"description": "Server-sent events", "content": {"text/event-stream": {"example": _EVENTS}}},
            **documented(404),
        },
    )  # fmt: skip
    async def job_events(id: str, whose: Annotated[str, Depends(owner)]) -> StreamingResponse:
        """Server-sent events: `state` with the job, `progress`, and `preview` after each step, a JPEG of at most 512
        pixels a side. The stream ends with the job."""
        await run_in_threadpool(service.job, id, whose)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(events(service, id, whose), media_type="text/event-stream", headers=headers)

    @app.get(
        SUBMIT + "/{id}/result", response_class=FileResponse, tags=["jobs"],
        responses={
            200: {
                "description": "The picture: the bytes that realsrt upscale writes",
                "content": {kind: {"schema": _BINARY} for kind in MEDIA.values()},
            },
            **documented(404, 409, 410),
        },
    )  # fmt: skip
    def result(id: str, whose: Annotated[str, Depends(owner)]) -> FileResponse:
        """The upscaled picture, once the job is done."""
        record = service.job(id, whose)
        service.need_done(record)
        suffix = record.suffix[1:]
        return _file(service.store.result(record), MEDIA[suffix], download_name(record))

    @app.get(
        SUBMIT + "/{id}/confidence", response_class=FileResponse, tags=["jobs"],
        responses={
            200: {"description": "A gray PNG", "content": {"image/png": {"schema": _BINARY}}},
            **documented(404, 409, 410),
        },
    )  # fmt: skip
    def confidence(id: str, whose: Annotated[str, Depends(owner)]) -> FileResponse:
        """How sure the model is, as a gray picture of the result's size; brighter = surer."""
        record = service.job(id, whose)
        service.need_done(record)
        if record.options.upscaling.steps == 0:
            raise refuse(404, "there is no confidence of this job: it took 0 steps")
        return _file(service.store.confidence(id), "image/png", download_name(record, "_confidence.png"))

    @app.get(SUBMIT + "/{id}/trust", tags=["jobs"], responses=documented(404, 409, 410))
    def trust(
        id: str,
        whose: Annotated[str, Depends(owner)],
        level: Annotated[float, Query(gt=0, lt=1, description="The share of pictures for which it is promised.")] = 0.9,
        error: Annotated[float, Query(gt=0, description="The mean error, in levels of 255.")] = 12.0,
    ) -> TrustMask:
        """Where the mean error is promised to be small, as by realsrt upscale --trust. What was regenerated is left
        out, and the promise for the rest weaker. 404 says why where nothing is promised."""
        return service.trust(service.job(id, whose), level, error)

    @app.delete(SUBMIT + "/{id}", response_model_exclude_none=True, tags=["jobs"], responses=documented(404))
    def cancel(id: str, whose: Annotated[str, Depends(owner)]) -> JobView:
        """Cancel a job that has not ended; remove the files of one that has."""
        return view(service.cancel(service.job(id, whose)), service)

    @app.post(SUBMIT + "/{id}/upscale", **follows)
    def upscale(id: str, options: JobOptions, response: Response, whose: Annotated[str, Depends(owner)]) -> Accepted:
        """The input of a finished job with other options, as a new job. Another format, quality or strength of a result
        that is still in memory is only written; then, and where the pixels' options stay, so does what was
        regenerated."""
        return accepted(service.upscale(service.job(id, whose), options), response)

    @app.post(SUBMIT + "/{id}/pick", **follows)
    def pick(id: str, choice: Choice, response: Response, whose: Annotated[str, Depends(owner)]) -> Accepted:
        """Another candidate of the last regeneration, 1 = the most confident. A new job."""
        return accepted(service.pick(service.job(id, whose), choice.candidate), response)

    @app.post(SUBMIT + "/{id}/regenerate", **follows)
    def regenerate(id: str, edit: Regeneration, response: Response, whose: Annotated[str, Depends(owner)]) -> Accepted:
        """A part of a result anew: inside a box, or where the confidence is low. All else stays. A new job."""
        return accepted(service.regenerate(service.job(id, whose), edit), response)


def _file(path: Path, media: str, name: str) -> FileResponse:
    if not path.is_file():
        raise refuse(410, "the files of this job have been removed")
    return FileResponse(path, media_type=media, filename=name, headers={"Cache-Control": "private, max-age=3600"})


def download_name(record: JobRecord, ending: str | None = None) -> str:
    """What a result is called: `photo_x4.jpg`."""
    stem = record.name.rpartition(".")[0] or record.name
    size = record.options.resize or f"x{record.options.upscaling.outscale:g}"
    return f"{stem}_{size}{ending or record.suffix}"


def _request_body() -> dict[str, Any]:
    schema = JobOptions.model_json_schema()
    fields = {"image": _BINARY, **schema["properties"]}
    form = {"type": "object", "required": ["image"], "properties": fields, "additionalProperties": False}
    kinds = ("application/octet-stream", "image/*")
    return {
        "required": True,
        "content": {"multipart/form-data": {"schema": form}, **{kind: {"schema": _BINARY} for kind in kinds}},
    }
