"""`realsrt train`: every field of TrainConfig is an option. Built on demand, as training needs an extra."""

from collections.abc import Callable
from dataclasses import Field, field, fields, make_dataclass
from typing import Annotated, Any, get_type_hints

from cyclopts import Parameter
from docstring_parser import parse_from_object

from realsrt.errors import needs

HELP = "Train one stage: deep, strength, tokenizer, generator, critic or control."
_UNSET = ("init", "max_steps")  # the user's alone


def train() -> None:
    """A stand-in for other commands' help; `command` makes the real one."""


def command() -> Callable[..., int]:
    """The command, with an option for each field of TrainConfig. Raises UsageError without the `train` extra."""
    with needs("train", "training"):
        from realsrt.training import config as training
        from realsrt.training import train as run
    options = _options(training.TrainConfig, training.stage_defaults())

    def train(stage: str, /, *, options: Any) -> int:
        print(f"weights: {run(training.make_config(stage, **vars(options)))}")
        return 0

    train.__annotations__ = {
        "stage": Annotated[training.StageName, Parameter(help="What to learn; each stage builds on the one before.")],
        "options": Annotated[options, Parameter(name="*")],
        "return": int,
    }
    train.__kwdefaults__ = {"options": options()}
    return train


def _options(config: type, stages: dict[str, Any]) -> type:
    """A dataclass of the config's fields, each optional: None means the stage's default."""
    hints = get_type_hints(config)
    docs = {
        param.arg_name: param.description or ""
        for group in config.__mro__[:-1]
        for param in parse_from_object(group).params
    }
    made: list[tuple[str, Any, Any]] = []
    for known in fields(config):
        if known.name == "stage":
            continue
        hint = hints[known.name]
        help = f"{docs.get(known.name, '')} {_default(known, stages)}".strip()
        several = getattr(hint, "__args__", ())[-1:] == (Ellipsis,)
        parameter = Parameter(help=help or None, negative=(), consume_multiple=several)
        made.append((known.name, Annotated[hint | None, parameter], field(default=None)))
    return make_dataclass("Options", made, frozen=True, namespace={"__module__": __name__})


def _default(known: Field[Any], stages: dict[str, Any]) -> str:
    """ "Default 16 (8 in control)", or nothing."""
    usual = known.default
    own = {stage: getattr(config, known.name) for stage, config in stages.items()}
    others = ", ".join(f"{_shown(value)} in {stage}" for stage, value in own.items() if value != usual)
    if known.name in _UNSET or (usual in (None, (), False) and not others):
        return ""
    return f"Default {_shown(usual)}{f' ({others})' if others else ''}."


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
