"""Distances of a restored image to the original, and an interval for their mean.

Shape suffixes: B batch, C channels, H W pixels. Images are RGB in [0,1].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from realsrt.errors import needs
from realsrt.imaging.luma import BT601


def luma(x_BCHW: Tensor) -> Tensor:
    """BT.601 luma with studio swing, (B,1,H,W) in [16/255, 235/255]: what the field means by "the Y channel"."""
    weight = x_BCHW.new_tensor([219 * weight for weight in BT601]).view(3, 1, 1)
    return ((x_BCHW * weight).sum(1, keepdim=True) + 16.0) / 255.0


def psnr(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Peak signal-to-noise ratio per sample, (B,) dB in float64, inf when equal; x is clamped to [0,1].

    Raises ValueError when shapes differ.

    >>> psnr(torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 8, 8), 0.6)).round(decimals=2)
    tensor([20.], dtype=torch.float64)
    """
    x_BCHW = _clamped(x_BCHW, y_BCHW)
    return _psnr(x_BCHW.double(), y_BCHW.double())


def psnr_y(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """`psnr` of the BT.601 lumas, peak 1 although luma spans less, as the field does."""
    return _psnr(luma(_clamped(x_BCHW, y_BCHW).double()), luma(y_BCHW.double()))


def ssim(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Structural similarity per sample, (B,), 1 when equal: Gaussian window of sigma 1.5, mean over RGB (torchmetrics).

    x is clamped to [0,1]. Raises UsageError when torchmetrics is not installed.
    """
    with needs("metrics", "SSIM"):
        from torchmetrics.functional.image import structural_similarity_index_measure
    x_BCHW = _clamped(x_BCHW, y_BCHW)
    value = structural_similarity_index_measure(x_BCHW.float(), y_BCHW.float(), data_range=1.0, reduction="none")
    assert isinstance(value, Tensor)
    return value


def ms_ssim(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Multi-scale structural similarity per sample, (B,), 1 when equal: five scales, mean over RGB (torchmetrics).

    Wang, Simoncelli, Bovik, Asilomar 2003. x is clamped to [0,1]. Raises ValueError for a side below 176 px,
    UsageError when torchmetrics is not installed.
    """
    with needs("metrics", "MS-SSIM"):
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure
    x_BCHW = _clamped(x_BCHW, y_BCHW)
    if min(x_BCHW.shape[2:]) < 176:  # a sixteenth of it must hold the 11-px window
        raise ValueError(f"MS-SSIM needs sides of 176 px or more, not {x_BCHW.shape[3]}x{x_BCHW.shape[2]}")
    value = multiscale_structural_similarity_index_measure(
        x_BCHW.float(), y_BCHW.float(), data_range=1.0, reduction="none"
    )
    assert isinstance(value, Tensor)
    return value


def bootstrap_interval(
    values: Sequence[float] | Tensor, seed: int, *, level: float = 0.95, resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the mean; same seed, same interval.

    To compare two methods give the differences image by image. Raises ValueError for no values.
    """
    values_N = torch.as_tensor(values, dtype=torch.float64, device="cpu").flatten()
    if not values_N.numel():
        raise ValueError("no values to resample")
    rng = torch.Generator().manual_seed(seed)
    picks = torch.randint(values_N.numel(), (resamples, values_N.numel()), generator=rng)
    means = values_N[picks].mean(1)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(means, tails).tolist()
    return low, high


def largest_gap(confidence_N: Tensor, rank_N: Tensor) -> float:
    """Of a reliability curve: the largest difference of mean confidence and mean rank, both (N,) in [0,1], in ten
    equally filled bins of confidence."""
    bins = confidence_N.argsort(stable=True).tensor_split(10)
    return max(abs(float(confidence_N[part].mean() - rank_N[part].mean())) for part in bins)


def _clamped(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    if x_BCHW.shape != y_BCHW.shape:
        raise ValueError(f"shapes differ: {tuple(x_BCHW.shape)} and {tuple(y_BCHW.shape)}")
    return x_BCHW.clamp(0, 1)


def _psnr(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    return -10 * torch.log10((x_BCHW - y_BCHW).square().mean((1, 2, 3)))
