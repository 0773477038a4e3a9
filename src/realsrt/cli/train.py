"""`realsrt train`: every field of TrainConfig is an option. Built on demand, because the fields live beside torch."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import Field, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import Parameter

from realsrt.errors import UsageError

HELP = "Train one stage: strength, tokenizer, generator, critic or control."
_FIXED = ("stage",)
_UNSET = ("init", "max_steps")  # the user's alone


def train() -> None:
    """A stand-in for other commands' help; `command` makes the real one."""


def command() -> Callable[..., int]:
    """The command, with an option for each field of TrainConfig. Raises UsageError without the `train` extra."""
    try:
        from realsrt.training import config as training
        from realsrt.training import train as run
    except ModuleNotFoundError as problem:
        raise UsageError(f"training needs {problem.name}: pip install 'realsrt[train]'") from problem

    options = _options(training.TrainConfig, _stage_defaults(training))
    stages = Literal["strength", "tokenizer", "generator", "critic", "control"]

    def train(stage: str, /, *, options: Any) -> int:
        given = {known.name: getattr(options, known.name) for known in fields(options)}
        print(f"weights: {run(training.make_config(stage, **given))}")
        return 0

    train.__annotations__ = {
        "stage": Annotated[stages, Parameter(help="What to learn; each stage builds on the one before.")],
        "options": Annotated[options, Parameter(name="*")],
        "return": int,
    }
    train.__kwdefaults__ = {"options": options()}
    return train


def _stage_defaults(training: Any) -> dict[str, Any]:
    """What each stage takes where nothing is said, as configs."""
    needed = {"max_steps": 1, "init": Path()}
    return {stage: training.make_config(stage, **needed) for stage in training.STAGES}


def _options(config: type, stages: dict[str, Any]) -> type:
    """A dataclass of the config's fields, each optional: None means the stage's default."""
    hints, remarks = get_type_hints(config), _remarks(config)
    made: list[tuple[str, Any, Any]] = []
    for known in fields(config):
        if known.name in _FIXED:
            continue
        hint = hints[known.name]
        help = " ".join(part for part in (remarks.get(known.name, ""), _default(known, stages)) if part)
        several = getattr(hint, "__args__", ())[-1:] == (Ellipsis,)
        parameter = Parameter(help=help or None, negative=(), consume_multiple=several)
        made.append((known.name, Annotated[hint | None, parameter], field(default=None)))
    return make_dataclass("Options", made, frozen=True, namespace={"__module__": __name__})


def _default(known: Field[Any], stages: dict[str, Any]) -> str:
    """ "Default 16 (8 in control)", or nothing."""
    usual = known.default
    if known.name in _UNSET:
        return ""
    own = {stage: getattr(config, known.name) for stage, config in stages.items()}
    others = ", ".join(f"{_shown(value)} in {stage}" for stage, value in own.items() if value != usual)
    if usual in (None, (), False) and not others:
        return ""
    return f"Default {_shown(usual)}{f' ({others})' if others else ''}."


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _remarks(config: type) -> dict[str, str]:
    """The string below each field of a dataclass, where there is one."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for above, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name) and isinstance(below, ast.Expr):
            text = getattr(below.value, "value", None)
            if isinstance(text, str):
                found[above.target.id] = " ".join(text.split())
    return found
