"""What comes out for one input, and what it was made of."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from realsrt.config import ModelConfig
from realsrt.inference.adapters import to_picture
from realsrt.inference.request import UpscaleRequest
from realsrt.io.metadata.provenance import Restored

_SCREEN = 1600  # pixels a side, at most, of what a notebook shows


@dataclass(frozen=True)
class Origin:
    """What a result was made of: enough to go on from it. Not pickled: the result's copy elsewhere has None."""

    job: UpscaleRequest
    config: ModelConfig

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class Change(NamedTuple):
    """How much more than an image's own the trunk's denoising strength and share (crispness) are in a region."""

    denoise: float
    share: float


@dataclass(frozen=True, repr=False)
class Upscaled:
    """What comes out for one input.

    image: the kind that went in (a path gives an imageio.Picture). confidence: float32 in [0,1] on the output's grid of
    8-px cells, (ceil(H/8), ceil(W/8)); None if not asked for. ids: the tokens, (windows, h, w) int32 in the
    order of the tile plan. Both have a leading batch axis if a tensor went in, and are None after 0 steps. step: of
    num_steps, from 1. steps: the image after every step, the last included, if they were kept. window_steps: how many
    steps each window has taken, (windows,); fewer than `step` where it left early. restored: how the trunk restored
    each image; empty without a trunk. origin: what `regenerate` needs to go on, None where rows were streamed. Of
    `regenerate` only: score, the mean confidence in the region; temperature, as drawn; change, what is not the image's
    own in the region; candidates, all of them, best first.
    """

    image: Any
    confidence: np.ndarray | None
    ids: np.ndarray | None
    step: int
    num_steps: int
    steps: tuple[Upscaled, ...] = ()
    window_steps: np.ndarray | None = None
    restored: tuple[Restored, ...] = ()
    origin: Origin | None = field(default=None, repr=False, compare=False)
    score: float | None = None
    temperature: float | None = None
    change: Change | None = None
    candidates: tuple[Upscaled, ...] = field(default=(), repr=False)

    def save(self, path: str | os.PathLike[str], *, quality: int | None = None) -> tuple[str, ...]:
        """Write the image in the format of the suffix, with the metadata that it has.

        Args:
            path: Where to.
            quality: 1 to 100, for the lossy formats.

        Returns:
            Notices of one line each on what the format could not hold.

        Raises:
            ImageError: It cannot be written, or there are several: a tensor of a batch.
            UsageError: For another quality.
        """
        from realsrt.io import image as imageio

        return imageio.write(path, to_picture(self.image), quality=quality)

    def __repr__(self) -> str:
        shape = getattr(self.image, "shape", None)
        size = (
            "x".join(map(str, shape))
            if shape
            else ""
            if self.image is None
            else f"{self.image.width}x{self.image.height}"
        )
        kind = "rows given away" if self.image is None else f"{type(self.image).__name__} {size}"
        sure = "" if self.confidence is None else f", confidence {float(self.confidence.mean()):.2f}"
        return f"Upscaled({kind}, step {self.step} of {self.num_steps}{sure})"

    def _repr_png_(self) -> bytes | None:
        """For notebooks: the image, within 1600x1600 pixels; nothing for a batch of several."""
        if self.image is None or (getattr(self.image, "ndim", 0) == 4 and len(self.image) > 1):
            return None
        from realsrt.io import preview

        return preview.png(to_picture(self.image), _SCREEN)
