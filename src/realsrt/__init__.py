"""RealSRT: real-world x4 super-resolution by confidence-based iterative generation.

import realsrt
out = realsrt.Upscaler.from_pretrained("small").upscale("photo.jpg")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from realsrt.version import __version__

_LAZY = {
    "Upscaler": "realsrt.inference.upscaler",
    "Upscaled": "realsrt.inference.result",
    "load_model": "realsrt.checkpoint",
    "save_model": "realsrt.checkpoint",
    "push_to_hub": "realsrt.checkpoint",
    "RealSRT": "realsrt.checkpoint",  # which gives it from_pretrained and push_to_hub
    "SuperResolved": "realsrt.model",
    "presets": "realsrt",
    "RealSRTError": "realsrt.errors",
    "ImageError": "realsrt.errors",
    "CheckpointError": "realsrt.errors",
    "UsageError": "realsrt.errors",
}

__all__ = ["__version__", *_LAZY]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from realsrt import presets
    from realsrt.checkpoint import load_model, push_to_hub, save_model
    from realsrt.errors import CheckpointError, ImageError, RealSRTError, UsageError
    from realsrt.inference.result import Upscaled
    from realsrt.inference.upscaler import Upscaler
    from realsrt.model import RealSRT, SuperResolved


def __getattr__(name: str) -> Any:
    if name == "presets":
        return import_module("realsrt.presets")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'realsrt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
