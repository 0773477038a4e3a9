"""Plans carried out on images.

Shape suffixes: B batch, C channels, H W pixels.
"""

import hashlib
import io
import random
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from realsrt.degradations.plans import REALESRGAN, BlurPlan, DegradationConfig, Mixture, NoisePlan, Plan, draw_plan
from realsrt.errors import UsageError, needs
from realsrt.imaging.blur import bell_kernels, filter_each, sinc_kernels
from realsrt.imaging.jpeg import jpeg_each
from realsrt.imaging.noise import add_noise
from realsrt.imaging.resize import resize_each
from realsrt.nn.device import exact_float32

P = TypeVar("P")


@torch.no_grad()
def degrade(
    gt_BCHW: Tensor, *, config: DegradationConfig | Mixture = REALESRGAN, rng: torch.Generator, scale: int = 4
) -> Tensor:
    """Low-quality inputs (B,3,H/scale,W/scale) for targets: RGB in [0,1], rounded to 8-bit levels, float32.

    gt: RGB in [0,1] on any device, sides multiples of `scale`, meant for 64 px and more. `rng` is a CPU generator, one
    number drawn from it for each sample; all else follows from that number, so a sample's result does not depend on its
    batch (on a CPU to the bit; on a GPU, where samples are blurred and compressed together, up to rounding). It does
    depend on the kind of device. Raises UsageError when a side is no multiple of `scale`.
    """
    return degrade_seeded(gt_BCHW, torch.randint(2**62, (len(gt_BCHW),), generator=rng).tolist(), config, scale)


@torch.no_grad()
def degrade_seeded(
    gt_BCHW: Tensor, seeds: Sequence[int], config: DegradationConfig | Mixture = REALESRGAN, scale: int = 4
) -> Tensor:
    """`degrade` with the number of each sample given. On a GPU the CPU only queues work and never waits for it."""
    batch, _, height, width = gt_BCHW.shape
    if height % scale or width % scale:
        raise UsageError(f"a target of {width}x{height} px cannot be divided by {scale}: crop it to a multiple")
    gt_BCHW, device = gt_BCHW.float(), gt_BCHW.device
    plans = [draw_plan(config, random.Random(seed)) for seed in seeds]
    rngs = [torch.Generator(device).manual_seed(seed) for seed in seeds]
    images = list(gt_BCHW.split(1))
    together = 1 if device.type == "cpu" else max(batch, 1)
    with torch.autocast(device.type, enabled=False), exact_float32(device):
        parts = [slice(i, i + together) for i in range(0, batch, together)]
        return torch.cat([lq for part in parts for lq in run_plans(images[part], plans[part], rngs[part], scale)])


def run_plans(images: list[Tensor], plans: list[Plan], rngs: list[torch.Generator], scale: int) -> list[Tensor]:
    """Every plan on its (1,3,H,W) image; sizes drift apart on the way and meet again at the end."""
    images, samples = images.copy(), range(len(images))
    low_sizes = [(image.shape[2] // scale, image.shape[3] // scale) for image in images]
    antialias = [plan.antialias for plan in plans]
    last_quality = [plan.orders[-1].quality if plan.orders else None for plan in plans]
    for number in range(max((len(plan.orders) for plan in plans), default=0)):
        orders = [plan.orders[number] if number < len(plan.orders) else None for plan in plans]
        is_last = [number + 1 == len(plan.orders) for plan in plans]
        images = _blur(images, [order.blur if order else None for order in orders])
        sizes, modes = [], []
        for i, order in enumerate(orders):
            height, width = low_sizes[i] if is_last[i] else images[i].shape[2:]
            factor = order.factor if order else 1.0
            size = (max(1, int(height * factor)), max(1, int(width * factor)))
            sizes.append(size if order else tuple(images[i].shape[2:]))
            modes.append(order.filter if order else "area")
        images = resize_each(images, sizes, modes, antialias)
        noises = [order.noise if order else None for order in orders]
        drawn = [(noise, rng) if noise else None for noise, rng in zip(noises, rngs, strict=True)]
        images = _changed(images, drawn, _noisy)
        images = _compress(
            images, [order.quality if order and not last else None for order, last in zip(orders, is_last, strict=True)]
        )
    images = _compress(images, [last_quality[i] if plans[i].jpeg_first else None for i in samples])
    images = resize_each(images, low_sizes, [plan.final_filter for plan in plans], antialias)
    images = _blur(images, [plan.final_sinc for plan in plans])
    images = _compress(images, [None if plans[i].jpeg_first else last_quality[i] for i in samples])
    return [(image.clamp(0, 1) * 255.0).round() / 255.0 for image in images]


def _changed(
    images: list[Tensor], plans: Sequence[P | None], change: Callable[[list[Tensor], list[P]], list[Tensor]]
) -> list[Tensor]:
    """The images, and in place of those that have a plan what `change` makes of them."""
    chosen, images = {i: plan for i, plan in enumerate(plans) if plan is not None}, images.copy()
    if chosen:
        changed = change([images[i] for i in chosen], list(chosen.values()))
        for i, image in zip(chosen, changed, strict=True):
            images[i] = image
    return images


def _blur(images: list[Tensor], blurs: Sequence[BlurPlan | None]) -> list[Tensor]:
    return _changed(images, blurs, lambda some, own: filter_each(some, make_kernels(own)))


def make_kernels(blurs: Sequence[BlurPlan]) -> Tensor:
    """Kernels (n,21,21) on the CPU, in double precision."""

    def column(name: str) -> Tensor:
        return torch.tensor([getattr(blur, name) for blur in blurs], dtype=torch.float64)

    plateau = torch.tensor([blur.kind.startswith("plateau") for blur in blurs])
    bells = bell_kernels(column("size"), column("sigma_x"), column("sigma_y"), column("angle"), column("beta"), plateau)
    is_sinc = torch.tensor([blur.kind == "sinc" for blur in blurs]).view(-1, 1, 1)
    return torch.where(is_sinc, sinc_kernels(column("size"), column("cutoff")), bells)


def _noisy(images: list[Tensor], plans: Sequence[tuple[NoisePlan, torch.Generator]]) -> list[Tensor]:
    noises, rngs = zip(*plans, strict=True)
    poisson = [noise.kind == "poisson" for noise in noises]
    return add_noise(images, poisson, [n.strength for n in noises], [n.gray for n in noises], rngs)


def _compress(images: list[Tensor], qualities: Sequence[float | None]) -> list[Tensor]:
    jpeg = pillow_jpeg if images[0].device.type == "cpu" else jpeg_each
    return _changed(images, qualities, jpeg)


def pillow_jpeg(images: Iterable[Tensor], qualities: Iterable[float]) -> list[Tensor]:
    """Save and reopen images (1,3,H,W) on the CPU as real JPEG in memory, quality rounded.

    Result on 8-bit levels in [0,1]. Raises UsageError when Pillow is not installed.
    """
    with needs("train", "JPEG degradation on the CPU"):
        from PIL import Image
    decoded = []
    for image, quality in zip(images, qualities, strict=True):
        pixels_HWC = (image[0].clamp(0, 1) * 255.0).round().byte().permute(1, 2, 0).contiguous().numpy()
        file = io.BytesIO()
        Image.fromarray(pixels_HWC).save(file, "JPEG", quality=round(quality), subsampling="4:2:0")
        levels_HWC = torch.from_numpy(np.array(Image.open(file)))
        decoded.append(levels_HWC.permute(2, 0, 1).unsqueeze(0).to(image.dtype).contiguous() / 255.0)
    return decoded


def named_rng(seed: int, name: str) -> torch.Generator:
    """The random numbers of one file: decided by the seed and the name alone."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def degrade_named(
    gt_HWC: Tensor, name: str, *, config: DegradationConfig | Mixture, seed: int = 0, scale: int = 4
) -> Tensor:
    """The low-quality image of a target (H,W,3) in [0,1] as uint8, (H // scale, W // scale, 3), by name and seed.

    Rows and columns beyond a multiple of `scale` are left out. `name` is the path below its folder, without extension.
    Raises ValueError for a side below `scale`.

    >>> from realsrt.degradations import LIGHT
    >>> degrade_named(torch.rand(70, 96, 3), "holiday/beach", config=LIGHT).shape
    torch.Size([17, 24, 3])
    """
    height, width = (side // scale * scale for side in gt_HWC.shape[:2])
    if not (height and width):
        raise ValueError(f"{gt_HWC.shape[1]}x{gt_HWC.shape[0]} is too small to shrink {scale} times")
    gt_BCHW = gt_HWC[:height, :width].permute(2, 0, 1)[None].contiguous()
    lq_BCHW = degrade(gt_BCHW, config=config, rng=named_rng(seed, name), scale=scale)
    return (lq_BCHW[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
