"""Mask schedules: the share of positions still masked after a fraction ``r`` of the steps, for r in (0, 1]."""

from collections.abc import Callable
from math import cos, floor, pi, sqrt

Schedule = Callable[[float], float]

SCHEDULES: dict[str, Schedule] = {
    "sqrt": lambda r: 1.0 - sqrt(r),  # the paper's
    "cosine": lambda r: cos(pi / 2 * r),  # MaskGIT's
    "linear": lambda r: 1.0 - r,
}


def masked_count(schedule: Schedule, tokens: int, step: int, num_steps: int) -> int:
    """Positions masked again after ``step`` (counted from 1) of ``num_steps``: floor(N · schedule(step/T))."""
    return max(0, min(tokens, floor(tokens * schedule(step / num_steps) + 1e-9)))
