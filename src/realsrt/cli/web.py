"""`realsrt web`: the page, on this machine."""

from typing import Annotated

from realsrt.cli.options import ModelArgs, option
from realsrt.cli.show import note
from realsrt.errors import UsageError


def web(
    *,
    host: Annotated[str, option(help="The address to listen on; 0.0.0.0 lets the whole network in.")] = "127.0.0.1",
    port: Annotated[int, option(help="The port; 0 takes any free one.")] = 7860,
    model: ModelArgs = ModelArgs(),  # noqa: B008 - frozen
    max_pixels: Annotated[int, option(help="Refuse larger inputs before decoding them.")] = 100_000_000,
) -> int:
    """Show a page where pictures are dropped, upscaled, compared, redone in part and taken home.

    It needs no network, and asks for none. One picture is computed at a time; others wait. Ctrl-C ends it, and removes
    every file that was made.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"--port goes from 0 to 65535, got {port}")
    if max_pixels < 1:
        raise UsageError(f"--max-pixels must be at least 1, got {max_pixels}")
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError as problem:
        raise UsageError(f"the page needs {problem.name}: in the source folder, pip install '.[web]'") from problem
    from realsrt.inference.threads import use_threads
    from realsrt.server.settings import LOCAL
    from realsrt.web.app import serve
    from realsrt.web.engine import Engine

    use_threads(model.threads)
    engine = Engine(model.weights, device=model.device, precision=model.chosen_precision, max_pixels=max_pixels)

    def told(url: str) -> None:
        if host not in LOCAL:
            note(f"listening on {host}: whoever reaches this machine can use the page")
        print(f"RealSRT: {url}", flush=True)

    serve(engine, host, port, told)
    return 0
