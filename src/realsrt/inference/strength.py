"""Strength: how much of the result shows over the plain enlargement of the input.

The result is rounded to its own kind of numbers first, so a finished picture gives the same bytes later (`weaken`) as
when it is upscaled with that strength at once.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from realsrt.imaging.resize import Taps, resize
from realsrt.inference import adapters
from realsrt.inference.adapters import Pixels, Planes
from realsrt.inference.request import UpscaleRequest
from realsrt.inference.result import Upscaled


class PlainEnlargement:
    """An input resampled to (height, width) by bicubic, widened when shrinking; any rows of it."""

    def __init__(self, source: Planes | Pixels, out_hw: tuple[int, int]) -> None:
        self._source, self._width = source, out_hw[1]
        height, width = source.hw
        self._columns = torch.arange(width)
        self._taps = None if height == out_hw[0] else Taps(height, out_hw[0], "bicubic")

    @torch.inference_mode()
    def rows(self, first: int, stop: int) -> Tensor:
        """Rows first…stop−1, (3,h,width) in [0,1]."""
        if self._taps is None:
            low = self._source.pick(torch.arange(first, stop), self._columns)
        else:
            top, bottom = self._taps.needs(first, stop)
            part = self._source.pick(torch.arange(top, bottom), self._columns)
            low = self._taps.along(part, 1, first, stop, offset=top)
        return resize(low[None], (low.shape[1], self._width), "bicubic", antialias=True)[0].clamp(0, 1)


class Weakening:
    """Lays the finished pictures of a request over the plain enlargement of its inputs, at the request's strength."""

    def __init__(self, job: UpscaleRequest) -> None:
        self._job = job
        self._plain = [PlainEnlargement(own.colour, job.out_hw) for own in job.inputs]

    def rows(self, first: int, planes: Planes) -> Planes:
        """Finished rows of a single picture, from row `first` on."""
        rounded, _ = adapters.to_planes(self._job.pack([planes]))
        return self._over(0, first, rounded[0])

    def image(self, image: Any) -> Any:
        """A finished picture, of the kind that `Upscaled.image` is."""
        found, _ = adapters.to_planes(image)
        return self._job.pack([self._over(number, 0, planes) for number, planes in enumerate(found)])

    @torch.inference_mode()
    def _over(self, number: int, first: int, planes: Planes | Pixels) -> Planes:
        height, width = planes.hw
        rgb = planes.pick(torch.arange(height), torch.arange(width))
        plain = self._plain[number].rows(first, first + height)
        return Planes(torch.lerp(plain, rgb, self._job.strength), planes.alpha)


def weaken(result: Upscaled, strength: float) -> Upscaled:
    """A finished result of strength 1, as it would be with `strength`: no model computes."""
    assert result.origin is not None
    job = replace(result.origin.job, strength=strength)
    return replace(result, image=Weakening(job).image(result.image)) if strength < 1 else result
