"""Samplers: they take callables and yield steps, and know no model.

Adding one is a file with a function of the same signature and a line in :data:`SAMPLERS`.
"""

from realsrt.sampling.confidence import Step, confidence_decode
from realsrt.sampling.schedules import SCHEDULES

SAMPLERS = {"confidence": confidence_decode}

__all__ = ["SAMPLERS", "SCHEDULES", "Step", "confidence_decode"]
