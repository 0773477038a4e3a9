"""The old name of `realsrt.inference`, kept for one version."""

from realsrt.inference.result import Upscaled
from realsrt.inference.upscaler import Upscaler

__all__ = ["Upscaled", "Upscaler"]
