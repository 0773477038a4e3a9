"""Errors as problem details (RFC 9457): JSON with one clear line."""

import sqlite3
from collections.abc import Mapping
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from realsrt.errors import one_line
from realsrt.io.files import is_full
from realsrt.server.logs import say
from realsrt.server.options import OPTIONS

MEDIA = "application/problem+json"
_LONGEST = 500  # characters of a detail
RETRY_FULL = {"Retry-After": "60"}


class Problem(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "Not Found", "status": 404, "detail": "there is no such job"}]}
    )

    title: str
    status: int
    detail: str


def refuse(status: int, detail: str, headers: Mapping[str, str] | None = None) -> HTTPException:
    """To be raised."""
    return HTTPException(status, detail, dict(headers) if headers else None)


def response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    title = HTTPStatus(status).phrase
    detail = one_line(detail[: 2 * _LONGEST])  # may say again what somebody sent
    body = Problem(title=title, status=status, detail=detail[:_LONGEST]).model_dump()
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA)


def first_of(errors: Any) -> str:
    """The first of pydantic's errors, in one line, and how many there are."""
    found = list(errors)
    where = ".".join(str(part) for part in found[0]["loc"] if part not in ("query", "body", "path", "header"))
    said = str(found[0]["msg"]).removeprefix("Value error, ")
    if found[0]["type"] == "extra_forbidden":
        near = get_close_matches(where.rpartition(".")[2], OPTIONS, 1)
        said = f"there is no such option{f'; did you mean {near[0]}?' if near else ''}"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{where}: {said}{more}" if where else f"{said}{more}"


def invalid(error: ValidationError) -> HTTPException:
    return refuse(422, first_of(error.errors()))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses` of a route."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA: {"schema": schema}}}
        for status in statuses
    }


def _allowed(app: FastAPI, request: Request) -> list[str]:
    methods: set[str] = set()
    for route in app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


def install(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # of all routes with this path; the router names those of the first
            headers["Allow"] = ", ".join(_allowed(app, request)) or headers.get("Allow", "")
        return response(error.status_code, str(error.detail), headers)

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        return response(422, first_of(error.errors()))

    @app.exception_handler(OSError)
    @app.exception_handler(sqlite3.Error)
    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        if is_full(error):
            say("request.full", 40, path=request.url.path, error=str(error))
            return response(507, "the service's disk is full; try again later", RETRY_FULL)
        say("request.problem", 40, error, path=request.url.path)
        return response(500, "something unexpected went wrong; the service's log says what")
