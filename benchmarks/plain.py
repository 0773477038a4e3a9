"""The schedule of the paper's code, written out for comparison: nothing is kept that could be computed again.

The condition stream and its keys and values are worked out in every call of generator and critic; the critic runs after
the last step too; attention is written out with the whole matrix of weights; windows overlap by half, each is decoded,
corrected by AdaIN and blended on a canvas of the image's size; float32, eager, one window at a time. The networks
are ours, so weights and numbers are the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.imaging import tiling
from realsrt.imaging.color import adain
from realsrt.inference.adapters import Planes
from realsrt.inference.runner import Runner, WindowSettings
from realsrt.model import RealSRT
from realsrt.models.guide import Guide
from realsrt.sampling.schedules import SCHEDULES, masked_count


@contextmanager
def written_out_attention() -> Iterator[None]:
    """Attention as einsum, softmax, einsum."""

    def attention(query: Tensor, key: Tensor, value: Tensor, scale: float | None = None) -> Tensor:
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        weights = (torch.einsum("bhid,bhjd->bhij", query, key) * scale).softmax(dim=-1)
        return torch.einsum("bhij,bhjd->bhid", weights, value)

    fused, F.scaled_dot_product_attention = F.scaled_dot_product_attention, attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = fused


def window_ids(model: RealSRT, guide: Guide, num_steps: int) -> tuple[Tensor, Tensor]:
    """Ids (B, N) of one window and the confidence after the last step."""
    lq_BCHW = guide.lq
    side = lq_BCHW.shape[-1] // model.config.fold
    ids_BN = torch.full((len(lq_BCHW), side * side), model.config.generator.codes)
    mask_BN = torch.ones_like(ids_BN, dtype=torch.bool)
    confidence_BN = torch.zeros(ids_BN.shape)
    for t in range(num_steps):
        logits_BNV = model.generator(ids_BN, model.condition(model.generator.backbone, guide), mask_BN)
        ids_BN = torch.where(mask_BN, logits_BNV.argmax(-1), ids_BN)
        confidence_BN = model.critic(ids_BN, model.condition(model.critic.backbone, guide))
        count = masked_count(SCHEDULES[model.config.schedule], ids_BN.shape[1], t + 1, num_steps)
        order = confidence_BN.argsort(dim=1, stable=True)[:, :count]
        mask_BN = torch.zeros_like(mask_BN).scatter_(1, order, True)
    return ids_BN, confidence_BN


@torch.inference_mode()
def upscale(model: RealSRT, lq_CHW: Tensor, *, num_steps: int, stride: int = 32) -> tuple[Tensor, Tensor]:
    """An image (3,H,W) in [0,1] → (3,4H,4W) and the ids (windows, N)."""
    _, height, width = lq_CHW.shape
    window, scale = model.config.window, model.config.scale
    tiles = tiling.plan(height, width, window, stride)
    settings = WindowSettings(num_steps)
    view = Runner(model, torch.device("cpu"), torch.float32).view(Planes(lq_CHW), tiles, settings)
    padded = tiles.top + height + tiles.bottom, tiles.left + width + tiles.right
    canvas = torch.zeros(3, padded[0] * scale, padded[1] * scale)
    weights = torch.zeros_like(canvas)
    one = tiling.gaussian_weight(window * scale)
    weight = (one[:, None] * one[None]).expand(3, -1, -1)
    ids = []
    with written_out_attention():
        for index in range(len(tiles)):
            y, x = tiles.position(index)
            windows = view.window(tiles, index)
            guide = model.guide(windows.lq, windows.ground)
            tokens, _ = window_ids(model, guide, num_steps)
            image = adain(model.decode(tokens, guide), windows.lq)[0]
            at = (slice(None), slice(y * scale, (y + window) * scale), slice(x * scale, (x + window) * scale))
            canvas[at] += image * weight
            weights[at] += weight
            ids.append(tokens[0])
    whole = canvas / weights
    top, left = tiles.top * scale, tiles.left * scale
    return whole[:, top : top + height * scale, left : left + width * scale].clamp(0, 1), torch.stack(ids)
