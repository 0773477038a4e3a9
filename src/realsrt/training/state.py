"""state.pt: everything a run needs to go on to the last bit, and the weight file written beside it."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realsrt.checkpoint import save_model
from realsrt.checkpoint.weights import write_torch
from realsrt.errors import CheckpointError, UsageError, first_line
from realsrt.model import RealSRT
from realsrt.training.config import TrainConfig, pair_source

_KEYS = ("preset", "step", "minutes", "model", "ema", "optimizer", "adversary", "adversary_optimizer")


def read_state(source: Path | bytes, stage: str, name: str = "") -> dict[str, Any]:
    """The state of an interrupted run, from a file or its content, which errors call ``name``.

    Raises CheckpointError if it is damaged, UsageError if it is another stage's.
    """
    path = name or source
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # torch raises nearly anything on damaged files
        raise CheckpointError(f"{path} is damaged and can't be resumed from; start again with --overwrite") from None
    kinds = {"step": int, "minutes": (int, float), "history": list}
    if (
        not isinstance(saved, dict)
        or any(key not in saved for key in _KEYS)
        or not all(isinstance(saved[key], kind) for key, kind in kinds.items() if key in saved)
    ):
        raise CheckpointError(f"{path} is not the state of a training run; start again with --overwrite")
    if saved.get("stage", stage) != stage:
        raise UsageError(f"{path} is of the {saved['stage']} stage, not {stage}: give each stage its own --out")
    return saved


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Atomically. Raises CheckpointError."""
    assert all(key in state for key in _KEYS)
    write_torch(path, state)


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Turn what a misfit raises into a UsageError."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = first_line(error)[:120].rstrip(":")
        raise UsageError(
            f"{path} does not fit these settings ({reason}): resume with those the run began with, or use another --out"
        ) from None


def write_weights(
    path: Path,
    model: RealSRT,
    average: Mapping[str, Tensor],
    config: TrainConfig,
    *,
    history: list[Any],
    steps: int,
    minutes: float,
) -> None:
    """The EMA weights; their provenance lists every stage with its settings, ``history`` before this one."""
    settings = {k: _plain(v) for k, v in asdict(config).items()}
    settings["pairs"] = [f"{path.name}={weight:g}" for path, weight in map(pair_source, config.pairs)]
    record = {"stage": config.stage, "steps": steps, "minutes": round(minutes, 2), "settings": settings}
    provenance = {**model.info.provenance, "stages": [*history, record]}
    state = {key: value for key, value in average.items() if key != "_updates"}
    save_model(model, path, provenance=provenance, state=state)


def _plain(value: Any) -> Any:
    """Settings as JSON, paths and URLs by their last name only."""
    if isinstance(value, Path) or "://" in str(value):
        return str(value).rstrip("/").rpartition("/")[2]
    return [_plain(v) for v in value] if isinstance(value, tuple) else value
