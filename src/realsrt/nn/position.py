"""Positions on a square token grid.

Shapes: N = h*w tokens in raster order, D channels, d channels of one attention head.
"""

import torch
from torch import Tensor


def sincos_2d(height: int, width: int, dim: int) -> Tensor:
    """Fixed 2-D sine-cosine table (h*w, dim), float32, as in MAE.

    The first half of the channels encodes the column, the second half the row; within a half the sines come first.
    Raises ValueError unless ``dim`` is a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"sincos_2d needs a multiple of 4 channels, not {dim}")
    frequency = 1.0 / 10000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))

    def axis(position: Tensor) -> Tensor:
        angle = position[:, None] * frequency[None]
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    row, column = _places(height, width)
    return torch.cat([axis(column), axis(row)], dim=1).float()


def rope_2d(height: int, width: int, head_dim: int, *, longest: float = 64.0) -> Tensor:
    """Rotation angles (h*w, head_dim/2) for :func:`rotate`: half of the channel pairs turn with the row, half with
    the column, at wavelengths spaced geometrically from 2 tokens to ``longest`` tokens (RoPE on two axes).

    Raises ValueError unless ``head_dim`` is a multiple of 4.
    """
    if head_dim % 4:
        raise ValueError(f"rope_2d needs heads of a multiple of 4 channels, not {head_dim}")
    pairs = head_dim // 4
    exponent = torch.arange(pairs, dtype=torch.float64) / max(pairs - 1, 1)
    frequency = torch.pi * (2.0 / longest) ** exponent
    return torch.cat([place[:, None] * frequency for place in _places(height, width)], dim=1).float()


def _places(height: int, width: int) -> list[Tensor]:
    """The row and the column of each position, (h*w,) float64."""
    return list(torch.cartesian_prod(torch.arange(height).double(), torch.arange(width).double()).T)


def rotate(x_BHNd: Tensor, angles_Nd: Tensor) -> Tensor:
    """Turn channel pairs (i, i + d/2) of ``x`` by ``angles`` (N, d/2); norms and relative phases are kept."""
    cos, sin = angles_Nd.cos().to(x_BHNd.dtype), angles_Nd.sin().to(x_BHNd.dtype)
    first, second = x_BHNd.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
