"""The HTTP interface: FastAPI's application around a `Service`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from realsrt.checkpoint import embedded
from realsrt.server import problems
from realsrt.server.guard import Guard, Hosts
from realsrt.server.jobs import add_routes
from realsrt.server.page import add_page, warm_up
from realsrt.server.problems import documented, refuse
from realsrt.server.service import Service
from realsrt.server.views import Health, Model, Models
from realsrt.server.visitors import COOKIE, Visitors
from realsrt.version import __version__

ABOUT = """Pictures in, better pictures out. A picture is sent to `POST /v1/jobs`; its job is then asked for, listened
to, or cancelled, and its result fetched until it expires. All errors are problem details with one line."""


def create_app(service: Service) -> FastAPI:
    """The application; the service starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        if visitors:
            warm_up(service)
        try:
            yield
        finally:
            service.stop()

    settings = service.settings
    visitors = Visitors(settings.data / "visitors.key", settings.keep) if settings.page else None
    app = FastAPI(
        title="RealSRT", version=__version__, description=ABOUT, lifespan=lifespan, redirect_slashes=False,
        docs_url=None, redoc_url=None,  # FastAPI's pages fetch their scripts from elsewhere
    )  # fmt: skip
    problems.install(app)
    owner = _owner(service, visitors)
    owned = APIRouter(responses=documented(*((401,) if settings.keys or visitors else ()), 422))
    add_routes(owned, service, owner)
    _add_models(owned, service, owner)
    app.router.routes.extend(owned.routes)  # not included as a router: a 405 names the methods of all routes
    if visitors:
        add_page(app, service, owner, visitors)
    _add_others(app, service)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.cors_origins), allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type"], expose_headers=["Location", "Retry-After"],
        )  # fmt: skip
    if settings.page or not settings.keys:
        app.add_middleware(Hosts, allowed=settings.hosts)
    app.add_middleware(Guard, metrics=service.metrics, origins=settings.cors_origins)
    _describe_problems(app)
    return app


def _owner(service: Service, visitors: Visitors | None) -> Callable[..., str]:
    """A dependency that says whose request it is, or refuses it."""
    keys = service.settings.keys
    if not keys and not visitors:
        return lambda: ""
    bearer, header = HTTPBearer(auto_error=False), APIKeyHeader(name="X-API-Key", auto_error=False)

    def owner(
        authorization: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
        key: Annotated[str | None, Depends(header)],
        request: Request,
    ) -> str:
        if visitors and not (authorization or key) and (visitor := visitors.owner(request.cookies.get(COOKIE))):
            return visitor
        found = keys.owner(authorization.credentials if authorization else key) if keys else None
        if found is None:
            said = "wrong" if authorization or key else "missing"
            detail = f"the API key is {said}; send it as Authorization: Bearer KEY, or as X-API-Key"
            detail = detail if keys else "open the page at / first: visitors are known by its cookie"
            raise refuse(401, detail, {"WWW-Authenticate": "Bearer"})
        return found

    return owner


def _add_models(app: APIRouter, service: Service, owner: Callable[..., str]) -> None:
    @app.get("/v1/models", tags=["service"])
    def models(_: Annotated[str, Depends(owner)]) -> Models:
        """The model that computes the jobs, and the others inside the package."""
        info, config = service.up.model.info, service.up.model.config
        name = info.source.rpartition("/")[2] if not info.source.startswith("hf:") else info.source
        loaded = Model(name=name, sha256=info.sha256, loaded=True, steps=config.num_steps, tile=config.window)
        others = [Model(name=other, loaded=False) for other in embedded() if other != name]
        return Models(
            models=[loaded, *others], device=str(service.up.device), precision=str(service.up.precision).split(".")[-1]
        )


def _add_others(app: FastAPI, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    def root() -> dict[str, str]:
        """Where to go on."""
        return {"service": "RealSRT", "version": __version__, "interface": "/openapi.json", "jobs": "/v1/jobs"}

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", tags=["service"])
    async def healthz() -> Health:
        """The process answers, whatever its threads do."""
        return Health(status="ok")

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", responses=documented(503), tags=["service"])
    def readyz() -> Health:
        """Jobs are computed."""
        if service.unready:
            raise refuse(503, service.unready)
        return Health(status="ready")

    @app.get(
        "/metrics", response_class=Response, tags=["service"],
        responses={200: {"description": "For Prometheus", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    )  # fmt: skip
    def metrics() -> Response:
        """Figures in Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _describe_problems(app: FastAPI) -> None:
    """The schema knows Problem."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        made = make()
        made["components"]["schemas"]["Problem"] = problems.Problem.model_json_schema()
        return made

    app.openapi = openapi
