"""The page: static files, and the routes that only it needs."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyvips
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, StreamingResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.io.suffixes import IMAGES
from realsrt.server.archive import distinct, zipped
from realsrt.server.jobs import download_name
from realsrt.server.options import SUFFIXES, JobOptions
from realsrt.server.problems import refuse
from realsrt.server.results import candidate_path, step_path
from realsrt.server.service import Service
from realsrt.server.tiles import known_tiles, tiles_of
from realsrt.server.uploads import Upload
from realsrt.server.visitors import COOKIE, WARM_UP, Visitors

STATIC = Path(__file__).with_name("static")
_VIEWER_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"  # a rule that OpenSeadragon inserts
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {_VIEWER_STYLE}; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_KEPT = {"Cache-Control": "private, max-age=3600, immutable"}
_MOST = 1000  # results in an archive
_TOGETHER = 2  # whole results that are decoded at a time
_NOISE = 120  # pixels: four windows of the shipped model


class _Static(StaticFiles):
    """Asked for again each time, so that files of two versions are not mixed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "no-cache"
        answer.headers["Content-Security-Policy"] = POLICY
        return answer


def add_page(app: FastAPI, service: Service, owner: Callable[..., str], visitors: Visitors) -> None:
    """The page at /, its files below /page, and what it asks for besides the interface for all."""
    frames = service.settings.frame_origins
    headers = {
        "Content-Security-Policy": POLICY.replace("ancestors 'none'", "ancestors " + (" ".join(frames) or "'none'")),
        "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
        "Cross-Origin-Opener-Policy": "same-origin", "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }  # fmt: skip
    decoding = asyncio.Semaphore(_TOGETHER)  # who waits for it takes no thread: those are for requests of all kinds
    app.mount("/page", _Static(directory=STATIC), name="page")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", media_type="text/html", headers=headers)

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> FileResponse:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})

    @app.get("/v1/page", include_in_schema=False)
    def facts(_: Annotated[str, Depends(owner)]) -> dict[str, Any]:
        """What the page says of this service. `pace`: see `Pace.per_pixel`; `window`: side in input pixels; `base`:
        whether there is a base image before the first step; `temporary`: whether all goes when the service stops;
        `suffixes`: of files that are taken for images; `trust`: whether masks of trust can be promised."""
        settings, config = service.settings, service.up.model.config
        formats = [suffix[1:] for suffix in SUFFIXES.values()]
        return {
            "max_pixels": settings.max_pixels, "max_bytes": settings.max_bytes, "keep": settings.keep,
            "temporary": not settings.keep_visitors, "window": config.window,
            "formats": formats, "suffixes": IMAGES, "steps": config.num_steps, "base": config.trunk is not None,
            "denoise": config.trunk is not None, "pace": service.pace.per_pixel,
            "trust": service.calibration is not None,
        }  # fmt: skip

    @app.post("/v1/visit", status_code=204, include_in_schema=False)
    def visit(request: Request, response: Response) -> None:
        """Give who has none a cookie. By POST: a cookie of SameSite=Strict is not sent along when a link elsewhere
        leads here, and must not be replaced then. Within pages of other origins it has to be of SameSite=None: orders
        from elsewhere are then refused by their Origin alone."""
        if visitors.owner(request.cookies.get(COOKIE)) is None:
            address = request.client.host if request.client else ""
            response.set_cookie(
                COOKIE, visitors.welcome(address), max_age=visitors.max_age, httponly=True,
                samesite="none" if frames else "strict", secure=bool(frames) or request.url.scheme == "https",
            )  # fmt: skip
            if frames:  # a jar of its own for each page around, which browsers take from third parties
                response.headers["set-cookie"] += "; Partitioned"

    @app.get("/v1/archive.zip", include_in_schema=False)
    def archive(
        whose: Annotated[str, Depends(owner)], id: Annotated[list[str], Query(max_length=_MOST)]
    ) -> StreamingResponse:
        records = [service.job(one, whose) for one in dict.fromkeys(id)]
        for record in records:
            service.need_done(record)
        names = distinct([download_name(record) for record in records])
        files = [(name, service.store.result(record)) for name, record in zip(names, records, strict=True)]
        said = {"Content-Disposition": 'attachment; filename="realsrt.zip"'}
        return StreamingResponse(zipped(files), media_type="application/zip", headers=said)

    @app.get("/v1/jobs/{id}/tiles/{which}", include_in_schema=False)
    async def tiles(id: str, which: str, whose: Annotated[str, Depends(owner)]) -> dict[str, int | str]:
        record = await run_in_threadpool(service.job, id, whose)
        if which not in ("before", "after"):
            raise refuse(404, "there are tiles of before and after")
        if which == "after":
            service.need_done(record)
        source = service.store.input(id) if which == "before" else service.store.result(record)
        folder = _tiles(id, which)
        found = await run_in_threadpool(known_tiles, folder)
        if found is None:
            async with decoding:
                found = await run_in_threadpool(tiles_of, source, folder, service.settings.max_pixels * 16)
        return dict(vars(found))

    @app.get("/v1/jobs/{id}/tiles/{which}/{level}/{name}", include_in_schema=False)
    def tile(
        id: str,
        which: str,
        level: Annotated[int, InPath(ge=0, le=32)],
        name: Annotated[str, InPath(pattern=r"^\d{1,6}_\d{1,6}\.(jpg|webp)$")],
        whose: Annotated[str, Depends(owner)],
    ) -> FileResponse:
        service.job(id, whose)
        if which not in ("before", "after"):
            raise refuse(404, "there are tiles of before and after")
        return _shown(_tiles(id, which) / str(level) / name)

    @app.get("/v1/jobs/{id}/steps/{step}", include_in_schema=False)
    def step(
        id: str, step: Annotated[int, InPath(ge=0, le=256)], whose: Annotated[str, Depends(owner)]
    ) -> FileResponse:
        service.job(id, whose)
        return _shown(step_path(service.store.folder(id), step))

    @app.get("/v1/jobs/{id}/cells", include_in_schema=False)
    async def cells(id: str, whose: Annotated[str, Depends(owner)]) -> Response:
        """The confidence as a gray PNG, a pixel for each cell of 8x8 pixels of the result."""
        service.need_done(await run_in_threadpool(service.job, id, whose))
        async with decoding:
            png = await run_in_threadpool(cells_of, service.store.confidence(id))
        if png is None:
            raise refuse(404, "this job has no map of confidence")
        return Response(png, media_type="image/png", headers=_KEPT)

    @app.get("/v1/jobs/{id}/candidates", include_in_schema=False)
    def candidates(id: str, whose: Annotated[str, Depends(owner)]) -> FileResponse:
        service.need_done(service.job(id, whose))
        return _shown(service.store.folder(id) / "candidates.json")

    @app.get("/v1/jobs/{id}/candidates/{number}", include_in_schema=False)
    def candidate(
        id: str, number: Annotated[int, InPath(ge=1, le=16)], whose: Annotated[str, Depends(owner)]
    ) -> FileResponse:
        service.job(id, whose)
        return _shown(candidate_path(service.store.folder(id), number))

    def _tiles(id: str, which: str) -> Path:
        return service.store.folder(id) / "tiles" / which


def warm_up(service: Service) -> None:
    """Compute a small image of noise, so that the first visitor is told how long a picture takes."""
    noise = np.random.default_rng(0).integers(0, 256, (_NOISE, _NOISE, 3), np.uint8)
    path = service.store.incoming / "warm-up.png"
    imageio.write(path, Picture.from_array(noise))
    header = imageio.header(path)
    service.submit(Upload(path, path.name, JobOptions(), header), WARM_UP)


def cells_of(confidence: Path) -> bytes | None:
    """A PNG with a pixel for each cell of 8x8 pixels of a map of confidence, read row by row; None if there is none."""
    try:
        whole = pyvips.Image.new_from_file(str(confidence), access="sequential")
        return whole.shrink(8, 8, ceil=True).write_to_buffer(".png")  # of equal pixels; subsample reads out of order
    except pyvips.Error:
        return None


def _shown(path: Path) -> FileResponse:
    """A file that the service made itself, for the page to show."""
    if not path.is_file():
        raise refuse(404, "there is no such image")
    kinds = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".json": "application/json"}
    return FileResponse(path, media_type=kinds[path.suffix], headers=_KEPT)
