"""Iterative generation by confidence (paper, "Confidence-based iterative generation").

Shapes: B batch, N tokens, V codes.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from realsrt.sampling.schedules import SCHEDULES, Schedule, masked_count


class Step(NamedTuple):
    """After one step: ``ids_BN`` with no position left open, ``mask_BN`` True where the next step will predict again
    (nowhere after the last), ``confidence_BN`` as ``score`` gave it (None where it was not asked for)."""

    ids: Tensor
    mask: Tensor
    confidence: Tensor | None


def least_confident(confidence_BN: Tensor, count: int) -> Tensor:
    """Mask (B, N), True at the ``count`` lowest confidences of each row; ties go to the earlier position."""
    order = confidence_BN.argsort(dim=1, stable=True)[:, :count]
    return torch.zeros_like(confidence_BN, dtype=torch.bool).scatter_(1, order, True)


def confidence_decode(
    predict: Callable[[Tensor, Tensor], Tensor],
    score: Callable[[Tensor], Tensor],
    ids_BN: Tensor,
    *,
    num_steps: int,
    schedule: Schedule = SCHEDULES["sqrt"],
    rng: torch.Generator | None = None,
    mask_BN: Tensor | None = None,
    temperature: float = 0.0,
    last_confidence: bool = True,
    enough: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Step]:
    """Fill the masked positions (all by default) in ``num_steps`` steps, yielding each.

    ``predict(ids, mask)`` gives logits (B, N, V); ``score(ids)`` gives confidences (B, N), high = keep. A step fills
    every masked position by argmax (or samples at ``temperature`` with ``rng``), then masks the least confident ones
    again. ``last_confidence=False`` saves the last call of ``score``. Rows for which ``enough(confidence) → (B,)``
    holds are masked no more, and when that is all of them, the step is the last. Raises ValueError if ``num_steps``
    is below 1.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, not {num_steps}")
    tokens = ids_BN.shape[1]
    open_share = 1.0 if mask_BN is None else float(mask_BN.float().mean())
    mask_BN = torch.ones_like(ids_BN, dtype=torch.bool) if mask_BN is None else mask_BN
    fixed_BN = ~mask_BN
    gone_B = mask_BN.new_zeros(len(mask_BN))
    for t in range(num_steps):
        choice_BN = _choose(predict(ids_BN, mask_BN), temperature, rng)
        ids_BN = torch.where(mask_BN, choice_BN, ids_BN)
        last = t + 1 == num_steps
        confidence_BN = None if last and not last_confidence else score(ids_BN)
        if last or confidence_BN is None:
            mask_BN = torch.zeros_like(mask_BN)
        else:
            count = masked_count(schedule, round(tokens * open_share), t + 1, num_steps)
            mask_BN = least_confident(confidence_BN.masked_fill(fixed_BN, torch.inf), count)
            if enough is not None:
                gone_B = gone_B | enough(confidence_BN)
                mask_BN = mask_BN & ~gone_B[:, None]
        yield Step(ids_BN, mask_BN, confidence_BN)
        if enough is not None and not mask_BN.any():
            return


def _choose(logits_BNV: Tensor, temperature: float, rng: torch.Generator | None) -> Tensor:
    """Argmax, or a sample by Gumbel noise where ``temperature`` > 0; ids (B, N)."""
    if temperature <= 0:
        return logits_BNV.argmax(-1)
    uniform = torch.rand(logits_BNV.shape, generator=rng, device=rng.device if rng else logits_BNV.device)
    gumbel = -(-uniform.clamp(1e-20, 1 - 1e-7).log()).log()
    return (logits_BNV.float() / temperature + gumbel.to(logits_BNV.device)).argmax(-1)
