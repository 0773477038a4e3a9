"""The token transformer: backbone of generator and critic (paper, masked transformer).

Shapes: B batch, P positions in raster order, G codes a position, N = P·G tokens (group fastest), D width, V codes,
C condition channels, M some of the positions.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Literal

import torch
from torch import Tensor, nn

from realsrt.nn.attention import Attention, FeedForward, KeyValue, LayerNorm, Memory
from realsrt.nn.position import rope_2d, sincos_2d


@dataclass(frozen=True)
class TransformerConfig:
    """``condition``: "tokens" (the paper: ids of the enlarged input) or "features" (C channels a position from the
    low-quality encoder). ``injection``: "cross" (the paper: a condition stream read by cross-attention) or "add"
    (condition and token share a position, so they are simply added). ``position``: "sincos" (the paper: a table for
    one grid) or "rope" (any grid). ``masked_input``: whether tokens may be masked (generator). ``groups``: codes a
    position, each of ``code_dim`` channels from a codebook of its own, embedded in an equal share of the width."""

    codes: int = 512
    code_dim: int = 256
    width: int = 512
    heads: int = 8
    head_dim: int = 64
    depth: int = 16
    condition_depth: int = 4
    ff_mult: float = 4.0
    grid: int = 32
    condition: Literal["tokens", "features"] = "tokens"
    condition_dim: int = 256
    injection: Literal["cross", "add"] = "cross"
    position: Literal["sincos", "rope"] = "sincos"
    masked_input: bool = True
    groups: int = 1

    def build(self) -> "Transformer":
        return Transformer(self)


@dataclass(frozen=True)
class Condition:
    """What a backbone keeps of the condition: keys/values a main block ("cross"), or a summand ("add")."""

    context: tuple[KeyValue, ...] = ()
    summand_BPD: Tensor | None = None

    def select(self, rows_R: Tensor) -> "Condition":
        """That of these windows of the batch only."""
        summand = None if self.summand_BPD is None else self.summand_BPD[rows_R]
        return Condition(tuple(KeyValue(*(part[rows_R] for part in pair)) for pair in self.context), summand)


class ConditionBlock(nn.Module):
    """x += SelfAttn(x); x += FF(x)."""

    def __init__(self, cfg: TransformerConfig) -> None:
        super().__init__()
        self.self_attn = Attention(cfg.width, cfg.heads, cfg.head_dim)
        self.feed_forward = FeedForward(cfg.width, cfg.ff_mult)

    def forward(self, x_BND: Tensor, angles: Tensor | None) -> Tensor:
        x_BND = x_BND + self.self_attn(x_BND, angles_Nd=angles)
        return x_BND + self.feed_forward(x_BND)


class MainBlock(nn.Module):
    """x += SelfAttn(x); x += CrossAttn(x, condition); x += FF(x)."""

    def __init__(self, cfg: TransformerConfig) -> None:
        super().__init__()
        self.self_attn = Attention(cfg.width, cfg.heads, cfg.head_dim)
        self.cross_attn = Attention(cfg.width, cfg.heads, cfg.head_dim) if cfg.injection == "cross" else None
        self.feed_forward = FeedForward(cfg.width, cfg.ff_mult)

    def forward(
        self,
        x_BND: Tensor,
        context: KeyValue | None,
        angles: Tensor | None,
        memory: Memory | None = None,
        positions_BN: Tensor | None = None,
    ) -> Tensor:
        x_BND = x_BND + self.self_attn(x_BND, angles_Nd=angles, memory=memory, positions_BN=positions_BN)
        if self.cross_attn is not None:
            x_BND = x_BND + self.cross_attn(x_BND, context, angles)
        return x_BND + self.feed_forward(x_BND)


class Transformer(nn.Module):
    """Tokens and a condition → features; the condition is worked out once and reused in every step."""

    token_embedding: Tensor
    position: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        cfg = self.config = config
        if cfg.position == "sincos":
            self.register_buffer("position", sincos_2d(cfg.grid, cfg.grid, cfg.width))
        self.register_buffer("token_embedding", torch.zeros(cfg.groups * (cfg.codes + 1), cfg.code_dim))
        if cfg.masked_input:
            self.mask_token = nn.Parameter(torch.randn(cfg.width) * 0.02)
        condition_dim = cfg.groups * cfg.code_dim if cfg.condition == "tokens" else cfg.condition_dim
        self.embed_condition = nn.Linear(condition_dim, cfg.width)
        self.condition_blocks = nn.ModuleList(ConditionBlock(cfg) for _ in range(cfg.condition_depth))
        self.condition_norm = LayerNorm(cfg.width)
        self.embed = nn.Linear(cfg.code_dim, cfg.width // cfg.groups)
        self.blocks = nn.ModuleList(MainBlock(cfg) for _ in range(cfg.depth))
        self.norm = LayerNorm(cfg.width)
        self._angles: dict[tuple[int, torch.device], Tensor] = {}

    def set_codebook(self, weight_VD: Tensor) -> None:
        """Take a frozen copy of a codebook (V+1, code_dim), or of those of all groups, one after the other."""
        self.token_embedding.copy_(weight_VD)

    def _codes(self, ids_BN: Tensor) -> Tensor:
        """Codes (B, N, code_dim) of ids, each from its group's codebook."""
        first_G = torch.arange(self.config.groups, device=ids_BN.device) * (self.config.codes + 1)
        rows_BN = ids_BN + first_G.repeat(ids_BN.shape[1] // self.config.groups)
        return nn.functional.embedding(rows_BN, self.token_embedding)

    def _by_position(self, x_BN: Tensor) -> Tensor:
        """(B, N, …) → (B, P, G, …)."""
        return x_BN.unflatten(1, (-1, self.config.groups))

    def _place(self, x_BPD: Tensor, side: int, positions_BP: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Features with their absolute position added, and rotation angles if positions are relative. The grid is
        ``side`` x ``side``; ``positions``: which of it these are, by default all."""
        if self.config.position == "sincos":
            if side != self.config.grid:
                raise ValueError(f"this model works on {self.config.grid}x{self.config.grid} tokens, not {side}x{side}")
            table = self.position.to(x_BPD.dtype)
            return x_BPD + (table if positions_BP is None else table[positions_BP]), None
        if (key := (side, x_BPD.device)) not in self._angles:
            self._angles[key] = rope_2d(side, side, self.config.head_dim).to(x_BPD.device)
        angles_Pd = self._angles[key]
        return x_BPD, angles_Pd if positions_BP is None else angles_Pd[positions_BP][:, None]

    def condition(self, cond: Tensor) -> Condition:
        """``cond``: ids (B, N) or features (B, P, C) → what every later call with the same condition reuses."""
        if self.config.condition == "tokens":
            cond = self._by_position(self._codes(cond)).flatten(2)
        x_BPD, angles = self._place(self.embed_condition(cond), _side(cond.shape[1]))
        for block in self.condition_blocks:
            x_BPD = block(x_BPD, angles)
        x_BPD = self.condition_norm(x_BPD)
        if self.config.injection == "add":
            return Condition(summand_BPD=x_BPD)
        projected = (block.cross_attn.project(x_BPD, angles) for block in self.blocks)  # pyright: ignore
        return Condition(context=tuple(projected))

    def memories(self) -> tuple[Memory, ...]:
        """An empty memory for each block: given to a first call, it lets later ones compute some positions only."""
        return tuple(Memory() for _ in self.blocks)

    def forward(
        self,
        ids_BN: Tensor,
        cond: Condition,
        mask_BN: Tensor | None = None,
        *,
        memories: tuple[Memory, ...] = (),
        side: int | None = None,
        positions_BM: Tensor | None = None,
    ) -> Tensor:
        """Features (B, P, D). Tokens where ``mask_BN`` is True are replaced by their group's share of the learned mask
        vector. With ``positions_BM`` of a grid of ``side`` x ``side``, ids, mask and features are those of these
        positions only; the keys and values of all others are remembered from the calls before."""
        x_BPGd = self._by_position(self.embed(self._codes(ids_BN)))
        if mask_BN is not None:
            mask_token_Gd = self.mask_token.to(x_BPGd.dtype).view(self.config.groups, -1)
            x_BPGd = torch.where(self._by_position(mask_BN)[..., None], mask_token_Gd, x_BPGd)
        x_BPD = x_BPGd.flatten(2)
        x_BPD, angles = self._place(x_BPD, side or _side(x_BPD.shape[1]), positions_BM)
        if (summand_BPD := cond.summand_BPD) is not None:
            if positions_BM is not None:
                summand_BPD = summand_BPD.gather(1, positions_BM[..., None].expand_as(x_BPD))
            x_BPD = x_BPD + summand_BPD
        for index, block in enumerate(self.blocks):
            context = cond.context[index] if cond.context else None
            x_BPD = block(x_BPD, context, angles, memories[index] if memories else None, positions_BM)
        return self.norm(x_BPD)


def _side(positions: int) -> int:
    side = isqrt(positions)
    if side * side != positions:
        raise ValueError(f"a square token grid is needed, not {positions} tokens")
    return side
