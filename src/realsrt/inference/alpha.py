"""Transparency through the pipeline: enlarged by a resampler, or by the model as a gray image of its own.

The colour under transparent pixels is `imaging.color.fill_transparent`'s business. Legend: C channels, H W image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from realsrt.imaging.color import fill_transparent
from realsrt.inference.adapters import Pixels, Planes

_FLAT = 1e-4  # how near to 0 or 1 alpha must be, and all around it, to be left as it is
_AROUND = 9  # output pixels


@dataclass(frozen=True)
class ModelInput:
    """One image as the model sees it: `colour`, with its transparency filled, and `alpha` as a gray image of its own
    where the model is to enlarge that too."""

    colour: Planes | Pixels
    alpha: Planes | None = None

    @property
    def sources(self) -> list[Planes | Pixels]:
        """What goes through the model."""
        return [self.colour] if self.alpha is None else [self.colour, self.alpha]


def as_inputs(images: Sequence[Planes | Pixels], alpha: str) -> list[ModelInput]:
    """What the model is to see of images of one size; `alpha` is "model" or "lanczos"."""
    planes = [image.alpha for image in images if image.alpha is not None]
    enlarge = alpha == "model" and not all(bool((plane == plane.flatten()[0]).all()) for plane in planes)
    return [_as_input(image, enlarge) for image in images]  # a plain alpha stays plain


def _as_input(image: Planes | Pixels, enlarge_alpha: bool) -> ModelInput:
    if isinstance(image, Pixels) or image.alpha is None:
        return ModelInput(image)
    colour = replace(image, rgb=fill_transparent(image.rgb, image.alpha[0]))
    return ModelInput(colour, Planes(image.alpha.expand(3, -1, -1)) if enlarge_alpha else None)


def merged(colour: Planes, made: Planes) -> Planes:
    """The colour with the alpha that the model made, but for places where the resampled alpha of `colour` is all opaque
    or all clear: these stay so."""
    plain = colour.alpha
    assert plain is not None
    opaque = -F.max_pool2d(-plain, _AROUND, 1, _AROUND // 2) > 1 - _FLAT
    clear = F.max_pool2d(plain, _AROUND, 1, _AROUND // 2) < _FLAT
    return replace(colour, alpha=torch.where(opaque | clear, plain, made.rgb.mean(0, keepdim=True)))
