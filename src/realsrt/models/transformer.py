"""The token transformer: backbone of generator and critic (paper, masked transformer).

Shapes: B batch, N tokens in raster order, D width, V codes, C condition channels, M some of the tokens' positions.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from realsrt.nn.attention import Attention, FeedForward, HiddenStateCache, KeyValue, LayerNorm
from realsrt.nn.linear import Linear
from realsrt.nn.position import rope_2d, sincos_2d


@dataclass(frozen=True)
class TransformerConfig:
    """``condition``: "tokens" (the paper: ids of the enlarged input) or "features" (C channels a position from the
    trunk). ``injection``: "cross" (the paper: a condition stream read by cross-attention) or "add"
    (condition and token share a position, so they are simply added). ``position``: "sincos" (the paper: a table for
    one grid) or "rope" (any grid). ``masked_input``: whether tokens may be masked (generator)."""

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

    def build(self) -> "Transformer":
        return Transformer(self)


@dataclass(frozen=True)
class Condition:
    """What a backbone keeps of the condition: keys/values a main block ("cross"), or a summand ("add"); ``grid``: rows
    and columns of the tokens."""

    grid: tuple[int, int]
    context: tuple[KeyValue, ...] = ()
    summand_BND: Tensor | None = None

    def select(self, rows_R: Tensor) -> "Condition":
        """That of these windows of the batch only."""
        summand = None if self.summand_BND is None else self.summand_BND[rows_R]
        context = tuple(KeyValue(*(part[rows_R] for part in pair)) for pair in self.context)
        return Condition(self.grid, context, summand)


class ConditionBlock(nn.Module):
    """x += SelfAttn(x); x += FF(x)."""

    def __init__(self, cfg: TransformerConfig) -> None:
        super().__init__()
        self.self_attn = Attention(cfg.width, cfg.heads, cfg.head_dim)
        self.feed_forward = FeedForward(cfg.width, cfg.ff_mult)

    def forward(self, x_BND: Tensor, angles: Tensor | None) -> Tensor:
        x_BND = x_BND + self.self_attn(x_BND, angles_Nd=angles)
        return x_BND + self.feed_forward(x_BND)


class QuerySubset(NamedTuple):
    """Positions (B, M) that are computed as queries, and the rotation angles of all positions, if they rotate."""

    positions_BM: Tensor
    all_angles: Tensor | None


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
        some: "QuerySubset | None" = None,
        memory: HiddenStateCache | None = None,
    ) -> Tensor:
        own = None
        if memory is not None:
            all_BND = memory.renew(x_BND, some and some.positions_BM)
            if some is not None:
                own = self.self_attn.project(self.self_attn.norm(all_BND), some.all_angles)
        x_BND = x_BND + self.self_attn(x_BND, own, angles)
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
        self.register_buffer("token_embedding", torch.zeros(cfg.codes + 1, cfg.code_dim))
        if cfg.masked_input:
            self.mask_token = nn.Parameter(torch.randn(cfg.width) * 0.02)
        condition_dim = cfg.code_dim if cfg.condition == "tokens" else cfg.condition_dim
        self.embed_condition = Linear(condition_dim, cfg.width)
        self.condition_blocks = nn.ModuleList(ConditionBlock(cfg) for _ in range(cfg.condition_depth))
        self.condition_norm = LayerNorm(cfg.width)
        self.embed = Linear(cfg.code_dim, cfg.width)
        self.blocks = nn.ModuleList(MainBlock(cfg) for _ in range(cfg.depth))
        self.norm = LayerNorm(cfg.width)
        self._angles: dict[tuple[tuple[int, int], torch.device], Tensor] = {}

    def set_codebook(self, weight_VD: Tensor) -> None:
        """Take a frozen copy of a codebook (V+1, code_dim)."""
        self.token_embedding.copy_(weight_VD)

    def _place(self, x_BND: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """Features with their absolute position added, and rotation angles if positions are relative."""
        if self.config.position == "sincos":
            if grid != (self.config.grid, self.config.grid):
                raise ValueError(f"this model works on {self.config.grid}x{self.config.grid} tokens, not {grid}")
            return x_BND + self.position.to(x_BND.dtype), None
        if not all(isinstance(side, int) for side in grid):  # sides that are left open, while a graph is exported
            return x_BND, rope_2d(*grid, self.config.head_dim)
        if (key := (grid, x_BND.device)) not in self._angles:
            self._angles[key] = rope_2d(*grid, self.config.head_dim).to(x_BND.device)
        return x_BND, self._angles[key]

    def condition(self, cond: Tensor, grid: tuple[int, int]) -> Condition:
        """``cond``: ids (B, N) or features (B, N, C) of a grid's tokens → what every later call with the same condition
        reuses. Raises ValueError for another grid than the paper's table is for."""
        if self.config.condition == "tokens":
            cond = nn.functional.embedding(cond, self.token_embedding)
        x_BND, angles = self._place(self.embed_condition(cond), grid)
        for block in self.condition_blocks:
            x_BND = block(x_BND, angles)
        x_BND = self.condition_norm(x_BND)
        if self.config.injection == "add":
            return Condition(grid, summand_BND=x_BND)
        projected = (block.cross_attn.project(x_BND, angles) for block in self.blocks)  # pyright: ignore
        return Condition(grid, tuple(projected))

    def memories(self) -> tuple[HiddenStateCache, ...]:
        """Empty memories, of the input and of each block: given to a first call, they let later ones compute some
        positions only."""
        return tuple(HiddenStateCache() for _ in range(1 + len(self.blocks)))

    def forward(
        self,
        ids_BN: Tensor,
        cond: Condition,
        mask_BN: Tensor | None = None,
        *,
        memories: tuple[HiddenStateCache, ...] = (),
        positions_BM: Tensor | None = None,
    ) -> Tensor:
        """Features (B, N, D). Tokens where ``mask_BN`` is True are replaced by the learned mask vector.

        With ``memories`` of a call before, features (B, M, D) of ``positions_BM`` only. What the other positions' keys
        and values are made of is remembered, plus what has changed in their own input: an approximation.
        """
        x_BND = self.embed(nn.functional.embedding(ids_BN, self.token_embedding))
        if mask_BN is not None:
            x_BND = torch.where(mask_BN[..., None], self.mask_token.to(x_BND.dtype), x_BND)
        x_BND, angles = self._place(x_BND, cond.grid)
        if cond.summand_BND is not None:
            x_BND = x_BND + cond.summand_BND
        some, own_angles, blocks = None, angles, memories[1:]
        if memories:
            before_BND = memories[0].kept_BND
            memories[0].renew(x_BND, None)
            if positions_BM is not None and before_BND is not None:
                for memory in blocks:
                    memory.shift(x_BND - before_BND)
                some = QuerySubset(positions_BM, angles)
                x_BND = x_BND.gather(1, positions_BM[..., None].expand(-1, -1, x_BND.shape[2]))
                own_angles = None if angles is None else angles[positions_BM][:, None]
        for index, block in enumerate(self.blocks):
            context = cond.context[index] if cond.context else None
            x_BND = block(x_BND, context, own_angles, some, blocks[index] if blocks else None)
        return self.norm(x_BND)
