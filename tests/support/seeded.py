"""Seeded weights in the authors' format: every tensor's noise depends on its key and the seed alone."""

import math
import zlib

import torch
from torch import Tensor

from realsrt.checkpoint.official import official_shapes
from realsrt.nn.position import sincos_2d


def noise(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Noise of a scale that keeps activations alive: codes and learned vectors at 1, gains near 1, linear maps at
    1/sqrt(fan-in)."""
    rng = torch.Generator().manual_seed((zlib.crc32(key.encode()) ^ (seed * 2654435761)) & 0x7FFFFFFF)
    x = torch.randn(shape, generator=rng)
    leaf = key.rsplit(".", 1)[-1]
    if "codebooks" in key or "token_emb" in key or leaf in ("null_kv", "mask_token"):
        return x
    if leaf in ("gamma", "q_scale", "k_scale") or (leaf == "weight" and len(shape) == 1):
        return 1 + 0.1 * x
    if leaf == "beta":
        return torch.zeros(shape)
    if leaf == "bias":
        return 0.1 * x
    return x * (math.prod(shape[1:]) if len(shape) > 1 else 1) ** -0.5


def official_state(seed: int) -> dict[str, Tensor]:
    """A full state dict (740 MB) with the authors' keys, in their order."""
    position = sincos_2d(32, 32, 512)[None]
    state = {
        key: position.clone() if key.endswith("pos_emb") else noise(key, shape, seed)
        for key, shape in official_shapes().items()
    }
    for network in ("generator", "critic"):
        state[f"{network}.token_emb.weight"][:-1] = state["vae.quantizer.codebooks.0.weight"][:-1]
    return state
