"""`realsrt serve`: the service over HTTP."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from realsrt.cli.options import ModelArgs, option
from realsrt.errors import needs
from realsrt.server.keys import Keys, load_keys
from realsrt.server.settings import ServerSettings


@Parameter(name="*", negative=())
@dataclass(frozen=True)
class _ServeArgs(ServerSettings):
    model: Annotated[str, Parameter(parse=False)] = "small"
    device: Annotated[str, Parameter(parse=False)] = "auto"
    precision: Annotated[str, Parameter(parse=False)] = "auto"
    threads: Annotated[int | None, Parameter(parse=False)] = None
    keys: Annotated[Keys, Parameter(parse=False)] = field(default_factory=Keys)
    cors_origins: Annotated[tuple[str, ...], option("--cors-origin", show_default=False)] = ()
    hosts: Annotated[tuple[str, ...], option("--host-name", show_default=False)] = ()
    frame_origins: Annotated[tuple[str, ...], option("--frame-origin", show_default=False)] = ()


def serve(
    *,
    settings: _ServeArgs,
    model: ModelArgs = ModelArgs(),  # noqa: B008 - frozen
    keys_file: Annotated[
        Path | None, option(help="API keys, one a line: KEY or NAME KEY. REALSRT_API_KEYS may hold more.")
    ] = None,
) -> int:
    """Upscale pictures over HTTP: jobs with progress, previews, cancelling and regenerating. See docs/service.md.

    Logs are JSON lines on stderr. SIGTERM: the current job is finished if that takes no more than 5 seconds, else it
    waits for the next start, as do those in the queue.
    """
    run = server()
    given: dict[str, Any] = vars(settings) | model.settings() | {"keys": load_keys(keys_file)}
    return run(ServerSettings(**given))


def server(extra: str = "serve") -> Callable[..., int]:
    """What runs the service. Raises UsageError without the extra."""
    with needs(extra, "the page" if extra == "web" else "the service"):
        if not (find_spec("python_multipart") or find_spec("multipart")):  # FastAPI asks for it late
            raise ModuleNotFoundError(name="python-multipart")
        from realsrt.server.run import serve as run
    return run
