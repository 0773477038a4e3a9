"""Iterative generation by confidence (paper, "Confidence-based iterative generation").

Shapes: B batch, N tokens, V codes.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from realsrt.sampling.noise import Noise, from_rng
from realsrt.sampling.schedules import SCHEDULES, Schedule, masked_count


class Step(NamedTuple):
    """After one step: ``ids_BN`` with no position left open, ``mask_BN`` True where the next step will predict again
    (nowhere after the last), ``confidence_BN`` as ``score`` gave it (None where it was not asked for)."""

    ids: Tensor
    mask: Tensor
    confidence: Tensor | None


def least_confident(confidence_BN: Tensor, count: int | list[int]) -> Tensor:
    """Mask (B, N), True at the ``count`` (one for all rows, or one a row) lowest confidences of each row; ties go to
    the earlier position."""
    order = confidence_BN.argsort(dim=1, stable=True)
    mask_BN = torch.zeros_like(confidence_BN, dtype=torch.bool)
    if isinstance(count, int):
        return mask_BN.scatter_(1, order[:, :count], True)
    for mask_N, order_N, own in zip(mask_BN, order, count, strict=True):
        mask_N[order_N[:own]] = True
    return mask_BN


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
    top_k: int | None = None,
    noise: Noise | None = None,
    last_confidence: bool = True,
    should_stop: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Step]:
    """Fill the masked positions (all by default) in ``num_steps`` steps, yielding each.

    ``predict(ids, mask)`` gives logits (B, N, V); ``score(ids)`` gives confidences (B, N), high = keep. A step fills
    every masked position by argmax, then masks the least confident ones again. At a ``temperature`` above 0 it samples,
    among the ``top_k`` likeliest codes if given, and Gumbel noise times temperature · (1 - step/num_steps) is added to
    the confidences when they are ordered, as in MaskGIT; ``noise`` gives both (by default ``rng``).
    ``last_confidence=False`` saves the last call of ``score``. Rows for which ``should_stop(confidence) → (B,)`` holds
    are masked no more, and when that is all of them, the step is the last. Raises ValueError if ``num_steps`` is below
    1.

    >>> predict = lambda ids, mask: torch.eye(4)[None]  # four tokens, four codes, each likeliest at its own place
    >>> steps = confidence_decode(predict, lambda ids: -ids.float(), torch.full((1, 4), 4), num_steps=2)
    >>> [(step.ids.tolist(), step.mask.tolist()) for step in steps]
    [([[0, 1, 2, 3]], [[False, False, False, True]]), ([[0, 1, 2, 3]], [[False, False, False, False]])]
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, not {num_steps}")
    noise = noise or from_rng(rng, ids_BN.device)
    num_masked = ids_BN.shape[1] if mask_BN is None else mask_BN.sum(1).tolist()
    mask_BN = torch.ones_like(ids_BN, dtype=torch.bool) if mask_BN is None else mask_BN
    fixed_BN = ~mask_BN
    finished_B = mask_BN.new_zeros(len(mask_BN))
    for t in range(num_steps):
        choice_BN = _choose(predict(ids_BN, mask_BN), temperature, top_k, noise)
        ids_BN = torch.where(mask_BN, choice_BN, ids_BN)
        last = t + 1 == num_steps
        confidence_BN = None if last and not last_confidence else score(ids_BN)
        if last or confidence_BN is None:
            mask_BN = torch.zeros_like(mask_BN)
        else:
            order_BN, slack = confidence_BN, temperature * (1 - (t + 1) / num_steps)
            if slack > 0:
                order_BN = confidence_BN.float() + slack * noise(confidence_BN.shape).to(confidence_BN.device)
            if isinstance(num_masked, int):
                count = masked_count(schedule, num_masked, t + 1, num_steps)
            else:
                count = [masked_count(schedule, own, t + 1, num_steps) for own in num_masked]
            mask_BN = least_confident(order_BN.masked_fill(fixed_BN, torch.inf), count)
            if should_stop is not None:
                finished_B = finished_B | should_stop(confidence_BN)
                mask_BN = mask_BN & ~finished_B[:, None]
        yield Step(ids_BN, mask_BN, confidence_BN)
        if should_stop is not None and not mask_BN.any():
            return


def _choose(logits_BNV: Tensor, temperature: float, top_k: int | None, noise: Noise) -> Tensor:
    """Argmax, or a sample by Gumbel noise where ``temperature`` > 0; ids (B, N)."""
    if temperature <= 0:
        return logits_BNV.argmax(-1)
    logits_BNV = logits_BNV.float()
    if top_k is not None and top_k < logits_BNV.shape[-1]:
        least_BN1 = logits_BNV.topk(top_k, dim=-1).values[..., -1:]
        logits_BNV = logits_BNV.masked_fill(logits_BNV < least_BN1, -torch.inf)
    return (logits_BNV / temperature + noise(logits_BNV.shape).to(logits_BNV.device)).argmax(-1)
