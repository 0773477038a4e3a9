"""Receiving a picture: never more bytes or pixels than allowed, and nothing decoded."""

import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from realsrt.errors import ImageError, renamed
from realsrt.io import image as imageio
from realsrt.server.guard import limited
from realsrt.server.options import JobOptions
from realsrt.server.problems import invalid, refuse
from realsrt.server.visitors import VISITOR, network

_AT_ONCE = 16  # uploads of one client
_AROUND = 65_536  # bytes of a form besides the picture
_ODD = re.compile(r"[^\w .()+,@=-]+")


@dataclass(frozen=True)
class Upload:
    """A picture that has come in: its file, what the client calls it, its options, its size and format."""

    path: Path
    name: str
    options: JobOptions
    header: imageio.Header


class UnderWay:
    """How many uploads each client has under way; of one event loop."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    @contextmanager
    def one_of(self, owner: str, address: str) -> Iterator[None]:
        """Around an upload of who has a key, else of who comes from an address. Raises a 429 if there are too many."""
        client = network(address) if not owner or owner.startswith(VISITOR) else f"key {owner}"
        if self._counts[client] >= _AT_ONCE:
            raise refuse(
                429, f"{_AT_ONCE} of your uploads are under way already; try again later", {"Retry-After": "5"}
            )
        self._counts[client] += 1
        try:
            yield
        finally:
            self._counts[client] -= 1
            self._counts += Counter()  # without zeros


async def receive(
    request: Request, query: JobOptions, name: str | None, folder: Path, limits: tuple[int, int]
) -> Upload:
    """The picture of a request: the field `image` of a form, or the bytes of the body. limits: bytes and pixels.

    Raises a refusal: 400, 408 (the guard's), 413, 415, 422. The caller moves or removes the file.
    """
    max_bytes, max_pixels = limits
    multipart = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    allowed = max_bytes + (_AROUND if multipart else 0)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > allowed:
        raise _too_large(max_bytes)
    path = folder / secrets.token_hex(12)
    try:
        try:
            if multipart:
                options, given = await _form(request, query, path, allowed, max_bytes)
            else:
                options, given = query, await _body(request, path, allowed, max_bytes)
        except ClientDisconnect:
            raise refuse(400, "the client went away before the upload was complete") from None
        shown = _shown(name or given)
        header = await run_in_threadpool(_header, path, shown, max_pixels)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Upload(path, shown, options, header)


def _header(path: Path, name: str, max_pixels: int) -> imageio.Header:
    try:
        header = imageio.header(path, max_pixels=2**62)
    except ImageError as error:
        raise refuse(415, renamed(error, path, name)) from None
    if header.width * header.height > max_pixels:
        size = f"{header.width}x{header.height}"
        raise refuse(413, f"{name}: {size} is above the limit of {max_pixels:,} pixels; send a smaller picture")
    return header


async def _body(request: Request, path: Path, allowed: int, max_bytes: int) -> str:
    size = 0
    with path.open("xb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > allowed:
                raise _too_large(max_bytes)
            await run_in_threadpool(file.write, chunk)
        await run_in_threadpool(_sync, file)
    if not size:
        raise refuse(
            422, "there is no picture in the request; send its bytes as the body, or as the field image of a form"
        )
    return ""


async def _form(
    request: Request, query: JobOptions, path: Path, allowed: int, max_bytes: int
) -> tuple[JobOptions, str]:
    counted = Request(request.scope, limited(request.receive, allowed, _too_large(max_bytes)))
    try:
        form = await counted.form(max_files=1, max_fields=64, max_part_size=8192)
    except (MultiPartException, LookupError, UnicodeError) as error:  # the last two: of a charset that is no such thing
        raise refuse(400, f"the form cannot be read: {getattr(error, 'message', error)}") from None
    try:
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise refuse(422, "image: the form has no file of this name")
        fields: dict[str, Any] = {key: value for key, value in form.multi_items() if key != "image"}
        try:
            options = JobOptions.model_validate(query.model_dump(exclude_unset=True) | fields)
        except ValidationError as error:
            raise invalid(error) from None
        if (image.size or 0) > max_bytes:
            raise _too_large(max_bytes)
        if not image.size:
            raise refuse(422, "image: the file is empty")
        with path.open("xb") as file:
            await run_in_threadpool(shutil.copyfileobj, image.file, file, 2**20)
            await run_in_threadpool(_sync, file)
        return options, image.filename or ""
    finally:
        await form.close()


def _sync(file: IO[bytes]) -> None:
    """What is acknowledged is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _too_large(max_bytes: int) -> Exception:
    return refuse(413, f"the upload is above the limit of {max_bytes:,} bytes; send a smaller file")


def _shown(name: str) -> str:
    """A client's name of a picture without folders and without what does not belong into a file name."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return _ODD.sub("_", last).strip(" .")[:120] or "picture"
