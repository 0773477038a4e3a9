"""`realsrt web`: the page, for one person on this machine."""

import contextlib
import os
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

from realsrt.cli.options import ModelArgs, option
from realsrt.cli.serve import server
from realsrt.cli.show import note
from realsrt.server.settings import ServerSettings


def web(
    *,
    host: Annotated[str, option(help="The address to listen on; 0.0.0.0 lets the whole network in.")] = "127.0.0.1",
    port: Annotated[int, option(help="The port; 0 takes any free one.")] = 7860,
    model: ModelArgs = ModelArgs(),  # noqa: B008 - frozen
    data: Annotated[
        Path | None, option(help="A folder that keeps what was made; else all is removed at the end.")
    ] = None,
    calibration: Annotated[
        Path | None, option(help="A file of realsrt calibrate for the line of trust, else that of the weights inside.")
    ] = None,
    max_pixels: Annotated[int, option(help="Refuse larger inputs before decoding them.")] = 100_000_000,
    no_browser: Annotated[bool, option(help="Do not open a browser.")] = False,
) -> int:
    """Show a page where images are dropped, upscaled, compared, regenerated in part and downloaded.

    It is the service of `realsrt serve --page` for one person; it asks no other machine for anything. Ctrl-C ends it,
    and removes every file that was made.
    """
    run = server("web")

    def listening(url: str) -> None:
        print(f"RealSRT: {url}/", flush=True)
        if not no_browser and sys.stdout.isatty() and _has_screen():
            webbrowser.open(url)

    with contextlib.ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="realsrt-web-")))
        chosen = ServerSettings(
            folder, **model.settings(), host=host, port=port, max_queue=10_000, visitor_jobs=10_000,
            max_bytes=2_000_000_000, max_pixels=max_pixels, max_seconds=1_000_000, keep=720, log_level="error",
            page=True, keep_visitors=data is not None, calibration=calibration,
        )  # fmt: skip
        if not chosen.local:
            note(f"listening on {host}: whoever reaches this machine can use the page")
        return run(chosen, listening)


def _has_screen() -> bool:
    """Whether a browser that opens would be seen; on Linux one for terminals may be all there is."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
