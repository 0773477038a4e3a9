"""`realsrt serve`: the service over HTTP."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from realsrt.cli.options import ModelArgs, option
from realsrt.errors import needs


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
    page: Annotated[bool, option(help="Show the page at /; visitors without a key see their own images only.")] = False,
    host_name: Annotated[
        list[str] | None, option(help="A name of this service, besides IP addresses; may be given several times.")
    ] = None,
    frame_origin: Annotated[
        list[str] | None, option(help="A page of this origin may show the page in a frame, over HTTPS; repeatable.")
    ] = None,
    visitor_jobs: Annotated[int, option(help="Results that a visitor without a key may have at a time.")] = 500,
    keep_visitors: Annotated[
        bool, option(help="Keep what visitors without a key sent when the service is stopped, for its next start.")
    ] = False,
    calibration: Annotated[
        Path | None, option(help="A file of realsrt calibrate for masks of trust, else that of the weights inside.")
    ] = None,
    log_level: Annotated[Literal["debug", "info", "warning", "error"], option(help="Log lines from here on.")] = (
        "info"
    ),
) -> int:
    """Upscale pictures over HTTP: jobs with progress, previews, cancelling and regenerating. See docs/service.md.

    Logs are JSON lines on stderr. SIGTERM: the current job is finished if that takes no more than 5 seconds, else it
    waits for the next start, as do those in the queue.
    """
    run, settings, load_keys = server()
    return run(
        settings(
            data=data, model=model.weights, device=model.device, precision=model.chosen_precision,
            threads=model.threads, host=host, port=port, max_queue=max_queue, max_bytes=max_bytes,
            max_pixels=max_pixels, max_seconds=max_seconds, keep=keep, keys=load_keys(keys_file),
            cors_origins=tuple(cors_origin or ()), log_level=log_level, page=page, hosts=tuple(host_name or ()),
            visitor_jobs=visitor_jobs, keep_visitors=keep_visitors, frame_origins=tuple(frame_origin or ()),
            calibration=calibration,
        )
    )  # fmt: skip


def server(extra: str = "serve") -> Any:
    """The parts of the server. Raises UsageError without the extra."""
    with needs(extra, "the page" if extra == "web" else "the service"):
        if not (find_spec("python_multipart") or find_spec("multipart")):  # FastAPI asks for it late
            raise ModuleNotFoundError(name="python-multipart")
        from realsrt.server.keys import load_keys
        from realsrt.server.run import serve as run
        from realsrt.server.settings import ServerSettings
    return run, ServerSettings, load_keys
