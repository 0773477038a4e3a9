"""NIQE, naturalness of an image without a reference: Mittal, Soundararajan, Bovik, IEEE SPL 20(3), 2013.

Statistics of locally normalised luma in blocks, at two scales, against those of pristine photographs. Lower is better.
Shape suffixes: B batch, C channels, H W pixels, K blocks, N pixels of a block, F features (36).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.evaluation.metrics import luma

BLOCK = 96
FEATURES = 36
SHARP = 0.75
"""Blocks of pristine images count when at least this share as sharp as their image's sharpest (section II.B)."""

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True)
class NiqeModel:
    """Mean (F,) and covariance (F,F) of pristine blocks, and the window (k,k) of the local normalisation; float64."""

    mean_F: Tensor
    covariance_FF: Tensor
    window: Tensor


def gaussian_window() -> Tensor:
    """The usual 7x7 window of sigma 7/6, summing to 1."""
    line = torch.exp(-(torch.arange(-3.0, 4.0, dtype=torch.float64) ** 2) / (2 * (7 / 6) ** 2))
    window = torch.outer(line, line)
    return window / window.sum()


def fit(images: Iterable[Tensor]) -> NiqeModel:
    """The model of pristine images, each (1,3,H,W) RGB in [0,1] with sides of 96 px or more, sharp blocks only.

    Raises ValueError when there are fewer than 37 such blocks in all: too few for a covariance of 36 features.
    """
    window, kept = gaussian_window(), []
    for image_BCHW in images:
        for image_CHW in image_BCHW:
            features_KF, sharpness_K = block_features(image_CHW, window)
            whole_K = features_KF.isfinite().all(1) & (sharpness_K >= SHARP * sharpness_K.max())
            kept.append(features_KF[whole_K])
    features_KF = torch.cat(kept) if kept else torch.zeros(0, FEATURES, dtype=torch.float64)
    if len(features_KF) <= FEATURES:
        raise ValueError(
            f"{len(features_KF)} sharp blocks of {BLOCK}x{BLOCK} px are too few, {FEATURES + 1} are needed"
        )
    return NiqeModel(features_KF.mean(0), torch.cov(features_KF.T), window)


def niqe(image_BCHW: Tensor, model: NiqeModel) -> Tensor:
    """Distance from the pristine model per sample, (B,) float64, 0 or more, lower is better; RGB, clamped to [0,1].

    Whole blocks of 96 px only, so up to 95 px at the right and bottom have no part in it. Raises ValueError for a
    image with fewer than two blocks that have texture.
    """
    scores = []
    for image_CHW in image_BCHW:
        features_KF, _ = block_features(image_CHW, model.window)
        whole_KF = features_KF[features_KF.isfinite().all(1)]
        if len(whole_KF) < 2:
            raise ValueError(f"NIQE needs two blocks of {BLOCK}x{BLOCK} px with texture in them, there is less")
        gap_F = model.mean_F - features_KF.nanmean(0)
        pooled_FF = (model.covariance_FF + torch.cov(whole_KF.T)) / 2
        scores.append((gap_F @ torch.linalg.pinv(pooled_FF, hermitian=True) @ gap_F).clamp(min=0).sqrt())
    return torch.stack(scores)


def block_features(image_CHW: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """Features (K,36) of each 96-px block, NaN where it is flat, and its sharpness (K,), the mean local deviation.

    Luma is BT.601 with studio swing in 0…255, rounded. The second scale is the first one halved by bicubic.
    """
    height, width = (side // BLOCK * BLOCK for side in image_CHW.shape[1:])
    if not (height and width):
        raise ValueError(f"{image_CHW.shape[2]}x{image_CHW.shape[1]} px is too small for NIQE's {BLOCK}-px blocks")
    image_BCHW = image_CHW[None, :, :height, :width].double().cpu().clamp(0, 1)
    gray_BCHW = (luma(image_BCHW) * 255).round()
    parts, sharpness_K = [], torch.empty(0)
    for block in (BLOCK, BLOCK // 2):
        normal_BCHW, deviation_BCHW = _normalised(gray_BCHW, window)
        if block == BLOCK:
            sharpness_K = _blocks(deviation_BCHW[0, 0], block).mean((1, 2))
        parts.append(_statistics(_blocks(normal_BCHW[0, 0], block)))
        gray_BCHW = F.interpolate(gray_BCHW, scale_factor=0.5, mode="bicubic", antialias=True)
    return torch.cat(parts, dim=1), sharpness_K


def _normalised(gray_BCHW: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """(x - local mean) / (local deviation + 1), and the local deviation; borders are repeated (equations 1 to 3)."""
    reach = window.shape[0] // 2
    weight = window.to(gray_BCHW)[None, None]

    def local_mean(x_BCHW: Tensor) -> Tensor:
        return F.conv2d(F.pad(x_BCHW, (reach,) * 4, mode="replicate"), weight)

    mean_BCHW = local_mean(gray_BCHW)
    deviation_BCHW = (local_mean(gray_BCHW.square()) - mean_BCHW.square()).abs().sqrt()
    return (gray_BCHW - mean_BCHW) / (deviation_BCHW + 1), deviation_BCHW


def _blocks(x_HW: Tensor, side: int) -> Tensor:
    height, width = x_HW.shape
    return x_HW.view(height // side, side, width // side, side).transpose(1, 2).reshape(-1, side, side)


def _statistics(block_KHW: Tensor) -> Tensor:
    """18 features a block: shape and width of its values; shape, mean, left and right width of neighbours' products."""
    shape_K, left_K, right_K = _asymmetric_gaussian(block_KHW.flatten(1))
    columns = [shape_K, (left_K + right_K) / 2]
    for shift in _NEIGHBOURS:
        product_KN = (block_KHW * torch.roll(block_KHW, shift, dims=(1, 2))).flatten(1)
        shape_K, left_K, right_K = _asymmetric_gaussian(product_KN)
        mean_K = (right_K - left_K) * torch.exp(torch.lgamma(2 / shape_K) - torch.lgamma(1 / shape_K))
        columns += [shape_K, mean_K, left_K, right_K]
    return torch.stack(columns, dim=1)


def _asymmetric_gaussian(x_KN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shape, left and right width (K,) of the asymmetric generalised Gaussian, by moments (Lasmar et al., ICIP 2009).

    The shape is the best of 0.2, 0.201 … 10.
    """
    squared_KN, negative_KN, positive_KN = x_KN.square(), x_KN < 0, x_KN > 0
    left_K = ((squared_KN * negative_KN).sum(1) / negative_KN.sum(1)).sqrt()
    right_K = ((squared_KN * positive_KN).sum(1) / positive_KN.sum(1)).sqrt()
    ratio_K = left_K / right_K
    moment_K = x_KN.abs().mean(1).square() / squared_KN.mean(1)
    wanted_K = moment_K * (ratio_K**3 + 1) * (ratio_K + 1) / (ratio_K.square() + 1).square()
    shapes = torch.arange(200, 10_001, dtype=torch.float64) / 1000
    moments = torch.exp(2 * torch.lgamma(2 / shapes) - torch.lgamma(1 / shapes) - torch.lgamma(3 / shapes))
    after_K = torch.searchsorted(moments, wanted_K.nan_to_num()).clamp(1, len(shapes) - 1)  # moments rise with shape
    nearer_K = (wanted_K - moments[after_K - 1]) < (moments[after_K] - wanted_K)
    shape_K = shapes[after_K - nearer_K.long()]
    shape_K = torch.where(wanted_K.isfinite(), shape_K, torch.nan)
    scale_K = torch.exp((torch.lgamma(1 / shape_K) - torch.lgamma(3 / shape_K)) / 2)
    return shape_K, left_K * scale_K, right_K * scale_K
