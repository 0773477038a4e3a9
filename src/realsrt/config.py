"""The whole model's configuration, and its JSON form inside a checkpoint."""

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from realsrt.errors import CheckpointError, shown
from realsrt.models.control import EncoderControlConfig, FeatureControlConfig
from realsrt.models.quantizer import QuantizerConfig
from realsrt.models.residual_tokenizer import ResidualTokenizerConfig
from realsrt.models.tokenizer import VQGANConfig
from realsrt.models.transformer import TransformerConfig
from realsrt.models.trunk import TrunkConfig
from realsrt.sampling import SAMPLERS, SCHEDULES

TokenizerConfig = VQGANConfig | ResidualTokenizerConfig
ControlConfig = EncoderControlConfig | FeatureControlConfig
ColorFix = Literal["adain", "wavelet", "coarse", "none"]
Blend = Literal["gaussian", "taper"]
Refine = Literal["dense", "sparse"]


@dataclass(frozen=True)
class ModelConfig:
    """Parts of a model and the settings it is used with by default.

    ``trunk``: restores the input first; without one decoding starts from the bicubic enlargement, and there is no
    image after 0 steps. ``critic_head``: "linear" is the paper's. ``window``: side of a window in low-quality pixels.
    ``stride``: of windows, same unit. ``sampler`` and ``schedule``: names of ``sampling.SAMPLERS`` and
    ``sampling.SCHEDULES``. ``color_fix``: how the colours of the input are kept. ``blend``: the weight of a window
    towards its border, the paper's Gaussian or one that falls to nothing. ``refine``: whether later steps compute all
    positions or masked ones only. ``confidence_exit``: mean confidence from which on a window takes no further step; 1
    = it takes all.
    """

    preset: str
    tokenizer: TokenizerConfig
    generator: TransformerConfig
    critic: TransformerConfig
    control: ControlConfig
    trunk: TrunkConfig | None = None
    critic_head: Literal["linear", "code"] = "linear"
    scale: int = 4
    window: int = 64
    stride: int = 32
    num_steps: int = 4
    sampler: str = "confidence"
    schedule: str = "sqrt"
    color_fix: ColorFix = "adain"
    blend: Blend = "gaussian"
    refine: Refine = "dense"
    confidence_exit: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError for what no model can be."""
        for name, least, most in (("scale", 1, 16), ("num_steps", 1, 256), ("confidence_exit", 0, 1)):
            if not least <= (value := getattr(self, name)) <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {value}")
        for name, known in (("sampler", SAMPLERS), ("schedule", SCHEDULES)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} is {value!r}, not one of {', '.join(sorted(known))}")

    @property
    def token_size(self) -> int:
        """Side of a token in output pixels."""
        return self.tokenizer.downsampling

    @property
    def fold(self) -> int:
        """Side of a token, and of a cell of the confidence map, in low-quality pixels."""
        return max(1, self.token_size // self.scale)


_REMOVED = {"groups": 1, "tokens": "residual", "token_fold": 2}
"""What headers of former versions hold, and the only value of it that still has a meaning."""
_KINDS = (VQGANConfig, ResidualTokenizerConfig, EncoderControlConfig, FeatureControlConfig)


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON types; members of a union carry their class name as ``kind``."""
    fields = {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    return {"kind": type(config).__name__, **fields} if isinstance(config, _KINDS) else fields


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return list(value) if isinstance(value, tuple) else value


def from_dict(data: dict[str, Any]) -> ModelConfig:
    """The config of :func:`to_dict`. Raises CheckpointError naming an unknown, missing or ill-typed entry."""
    return _build(ModelConfig, data, "config")


def _build(cls: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise CheckpointError(f"{where} should be a table, not {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}
    given = {k: v for k, v in data.items() if k != "kind" and (k not in _REMOVED or v != _REMOVED[k])}
    if unknown := sorted(set(given) - names):
        raise CheckpointError(f"{where} has entries this version does not know: {', '.join(unknown)}; update realsrt")
    values = {k: _value(hints[k], v, f"{where}.{k}") for k, v in given.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise CheckpointError(f"{where} is incomplete: {error}") from None
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        if value is None and type(None) in hint.__args__:
            return None
        choices = {c.__name__: c for c in hint.__args__ if c is not type(None)}
        kind = value.get("kind") if isinstance(value, dict) else None
        if len(choices) > 1 and not (isinstance(kind, str) and kind in choices):
            raise CheckpointError(f"{where}.kind is {shown(kind)}, not one of {', '.join(sorted(choices))}")
        return _build(choices[kind] if len(choices) > 1 else next(iter(choices.values())), value, where)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    origin = typing.get_origin(hint)
    if origin is Literal:
        if isinstance(value, list | dict) or value not in typing.get_args(hint):
            raise CheckpointError(f"{where} is {shown(value)}, not one of {', '.join(map(str, typing.get_args(hint)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list) or not all(isinstance(v, int) for v in value):
            raise CheckpointError(f"{where} should be a list of whole numbers")
        return tuple(value)
    expected = {float: (int, float), int: int, str: str, bool: bool}[hint]
    if not isinstance(value, expected) or (hint is int and isinstance(value, bool)):
        raise CheckpointError(f"{where} should be a {hint.__name__}, not {shown(value)}")
    return value


__all__ = [
    "ColorFix",
    "Blend",
    "ControlConfig",
    "EncoderControlConfig",
    "FeatureControlConfig",
    "ModelConfig",
    "QuantizerConfig",
    "Refine",
    "ResidualTokenizerConfig",
    "TokenizerConfig",
    "TransformerConfig",
    "TrunkConfig",
    "VQGANConfig",
    "from_dict",
    "to_dict",
]
