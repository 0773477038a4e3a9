"""The command line. Nothing heavy is imported before a command needs it, so that --help answers at once.

Exit status: 0 all done, 1 something failed (each failure named on stderr), 2 usage, 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, UnknownCommandError

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read as torch loads: threads that wait leave the CPU to others

import realsrt
from realsrt.batch.report import one_line
from realsrt.cli import bulk, degrade, evaluate, regenerate, serve, teach, tools, train, upscale, visualize, web
from realsrt.cli.pipes import STDIN, STDOUT
from realsrt.cli.show import error
from realsrt.errors import RealSRTError, UsageError


def build_app(tokens: Sequence[str] = ()) -> App:
    """The commands. Those of training are filled in only when `tokens` ask for it: their options live beside torch."""
    app = App(
        name="realsrt",
        help="Real-world x4 super-resolution by confidence-based iterative generation.",
        version=realsrt.__version__,
        suppress_keyboard_interrupt=False,
    )
    app.command(upscale.upscale)
    app.command(regenerate.regenerate)
    app.command(visualize.visualize)
    app.command(bulk.bulk)
    app.command(tools.convert)
    app.command(tools.export)
    app.command(degrade.degrade)
    app.command(evaluate.evaluate)
    app.command(train.command() if tokens[:1] == ["train"] else train.train, name="train", help=train.HELP)
    app.command(teach.teach)
    app.command(serve.serve)
    app.command(web.web)
    app.command(tools.models)
    app.command(tools.info)
    return app


def spelled(tokens: Sequence[str]) -> list[str]:
    """Option names with underscores as with hyphens: --model_path=a_b becomes --model-path=a_b. A lone hyphen
    is stdout as the output, else stdin."""
    end = tokens.index("--") if "--" in tokens else len(tokens)
    out = []
    for token in tokens[:end]:
        if token == "-":
            token = STDOUT if out and out[-1] in ("-o", "--output") else STDIN
        name, equals, value = token.partition("=")
        out.append((name.replace("_", "-") if name.startswith("--") else name) + equals + value)
    return out + list(tokens[end:])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors meant for people are one line on stderr."""
    tokens = spelled(sys.argv[1:] if argv is None else list(argv))
    try:
        app = build_app(tokens)
        status = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        return status if isinstance(status, int) else 0
    except CycloptsError as problem:
        command = [] if isinstance(problem, UnknownCommandError) else tokens[:1]
        told = one_line(str(problem)).replace("requires an argument", "is missing or has no value")
        error(f"{told} See {' '.join(['realsrt', *command, '--help'])}.")
        return 2
    except RealSRTError as problem:
        error(str(problem))
        return 2 if isinstance(problem, UsageError) else 1
    except KeyboardInterrupt:
        error("interrupted; finished pictures are whole, and --resume goes on from them")
        return 130
    except BrokenPipeError:  # the reader of our stdout has gone, as in `realsrt ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
