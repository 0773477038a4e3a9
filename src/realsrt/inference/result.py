"""What comes out for one input, and what it was made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from realsrt.config import ModelConfig
from realsrt.inference.request import UpscaleRequest


@dataclass(frozen=True)
class Origin:
    """What a result was made of: enough to go on from it. Not pickled: the result's copy elsewhere has None."""

    job: UpscaleRequest
    config: ModelConfig

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


@dataclass(frozen=True)
class Upscaled:
    """What comes out for one input.

    image: the kind that went in (a path gives an imageio.Picture). confidence: float32 in [0,1] on the output's grid of
    8-px cells, (ceil(H/8), ceil(W/8)); None if not asked for. ids: the tokens, (windows, h, w) int32 in the
    order of the tile plan. Both have a leading batch axis if a tensor went in, and are None after 0 steps. step: of
    num_steps, from 1. steps: the image after every step, the last included, if they were kept. window_steps: how many
    steps each window has taken, (windows,); fewer than `step` where it left early. origin: what `regenerate` needs to
    go on, None where rows were streamed. Of `regenerate` only: score, the mean confidence in the region; temperature,
    as drawn; candidates, all of them, best first.
    """

    image: Any
    confidence: np.ndarray | None
    ids: np.ndarray | None
    step: int
    num_steps: int
    steps: tuple[Upscaled, ...] = ()
    window_steps: np.ndarray | None = None
    origin: Origin | None = field(default=None, repr=False, compare=False)
    score: float | None = None
    temperature: float | None = None
    candidates: tuple[Upscaled, ...] = field(default=(), repr=False)
