"""From a clean target to the low-quality input it could have come from: Real-ESRGAN's random pipeline, and milder ones.

`draw_plan` decides what happens to one sample, `degrade` draws and does it, `degrade_named` by name and seed.
"""

from realsrt.degradations.apply import degrade, degrade_named, degrade_seeded, named_rng
from realsrt.degradations.plans import (
    BICUBIC,
    EVERYDAY,
    LIGHT,
    MIXED,
    PROTOCOLS,
    REALESRGAN,
    STORED,
    DegradationConfig,
    Mixture,
    OrderConfig,
    Plan,
    draw_plan,
    protocol,
)

__all__ = [
    "BICUBIC",
    "EVERYDAY",
    "LIGHT",
    "MIXED",
    "PROTOCOLS",
    "REALESRGAN",
    "STORED",
    "DegradationConfig",
    "Mixture",
    "OrderConfig",
    "Plan",
    "degrade",
    "degrade_seeded",
    "degrade_named",
    "draw_plan",
    "named_rng",
    "protocol",
]
