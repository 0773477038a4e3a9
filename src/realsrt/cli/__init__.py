"""The command line. Nothing heavy is imported before a command needs it, so that --help answers at once.

Exit status: 0 all done, 1 something failed (each failure named on stderr), 2 usage, 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from types import NoneType
from typing import Any, get_args

from cyclopts import App, ArgumentCollection, CoercionError, CycloptsError, Group, UnknownCommandError

if "OMP_WAIT_POLICY" not in os.environ:  # read as torch loads
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that wait leave the CPU to others,
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # but after ten microseconds: to wake them takes longer

import realsrt
from realsrt.batch.report import abandon
from realsrt.cli import (
    bulk,
    calibrate,
    compare,
    degrade,
    evaluate,
    regenerate,
    serve,
    teach,
    tools,
    train,
    upscale,
    visualize,
    web,
)
from realsrt.cli.pipes import STDIN, STDOUT
from realsrt.cli.show import error
from realsrt.errors import RealSRTError, UsageError

_GOES_ON: dict[str, str] = {
    **dict.fromkeys(("upscale", "train"), ", and --resume goes on from it"),
    **dict.fromkeys(("bulk", "teach"), ", and the same command goes on from it"),
}


_PIPES = {f"{output}-": f"--output={STDOUT}" for output in ("-o", "-o=", "--output=")} | {
    f"{input}-": f"--input={STDIN}" for input in ("-i", "-i=", "--input=")
}


def _whole_numbers(arguments: ArgumentCollection) -> None:
    """Refuse 1.5 where a count is meant: cyclopts would round it."""
    for argument in arguments:
        kinds = _leaves(argument.hint)
        for token in argument.tokens if int in kinds and float not in kinds else ():
            if "." in token.value:
                raise UsageError(f"{token.keyword or argument.name} takes a whole number, not '{token.value}'")


def _leaves(hint: Any) -> list[Any]:
    """The types and values that a type hint allows: of Literal["auto"] | float | None, "auto" and float."""
    inner = [leaf for kind in get_args(hint) if kind is not Ellipsis for leaf in _leaves(kind)]
    return inner or ([] if hint is NoneType else [hint])


def _coercion(problem: CoercionError) -> str:
    """What an option takes, in plain words; "" for what has none."""
    if problem.argument is None or problem.token is None:
        return ""
    words = {int: "a whole number", float: "a number", **{kind: "" for kind in (str, bool)}}
    kinds = [kind if isinstance(kind, str) else words.get(kind, "") for kind in _leaves(problem.argument.hint)]
    takes = " or ".join(dict.fromkeys(kinds))
    name = problem.token.keyword or problem.argument.name
    return f"{name} takes {takes}, not '{problem.token.value}'." if all(kinds) else ""


def build_app(tokens: Sequence[str] = ()) -> App:
    """The commands. Those of training are filled in only when `tokens` ask for it: their options live beside torch."""
    app = App(
        name="realsrt",
        help="Real-world x4 super-resolution by confidence-based iterative generation.",
        version=realsrt.__version__,
        suppress_keyboard_interrupt=False,
        group_parameters=Group("Parameters", validator=_whole_numbers),
    )
    app.command(upscale.upscale)
    app.command(regenerate.regenerate)
    app.command(visualize.visualize)
    app.command(bulk.bulk)
    app.command(tools.convert)
    app.command(tools.export)
    app.command(degrade.degrade)
    app.command(evaluate.evaluate)
    app.command(calibrate.calibrate)
    app.command(compare.compare)
    app.command(train.command() if tokens[:1] == ["train"] else train.train, name="train", help=train.HELP)
    app.command(teach.teach)
    app.command(serve.serve)
    app.command(web.web)
    app.command(tools.models)
    app.command(tools.info)
    return app


def spelled(tokens: Sequence[str]) -> list[str]:
    """Option names with underscores as with hyphens: --model_path=a_b becomes --model-path=a_b. A lone hyphen is
    stdout as the output of `upscale`, else stdin. Raises UsageError for one of another command."""
    end = tokens.index("--") if "--" in tokens else len(tokens)
    out = []
    for token in tokens[:end]:
        if token == "-" and tokens[0] != "upscale":
            raise UsageError(f"realsrt {tokens[0]} takes no - for stdin or stdout, as upscale does; give a file")
        if token == "-":
            token = STDOUT if out[-1] in ("-o", "--output") else STDIN
        elif tokens[0] == "upscale":
            token = _PIPES.get(token, token)
        name, equals, value = token.partition("=")
        out.append((name.replace("_", "-") if name.startswith("--") else name) + equals + value)
    return out + list(tokens[end:])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors meant for people are one line on stderr."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: no file that is opened later may take its place
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - to the end
        elif hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # "≤" where a pipe of Windows knows 256 characters
    try:
        status = _run(argv)
        sys.stdout.flush()
        return status
    except OSError as problem:  # the reader of our stdout has gone, as in `realsrt ... | head`, or its disk is full
        if not isinstance(problem, BrokenPipeError):
            error(str(problem), problem)
        abandon(sys.stdout)
        return 1


def _run(argv: Sequence[str] | None) -> int:
    tokens = list(sys.argv[1:] if argv is None else argv)
    try:
        tokens = spelled(tokens)
        app = build_app(tokens)
        status = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        return status if isinstance(status, int) else 0
    except CycloptsError as problem:
        command = [] if isinstance(problem, UnknownCommandError) else tokens[:1]
        plain = _coercion(problem) if isinstance(problem, CoercionError) else ""
        told = plain or " ".join(str(problem).split()).replace("requires an argument", "is missing or has no value")
        error(f"{told} See {' '.join(['realsrt', *command, '--help'])}.")
        return 2
    except RealSRTError as problem:
        error(str(problem))
        return 2 if isinstance(problem, UsageError) else 1
    except KeyboardInterrupt:
        error(f"interrupted; what was finished is whole{_GOES_ON.get(tokens[0], '')}")
        return 130
