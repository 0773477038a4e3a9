"""Models that obey the contract without learning anything, and images of noise."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from realsrt.inference.adapters import Planes
from realsrt.inference.result import Upscaled
from realsrt.inference.upscaler import Upscaler


class Step(NamedTuple):
    ids: torch.Tensor
    mask: torch.Tensor
    confidence: torch.Tensor | None


class Fake(torch.nn.Module):
    """Obeys the model's contract: tokens are mean brightness, pictures bicubic, a little brighter every step."""

    def __init__(self, **config):
        super().__init__()
        defaults = dict(
            window=16,
            stride=8,
            scale=4,
            fold=2,
            num_steps=3,
            color_fix="none",
            refine="dense",
            blend="gaussian",
            confidence_exit=1.0,
            preset="fake",
            trunk=None,
            generator=SimpleNamespace(position="rope"),
        )
        self.config = SimpleNamespace(**(defaults | config))
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trunk = None
        self.batches, self.precise, self.refined = [], [], []

    def guide(self, lq):
        assert torch.is_inference_mode_enabled()
        self.batches.append(len(lq))
        self.precise.append(not torch.is_autocast_enabled("cpu"))
        return lq

    def iterate(self, guide, *, num_steps, want_confidence, sparse, exit_confidence):
        self.refined.append((sparse, exit_confidence))
        tokens = F.avg_pool2d(guide.mean(1, keepdim=True), 2).flatten(1)
        for t in range(num_steps):
            confident = want_confidence or t + 1 < num_steps
            yield Step(
                (tokens * 100).long() + t, torch.zeros_like(tokens).bool(), tokens.clamp(0, 1) if confident else None
            )

    def grid(self, ids, guide):
        return ids.unflatten(1, (guide.shape[-2] // 2, guide.shape[-1] // 2))

    def decode(self, ids, guide, *, fidelity):
        step = (ids - (F.avg_pool2d(guide.mean(1, keepdim=True), 2).flatten(1) * 100).long()).float().mean()
        return F.interpolate(guide, scale_factor=4, mode="bicubic") + 0.01 * step * fidelity


def make(device="cpu", precision="fp32", **config):
    return Upscaler(Fake(**config), device, precision)


def on_gpu(up):
    """The batching of a GPU, on the CPU."""
    up._runner.batch_size = lambda limit=None: max(1, min(limit or 16, up._runner._fits or 16))
    return up


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


class Quadrupled:
    """Stands in for the model: repeats pixels."""

    model = SimpleNamespace(info=SimpleNamespace(source="fake", sha256="0" * 64), config=SimpleNamespace(num_steps=4))

    @classmethod
    def from_pretrained(cls, name, **options):
        return cls()

    def computed_in(self, options):
        return "float32"

    def check(self, options):
        pass

    def upscale(self, image, options, *, on_progress, rows):
        alpha = image.alpha_float()
        rgb = torch.from_numpy(image.rgb_float().repeat(4, 0).repeat(4, 1)).permute(2, 0, 1)
        rows(0, Planes(rgb, None if alpha is None else torch.from_numpy(alpha.repeat(4, 0).repeat(4, 1))[None]))
        return Upscaled(
            ids=None, step=1, num_steps=1, image=None, confidence=np.zeros((6, 5), np.float32), steps=(),
            window_steps=np.array([1]),
        )  # fmt: skip
