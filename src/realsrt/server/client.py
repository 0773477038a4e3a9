"""A client of the service; needs the standard library only.

client = Client("http://127.0.0.1:8000", key="...")
client.upscale("photo.jpg", "photo_x4.jpg", fidelity=0.8)
"""

import contextlib
import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from realsrt.errors import ImageError, RealSRTError, UsageError, why
from realsrt.io.atomic import write_whole

FINAL = ("done", "failed", "cancelled", "expired")
_MOST_TRIES = 100  # when the queue is full


class ServiceError(RealSRTError):
    """The service refused, or a job failed. `status`: of HTTP, 0 for a failed job or no answer."""

    def __init__(self, detail: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status, self.retry_after = status, retry_after


class Client:
    """One service. A connection for each request, so several threads may share it."""

    def __init__(self, url: str, key: str | None = None, timeout: float = 60.0) -> None:
        """Address a service; nothing is sent yet.

        Args:
            url: "http://HOST:PORT", or https.
            key: An API key, where the service asks for one.
            timeout: Seconds without a byte before a request is given up.

        Raises:
            UsageError: For what is no address.

        >>> client = Client("http://127.0.0.1:8000")
        >>> Client("localhost")
        Traceback (most recent call last):
        realsrt.errors.UsageError: localhost: is not the address of a service; write http://HOST:PORT
        """
        try:
            parts = urlsplit(url)
            right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            right = False
        if not right:
            raise UsageError(f"{url}: is not the address of a service; write http://HOST:PORT")
        self._parts, self._timeout = parts, timeout
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def upscale(
        self, image: str | os.PathLike[str], target: str | os.PathLike[str] | None = None, **options: Any
    ) -> Path:
        """Send an image, wait, and save the result.

        Args:
            image: A file.
            target: Where to; by default NAME_x4.EXT beside the image. Its suffix chooses the format, but for `ext`.
            options: As in `submit`.

        Returns:
            The file that was written.

        Raises:
            ServiceError: The service refused, or could not do it.
            ImageError: A file cannot be read or written.
        """
        if target and Path(target).suffix:
            ending = Path(target).suffix[1:].lower()
            options = {"ext": {"jpeg": "jpg", "tiff": "tif"}.get(ending, ending), **options}
        id = self.submit(image, **options)
        job = self.wait(id)
        path = Path(image)
        saved = Path(target) if target else path.with_name(f"{path.stem}_x4.{job['format']}")
        with _named(saved):
            write_whole(saved, self.result(id))
        return saved

    def submit(self, image: str | os.PathLike[str] | bytes, *, patient: bool = True, **options: Any) -> str:
        """Send an image, and do not wait for the result.

        Args:
            image: A file, or the bytes of one.
            patient: Whether to try again, as the service says when, where its queue or its disk is full.
            options: By the names of `realsrt upscale`, such as ``outscale=2``; None leaves one to the service.

        Returns:
            The job's id.

        Raises:
            ServiceError: The service refused.
            ImageError: The file cannot be read.
        """
        with _named(image):
            body = image if isinstance(image, bytes) else Path(image).read_bytes()
        named = {} if isinstance(image, bytes) else {"filename": Path(image).name}
        given = {**named, **{name: value for name, value in options.items() if value is not None}}
        query = urlencode(
            {name: str(value).lower() if value is True or value is False else value for name, value in given.items()}
        )
        for tries in range(_MOST_TRIES):
            try:
                return self._json("POST", f"/v1/jobs?{query}", body, "application/octet-stream")["id"]
            except ServiceError as error:
                if error.status not in (429, 507) or not patient or tries + 1 == _MOST_TRIES:
                    raise
                time.sleep(error.retry_after or 1.0)
        raise AssertionError

    def job(self, id: str) -> dict[str, Any]:
        """A job's state, progress and facts. Raises ServiceError."""
        return self._json("GET", f"/v1/jobs/{id}")

    def wait(self, id: str) -> dict[str, Any]:
        """The job, once it is done. Raises ServiceError if it comes to another end."""
        job: dict[str, Any] = {}
        for _ in self.events(id):
            pass
        job = self.job(id)
        if job["state"] != "done":
            raise ServiceError(f"{job['name']}: {job.get('error') or job['state']}")
        return job

    def events(self, id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(kind, data) until the job has ended: state, progress, preview. Connects again if the stream breaks off, and
        raises ServiceError if that does not help."""
        broken, last = 0, None
        while True:
            try:
                with self._open("GET", f"/v1/jobs/{id}/events") as answer:
                    for kind, data in _parsed(answer):
                        broken, last = 0 if (kind, data) != last else broken, (kind, data)
                        yield kind, data
                        if kind == "state" and data.get("state") in FINAL:
                            return
                problem = "it ends too early"
            except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
            if broken >= 5:
                raise ServiceError(f"the connection to {self._parts.netloc} is lost: {problem}")
            broken += 1
            time.sleep(min(5.0, 0.2 * 2**broken))

    def result(self, id: str) -> bytes:
        """The bytes of a finished job's image. Raises ServiceError."""
        return self._bytes("GET", f"/v1/jobs/{id}/result")

    def confidence(self, id: str) -> bytes:
        """The map of confidence, the bytes of a gray PNG. Raises ServiceError."""
        return self._bytes("GET", f"/v1/jobs/{id}/confidence")

    def trust(self, id: str, level: float = 0.9, error: float = 12.0) -> dict[str, Any]:
        """Where the mean error is promised to be small, and what is promised; docs/service.md. Raises ServiceError."""
        return self._json("GET", f"/v1/jobs/{id}/trust?{urlencode({'level': level, 'error': error})}")

    def cancel(self, id: str) -> dict[str, Any]:
        """Cancel a job, or remove the files of one that has ended; gives the job. Raises ServiceError."""
        return self._json("DELETE", f"/v1/jobs/{id}")

    def regenerate(self, id: str, **region_and_sampling: Any) -> str:
        """Regenerate a region of a finished job's result; docs/service.md has all names.

        Args:
            id: The finished job.
            region_and_sampling: box=(x0, y0, x1, y1) in output pixels or below=0.4; temperature, top_k, seed, variety,
                candidates.

        Returns:
            The new job's id.

        Raises:
            ServiceError: The service refused.
        """
        body = json.dumps(region_and_sampling).encode()
        return self._json("POST", f"/v1/jobs/{id}/regenerate", body, "application/json")["id"]

    def models(self) -> dict[str, Any]:
        """The model of the service and what it can do. Raises ServiceError."""
        return self._json("GET", "/v1/models")

    def _json(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> dict[str, Any]:
        try:
            answer = json.loads(self._bytes(method, path, body, kind))
            if isinstance(answer, dict):
                return answer
        except ValueError:
            pass
        raise ServiceError(f"{self._parts.netloc} does not answer as this service does")

    def _bytes(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> bytes:
        try:
            with self._open(method, path, body, kind) as answer:
                return answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError(f"no answer from {self._parts.netloc}: {error or type(error).__name__}") from error

    def _open(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> "_Answer":
        make = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = make(self._parts.hostname or "", self._parts.port, timeout=self._timeout)
        try:
            headers = {**self._headers, **({"Content-Type": kind} if kind else {})}
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent: an answer
                connection.request(method, self._parts.path.rstrip("/") + path, body, headers)
            answer = _Answer(connection, connection.getresponse())
            if answer.status >= 400:
                raise answer.problem()
            return answer
        except BaseException:
            connection.close()
            raise


class _Answer:
    """A response that closes its connection."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection, self._response, self.status = connection, response, response.status

    def __enter__(self) -> http.client.HTTPResponse:
        return self._response

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def problem(self) -> ServiceError:
        content = self._response.read()
        try:
            detail = json.loads(content)["detail"]
        except (ValueError, KeyError, TypeError):
            detail = f"{self.status} {self._response.reason}"
        after = self._response.headers.get("Retry-After", "")
        return ServiceError(str(detail), self.status, float(after) if after.isdecimal() else None)


@contextlib.contextmanager
def _named(path: object) -> Iterator[None]:
    """What the file system says of a path becomes an ImageError."""
    try:
        yield
    except OSError as error:
        raise ImageError(f"{path}: {why(error)}") from error


def _parsed(stream: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    for raw in stream:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)
