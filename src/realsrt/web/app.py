"""The page put together, and the server that shows it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realsrt.errors import UsageError
from realsrt.web.engine import Engine
from realsrt.web.session import Session, make_root

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read by Gradio as it is imported

_KEPT = 3600  # seconds that files which nobody holds any more are kept
# Whatever a component might ask for: the browser fetches from this server only.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)


def build(engine: Engine, root: Path) -> Any:
    """The page as Gradio Blocks; files of its sessions lie below `root`."""
    import gradio as gr

    from realsrt.web.batch_tab import BatchTab
    from realsrt.web.single_tab import SingleTab

    gr.set_static_paths([root])  # served where they lie: no copies that outlive the session
    with gr.Blocks(title="RealSRT", analytics_enabled=False, delete_cache=(600, _KEPT)) as page:
        one, many = (gr.State(Session(root), delete_callback=Session.close) for _ in range(2))
        gr.HTML(
            "<h1>RealSRT</h1><p>Enlarge a picture, see how sure the model is of every part, redo what looks wrong.</p>",
            elem_id="head",
        )
        with gr.Tab("One picture"):
            SingleTab(engine, one)
        with gr.Tab("Many pictures"):
            BatchTab(engine, many)
    page.queue(default_concurrency_limit=1)
    return page


def application(engine: Engine, root: Path, *, max_file_size: str = "1gb") -> Any:
    """An ASGI application: the page at /, with a policy that lets the browser ask no other server."""
    import fastapi
    import gradio as gr

    from realsrt.web import scripts, style

    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app, build(engine, root), path="/", ssr_mode=False, pwa=False, footer_links=[], run_history=False,
        mcp_server=False, max_file_size=max_file_size, theme=style.theme(), css=style.CSS,
        head=style.HEAD + scripts.SCRIPT, allowed_paths=[str(root)],
    )  # fmt: skip
    return _with_policy(app)


def _with_policy(app: Any) -> Callable[..., Any]:
    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await app(scope, receive, sending)

    return wrapped


def serve(engine: Engine, host: str, port: int, told: Callable[[str], None]) -> None:
    """Show the page until interrupted; `told` gets its address. Files are removed at the end. Raises UsageError."""
    import uvicorn

    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as problem:
        known = problem.errno if isinstance(problem.errno, int) and problem.errno > 0 else None
        why = os.strerror(known) if known else problem.strerror or problem
        raise UsageError(f"cannot listen on {host}:{port}: {why}; try another --port or --host") from problem
    root = make_root()
    os.environ["GRADIO_TEMP_DIR"] = str(root / "uploads")
    try:
        config = uvicorn.Config(application(engine, root), log_level="warning", timeout_graceful_shutdown=2)
        shown = f"[{host}]" if ":" in host else host
        told(f"http://{shown}:{listening.getsockname()[1]}/")
        server = uvicorn.Server(config)
        stop = server.handle_exit

        def ending(*signal: Any) -> None:
            """Jobs end and say so on their pages; that their connections are cut then is no error."""
            engine.closing.set()
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            stop(*signal)

        server.handle_exit = ending  # type: ignore[method-assign]
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
            server.run(sockets=[listening])
    finally:
        listening.close()
        shutil.rmtree(root, ignore_errors=True)
