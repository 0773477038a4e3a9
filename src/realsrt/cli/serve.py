"""`realsrt serve`: the service over HTTP."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from realsrt.cli.options import ModelArgs, option
from realsrt.errors import UsageError


def serve(
    *,
    data: Annotated[Path, option(help="A folder for jobs and their files; they survive a restart.")],
    host: Annotated[str, option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, option(help="The port; 0 takes a free one.")] = 8000,
    model: ModelArgs = ModelArgs(),  # noqa: B008 - frozen
    max_queue: Annotated[int, option(help="Jobs that may wait; more are told to come back later (429).")] = 100,
    max_bytes: Annotated[int, option(help="Refuse larger uploads (413).")] = 50_000_000,
    max_pixels: Annotated[int, option(help="Refuse larger inputs, before decoding them (413).")] = 16_000_000,
    max_seconds: Annotated[float, option(help="A job that computes longer fails.")] = 7200.0,
    keep: Annotated[float, option(help="Hours until a result's files are removed.")] = 24.0,
    keys_file: Annotated[
        Path | None, option(help="API keys, one a line: KEY or NAME KEY. REALSRT_API_KEYS may hold more.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, option(help="Pages of this origin may use the service; may be given several times.")
    ] = None,
    log_level: Annotated[Literal["debug", "info", "warning", "error"], option(help="Log lines from here on.")] = (
        "info"
    ),
) -> int:
    """Upscale pictures over HTTP: jobs with progress, previews, cancelling and regenerating. See docs/service.md.

    Logs are JSON lines on stderr. SIGTERM: the current job is finished if that takes no more than 5 seconds, else it
    waits for the next start, as do those in the queue.
    """
    run, settings, load_keys = _server()
    return run(
        settings(
            data=data, model=model.weights, device=model.device, precision=model.chosen_precision,
            threads=model.threads, host=host, port=port, max_queue=max_queue, max_bytes=max_bytes,
            max_pixels=max_pixels, max_seconds=max_seconds, keep=keep, keys=load_keys(keys_file),
            cors_origins=tuple(cors_origin or ()), log_level=log_level,
        )
    )  # fmt: skip


def _server() -> Any:
    """The parts of the server. Raises UsageError without the extra."""
    if not (find_spec("python_multipart") or find_spec("multipart")):  # Starlette asks for it once a form comes
        raise UsageError("the service needs python-multipart: in the source folder, pip install '.[serve]'")
    try:
        from realsrt.server.keys import load_keys
        from realsrt.server.run import serve as run
        from realsrt.server.settings import ServerSettings
    except ModuleNotFoundError as problem:
        raise UsageError(f"the service needs {problem.name}: in the source folder, pip install '.[serve]'") from problem
    return run, ServerSettings, load_keys
