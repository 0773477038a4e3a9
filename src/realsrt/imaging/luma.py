"""Brightness by ITU-R BT.601. Free of torch, as files are read by it too."""

from typing import Any

BT601 = (0.299, 0.587, 0.114)


def luma_of(red: Any, green: Any, blue: Any) -> Any:
    """The luma of three channels, arrays or tensors of gamma-encoded values, same range; equal channels give back their
    value to the last bit, as it is written around green."""
    return green + BT601[0] * (red - green) + BT601[2] * (blue - green)
