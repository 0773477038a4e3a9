"""Regions of an image: what a caller may give, as a mask of output pixels; and how a region's edge is feathered."""

import numbers
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.errors import UsageError

CELL = 8  # output pixels a side of a cell of the confidence map


def pixel_mask(region: Any, hw: tuple[int, int], confidence: np.ndarray | None) -> Tensor:
    """A region of an image of `hw` = (height, width) as a mask (H,W), True inside.

    `region`: a box (x0,y0,x1,y1) of whole pixels, ends exclusive; a bool array (H,W); or a number in (0,1): the
    cells of the `confidence` map, (ceil(H/8), ceil(W/8)), that are below it. Raises UsageError if it is empty
    or does not fit.
    """
    if isinstance(region, numbers.Real) and not isinstance(region, bool | np.bool_):
        return _below(float(region), hw, confidence)
    try:
        array = np.asarray(region)
    except (ValueError, TypeError) as error:
        raise UsageError(_what(region)) from error
    if array.dtype == bool and array.ndim == 2:
        if array.shape != hw:
            raise UsageError(
                f"the mask is {array.shape[1]}x{array.shape[0]}, the image {hw[1]}x{hw[0]}; give one of its size"
            )
        if not array.any():
            raise UsageError("the mask is empty: no pixel of it is True")
        return torch.from_numpy(array.copy())
    finite = array.shape == (4,) and array.dtype.kind in "iuf" and np.isfinite(array).all()
    if not finite or (array != np.floor(array)).any():
        raise UsageError(_what(region))
    x0, y0, x1, y1 = (int(side) for side in array.tolist())
    return _box(x0, y0, x1, y1, hw)


def _what(region: Any) -> str:
    kind = f"an array of {region.dtype} {region.shape}" if isinstance(region, np.ndarray) else repr(region)[:60]
    return f"a region is a box (x0, y0, x1, y1) in output pixels, a bool mask (H, W) or a number in (0, 1), not {kind}"


def _box(x0: int, y0: int, x1: int, y1: int, hw: tuple[int, int]) -> Tensor:
    said = f"the box {x0},{y0},{x1},{y1}"
    if x1 <= x0 or y1 <= y0:
        raise UsageError(f"{said} is empty; give x0,y0,x1,y1 with x0 < x1 and y0 < y1")
    if min(x0, y0) < 0 or x1 > hw[1] or y1 > hw[0]:
        raise UsageError(f"{said} is not inside the image of {hw[1]}x{hw[0]} output pixels")
    mask_HW = torch.zeros(hw, dtype=torch.bool)
    mask_HW[y0:y1, x0:x1] = True
    return mask_HW


def check_limit(limit: float) -> None:
    """Raises UsageError for a confidence that nothing, or everything, is below."""
    if not 0 < limit < 1:
        raise UsageError(f"a confidence to be below lies between 0 and 1, got {limit:g}")


def _below(limit: float, hw: tuple[int, int], confidence: np.ndarray | None) -> Tensor:
    check_limit(limit)
    if confidence is None:
        raise UsageError("this result has no confidence map: upscale with confidence=True, or give a box or a mask")
    cells = confidence < limit
    if not cells.any():
        raise UsageError(f"no place has a confidence below {limit:g}; the lowest is {float(confidence.min()):.3f}")
    return torch.from_numpy(cells.repeat(CELL, axis=0).repeat(CELL, axis=1)[: hw[0], : hw[1]].copy())


def shrunk(mask_HW: Tensor, hw: tuple[int, int]) -> Tensor:
    """A mask on a grid of another size: True where any pixel of it lies."""
    return F.adaptive_max_pool2d(mask_HW[None].float(), hw)[0] > 0


def cells(mask_HW: Tensor) -> Tensor:
    """The cells of the confidence map that a mask touches, (ceil(H/8), ceil(W/8))."""
    return F.max_pool2d(mask_HW[None].float(), CELL, CELL, ceil_mode=True)[0] > 0


def feather(mask_HW: Tensor, margin: int) -> tuple[tuple[slice, slice], Tensor]:
    """Where and how strongly the new image shows: rows and columns, and the weight there: 1 in the region, falling
    to 0 at `margin` pixels (rounded down to an even number, at least 2) outside it."""
    reach = max(1, margin // 2)
    rows, columns = (mask_HW.any(axis).nonzero()[:, 0] for axis in (1, 0))
    y, x = (
        slice(max(0, int(found[0]) - 3 * reach), min(side, int(found[-1]) + 1 + 3 * reach))
        for found, side in zip((rows, columns), mask_HW.shape, strict=True)
    )
    inside = mask_HW[y, x]
    weight = inside[None].float()
    for size in ((2 * reach + 1, 1), (1, 2 * reach + 1)):
        weight = F.max_pool2d(weight, size, 1, (size[0] // 2, size[1] // 2))
    for size in ((2 * reach + 1, 1), (1, 2 * reach + 1)):
        weight = F.avg_pool2d(weight, size, 1, (size[0] // 2, size[1] // 2), count_include_pad=False)
    return (y, x), torch.where(inside, 1.0, weight[0].clamp(0, 1))
