"""Attention and feed-forward of the token transformer (the paper's generator and critic).

Shape suffixes: B batch, N query tokens, M context tokens, D width, H heads, d channels of a head.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.nn.device import autocast_dtype, cpu_multiplies_bf16
from realsrt.nn.linear import Linear
from realsrt.nn.position import rotate

LOGIT_SCALE = 8.0
_LARGEST_LOGIT = 60.0  # whose exponential, and a sum of thousands of them, are still numbers


class KeyValue(NamedTuple):
    """Projected keys and values of one attention layer, the learned null pair first: both (B, H, 1+M, d)."""

    key: Tensor
    value: Tensor


class HiddenStateCache:
    """What a self-attention layer was given at all positions in an earlier pass, to be brought up to date in part."""

    def __init__(self) -> None:
        self.kept_BND: Tensor | None = None

    def renew(self, x_BMD: Tensor, positions_BM: Tensor | None) -> Tensor:
        """``x`` is all there is, or, with ``positions``, takes these places; all positions (B, N, D)."""
        if positions_BM is None or self.kept_BND is None:
            self.kept_BND = x_BMD
        else:
            self.kept_BND = self.kept_BND.scatter(1, positions_BM[..., None].expand_as(x_BMD), x_BMD)
        return self.kept_BND

    def shift(self, change_BND: Tensor) -> None:
        """Add what has changed in the input of the first layer: it passes through every layer's residual."""
        assert self.kept_BND is not None
        self.kept_BND = self.kept_BND + change_BND

    def select(self, rows_R: Tensor) -> None:
        """Keep these windows of the batch only."""
        assert self.kept_BND is not None
        self.kept_BND = self.kept_BND[rows_R]


class LayerNorm(nn.Module):
    """Layer norm with a learned gain and a shift fixed at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis; same shape and dtype out."""
        return F.layer_norm(x, x.shape[-1:], self.gamma.to(x.dtype))


class Attention(nn.Module):
    """Cosine attention with one learned null key/value pair a head; pre-norm on the query stream only.

    Queries and keys are l2-normalised, scaled by learned per-channel gains shared by all heads, and the logits
    multiplied by 8. Keys and values come from one projection, so that a context can be projected once and reused.
    """

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        inner = heads * head_dim
        self.norm = LayerNorm(width)
        self.null_kv = nn.Parameter(torch.randn(2, heads, 1, head_dim))
        self.q_scale = nn.Parameter(torch.ones(head_dim))
        self.k_scale = nn.Parameter(torch.ones(head_dim))
        self.to_q = Linear(width, inner, bias=False)
        self.to_kv = Linear(width, inner * 2, bias=False)
        self.to_out = Linear(inner, width, bias=False)

    def _heads(self, x_BNi: Tensor) -> Tensor:
        return x_BNi.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)

    def project(self, context_BMD: Tensor, angles_Md: Tensor | None = None) -> KeyValue:
        """Keys and values of a context (used as it is, not normed), null pair first."""
        key, value = (self._heads(part) for part in self.to_kv(context_BMD).chunk(2, dim=-1))
        null_key, null_value = (part.to(key.dtype).expand(key.shape[0], -1, -1, -1) for part in self.null_kv.unbind(0))
        scale = self.k_scale.to(key.dtype)
        key, null_key = F.normalize(key, dim=-1) * scale, F.normalize(null_key, dim=-1) * scale
        if angles_Md is not None:
            key = rotate(key, angles_Md)
            null_key = torch.zeros_like(null_key)  # its logit must not depend on where the query stands
        return KeyValue(torch.cat([null_key, key], dim=2), torch.cat([null_value, value], dim=2))

    def forward(self, x_BND: Tensor, context: KeyValue | None = None, angles_Nd: Tensor | None = None) -> Tensor:
        """Attend from ``x`` to a projected ``context``, or to ``x`` itself; the residual is the caller's."""
        normed = self.norm(x_BND)
        context = self.project(normed, angles_Nd) if context is None else context
        key, value = context
        query = F.normalize(self._heads(self.to_q(normed)), dim=-1) * self.q_scale.to(normed.dtype)
        if angles_Nd is not None:
            query = rotate(query, angles_Nd)
        out = self._attend(query, key, value)
        return self.to_out(out.transpose(1, 2).flatten(-2))

    def _attend(self, query_BHNd: Tensor, key_BHMd: Tensor, value_BHMd: Tensor) -> Tensor:
        """The mean of the values (B,H,N,d), weighed by the softmax of the logits. PyTorch's own, but in bfloat16 on a
        CPU that multiplies it: there cosine attention, whose logits are bounded, needs no search for the largest one,
        and a column of ones beside the values gives the sum of the weights."""
        device = query_BHNd.device
        if (
            device.type == "cpu"
            and not torch.compiler.is_compiling()  # which what follows would cut into pieces
            and autocast_dtype(device) == torch.bfloat16
            and not torch.is_grad_enabled()
            and cpu_multiplies_bf16()
            and LOGIT_SCALE * self.q_scale.abs().amax() * self.k_scale.abs().amax() <= _LARGEST_LOGIT
        ):
            value_BHMe = F.pad(value_BHMd, (0, 1), value=1.0)
            summed = ((query_BHNd * LOGIT_SCALE) @ key_BHMd.mT).exp_() @ value_BHMe
            return summed[..., :-1] / summed[..., -1:]
        return F.scaled_dot_product_attention(query_BHNd, key_BHMd, value_BHMd, scale=LOGIT_SCALE)


class FeedForward(nn.Module):
    """LN → linear → GEGLU (gate times gelu of value) → LN → linear, no biases; inner width int(D·mult·2/3)."""

    def __init__(self, width: int, mult: float = 4.0) -> None:
        super().__init__()
        inner = int(width * mult * 2 / 3)
        self.norm_in = LayerNorm(width)
        self.expand = Linear(width, inner * 2, bias=False)
        self.norm_mid = LayerNorm(inner)
        self.contract = Linear(inner, width, bias=False)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Same shape out; the residual is the caller's."""
        value, gate = self.expand(self.norm_in(x_BND)).chunk(2, dim=-1)
        return self.contract(self.norm_mid(gate * F.gelu(value)))
