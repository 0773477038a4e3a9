"""Generator and critic over the steps of one iteration, no window and no position computed more often than it must.

Shapes: B batch, N tokens, R windows of the batch that still have open positions, M open positions of each.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from realsrt.models.heads import CodeCritic, Critic, Generator
from realsrt.models.transformer import Condition, Transformer
from realsrt.nn.attention import HiddenStateCache


class CachedDecoder:
    """What a sampler calls as ``predict`` and ``score``.

    Windows without an open position are left out (a sampler may be done with some before others). With ``sparse``,
    from the second call on only open positions are computed, as queries. Keys and values at the others are made of what
    the call before had there, plus what has changed in the input at that very place (a mask that became a token): what
    follows from it in later layers is left out, so this is an approximation. The first call is exact. With neither, the
    device is never asked for a value.
    """

    def __init__(
        self,
        generator: Generator,
        critic: Critic | CodeCritic,
        condition: Callable[[Transformer], Condition],
        *,
        sparse: bool = False,
        may_leave: bool = False,
    ) -> None:
        self._generator, self._critic, self._condition = generator, critic, condition
        self._options = (sparse, may_leave)
        self._predict = self._score = None
        self._open_BN: Tensor | None = None

    def predict(self, ids_BN: Tensor, mask_BN: Tensor) -> Tensor:
        """Logits (B, N, V); they are old, or zero, where nothing is masked and nothing was computed."""
        self._predict = self._predict or _Pass(self._generator, self._condition, *self._options)
        self._open_BN = mask_BN
        return self._predict(ids_BN, mask_BN, mask_BN)

    def score(self, ids_BN: Tensor) -> Tensor:
        """Confidence (B, N), after ``predict`` and what the sampler made of it."""
        assert self._open_BN is not None
        self._score = self._score or _Pass(self._critic, self._condition, *self._options)
        return self._score(ids_BN, self._open_BN)


class _Pass:
    """The calls of one head."""

    def __init__(self, head: Generator | Critic | CodeCritic, condition: Callable[[Transformer], Condition],
                 sparse: bool, may_leave: bool) -> None:  # fmt: skip
        self._head, self._cond = head, condition(head.backbone)
        self._may_leave = may_leave
        self._sparse = sparse
        self._memories: tuple[HiddenStateCache, ...] = ()
        self._out: Tensor | None = None  # of all windows and positions, as last computed
        self._rows_R: Tensor | None = None  # the windows that condition and memories are about; None: all

    def __call__(self, ids_BN: Tensor, open_BN: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        if self._out is None or not (self._sparse or self._may_leave):
            self._memories = self._head.backbone.memories() if self._sparse else ()
            self._out = self._run(ids_BN, mask_BN, memories=self._memories)
            return self._out
        rows_R = open_BN.any(1).nonzero()[:, 0]
        if not len(rows_R):
            return self._out
        self._narrow(rows_R, len(ids_BN))
        ids_RN, open_RN = ids_BN[rows_R], open_BN[rows_R]
        mask_RN = None if mask_BN is None else mask_BN[rows_R]
        counts_R = open_RN.sum(1)
        if not self._sparse or bool((counts_R != counts_R[0]).any()):
            return self._keep(rows_R, self._run(ids_RN, mask_RN, memories=self._memories))
        positions_RM = open_RN.nonzero()[:, 1].unflatten(0, (len(rows_R), -1))
        out_RM = self._run(ids_RN, mask_RN, memories=self._memories, positions_BM=positions_RM)
        index = positions_RM if out_RM.ndim == 2 else positions_RM[..., None].expand_as(out_RM)
        return self._keep(rows_R, self._out[rows_R].scatter(1, index, out_RM))

    def _run(self, ids_BN: Tensor, mask_BN: Tensor | None, **some: object) -> Tensor:
        given = (ids_BN, self._cond) if mask_BN is None else (ids_BN, self._cond, mask_BN)
        return self._head(*given, **some)

    def _keep(self, rows_R: Tensor, out: Tensor) -> Tensor:
        assert self._out is not None
        self._out = out if len(rows_R) == len(self._out) else self._out.index_copy(0, rows_R, out)
        return self._out

    def _narrow(self, rows_R: Tensor, batch: int) -> None:
        """Forget the windows that have left."""
        before = torch.arange(batch, device=rows_R.device) if self._rows_R is None else self._rows_R
        if len(rows_R) < len(before):
            kept = torch.isin(before, rows_R).nonzero()[:, 0]
            self._cond = self._cond.select(kept)
            for memory in self._memories:
                memory.select(kept)
            self._rows_R = rows_R
