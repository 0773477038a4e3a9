"""Vector quantiser with an EMA codebook and restart of dead codes (VQ-VAE, appendix A).

Shapes: B batch, D code dimension, h w token grid, V codes, M = B·h·w vectors.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.nn.device import exact_float32


@dataclass(frozen=True)
class QuantizerConfig:
    """``normalize`` compares and stores unit-length codes (ours); the paper compares plain Euclidean distances."""

    codes: int = 512
    dim: int = 256
    normalize: bool = False
    decay: float = 0.99
    restart_below: float = 1.0
    eps: float = 1e-5

    def build(self) -> "Quantizer":
        return Quantizer(self)


class Quantized(NamedTuple):
    """``z_BDhw`` with straight-through gradient, ``ids_Bhw``, and the two sides of the commitment loss."""

    z: Tensor
    ids: Tensor
    encoded: Tensor
    code: Tensor


def _gather_all(x: Tensor) -> Tensor:
    """Concatenate ``x`` over all processes in rank order; itself when training is not distributed."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


class Quantizer(nn.Module):
    """Nearest-code quantiser. The table has one row more than codes: the last stands for "no code"."""

    weight: Tensor
    cluster_size_ema: Tensor
    embed_ema: Tensor

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.hold = False
        self._held: list[tuple[Tensor, Tensor]] = []
        weight = torch.randn(config.codes + 1, config.dim)
        if config.normalize:
            weight = F.normalize(weight, dim=1)
        weight[-1] = 0
        self.register_buffer("weight", weight)
        self.register_buffer("cluster_size_ema", torch.ones(config.codes))
        self.register_buffer("embed_ema", weight[:-1].clone())

    def prepare(self, z_BDhw: Tensor) -> Tensor:
        """The vectors as they are compared with codes: unit length where the config says so."""
        return F.normalize(z_BDhw, dim=1) if self.config.normalize else z_BDhw

    def encode(self, z_BDhw: Tensor) -> Tensor:
        """Ids (B, h, w) of the nearest codes by squared Euclidean distance, computed in float32 (never TF32)."""
        with torch.autocast(z_BDhw.device.type, enabled=False), exact_float32(z_BDhw.device):
            flat_MD = self.prepare(z_BDhw.float()).permute(0, 2, 3, 1).reshape(-1, self.config.dim)
            codes_VD = self.weight[:-1].float()
            distance = flat_MD.square().sum(1, keepdim=True) + codes_VD.square().sum(1) - 2 * flat_MD @ codes_VD.T
        return distance.argmin(1).view(z_BDhw.shape[0], *z_BDhw.shape[2:])

    def lookup(self, ids_Bhw: Tensor) -> Tensor:
        """Codes (B, D, h, w) of ids in 0…V (V itself is the empty code)."""
        return F.embedding(ids_Bhw, self.weight).permute(0, 3, 1, 2)

    def forward(self, z_BDhw: Tensor, rng: torch.Generator | None = None) -> Quantized:
        """Quantise with a straight-through gradient; in training mode also learn the codebook from the batch."""
        prepared = self.prepare(z_BDhw)
        ids_Bhw = self.encode(z_BDhw.detach())
        code = self.lookup(ids_Bhw).to(prepared.dtype)
        if self.training:
            self._learn(prepared.detach().float(), ids_Bhw, rng)
        return Quantized(prepared + (code - prepared).detach(), ids_Bhw, prepared, code)

    @torch.no_grad()
    def _learn(self, z_BDhw: Tensor, ids_Bhw: Tensor, rng: torch.Generator | None) -> None:
        """EMA of counts and sums, Laplace-smoothed; codes with a count below ``restart_below`` take a random vector.

        Every process sees the same vectors in the same order, so all hold the same codebook without a broadcast.
        While ``hold`` is set, vectors are kept for the next call without it: parts of a batch then teach what it does.
        """
        cfg = self.config
        self._held.append((z_BDhw.permute(0, 2, 3, 1).reshape(-1, cfg.dim), ids_Bhw.reshape(-1)))
        if self.hold:
            return
        vectors_MD, ids_M = (_gather_all(torch.cat(parts)) for parts in zip(*self._held, strict=True))
        self._held.clear()
        counts_V = torch.zeros_like(self.cluster_size_ema).index_add_(0, ids_M, torch.ones_like(vectors_MD[:, 0]))
        sums_VD = torch.zeros_like(self.embed_ema).index_add_(0, ids_M, vectors_MD)
        self.cluster_size_ema.mul_(cfg.decay).add_(counts_V, alpha=1 - cfg.decay)
        self.embed_ema.mul_(cfg.decay).add_(sums_VD, alpha=1 - cfg.decay)

        dead_V = self.cluster_size_ema < cfg.restart_below
        chosen = torch.randint(len(vectors_MD), (cfg.codes,), generator=rng).to(vectors_MD.device)
        restart_VD = vectors_MD[chosen]
        self.cluster_size_ema.copy_(torch.where(dead_V, torch.ones_like(self.cluster_size_ema), self.cluster_size_ema))
        self.embed_ema.copy_(torch.where(dead_V[:, None], restart_VD, self.embed_ema))

        total = self.cluster_size_ema.sum()
        smoothed = (self.cluster_size_ema + cfg.eps) / (total + cfg.codes * cfg.eps) * total
        codes_VD = self.embed_ema / smoothed[:, None]
        self.weight[:-1] = F.normalize(codes_VD, dim=1) if cfg.normalize else codes_VD
