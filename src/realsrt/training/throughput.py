"""How much work a training step is, and how much the machine could do: for the share of peak in the log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from realsrt.nn.flops import FlopSum

_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class StepWork:
    """Counts the FLOPs of one step, forward and backward, and turns steps a second into TFLOP/s and share of peak.

    The step that is counted computes the same numbers as any other: only its operations are watched. Operations
    inside a compiled module are not seen, so count before compiling.
    """

    def __init__(self, device: torch.device, precision: str, *, batch: int, processes: int, wanted: bool) -> None:
        """``batch``: samples of one process a step."""
        self.batch, self.processes, self.wanted = batch, processes, wanted
        self.counted: object = None
        self.flops = 0
        self.machine = (device.type, _DTYPES[precision])
        self.peak = matmul_peak(*self.machine) if wanted else 0.0

    @contextmanager
    def counting(self, learning: object = "everything") -> Iterator[None]:
        """Counts what happens inside, the first time and again when other networks learn (``learning``)."""
        if not self.wanted or self.counted == learning:
            yield
            return
        with FlopSum() as counter:
            yield
        self.flops, self.counted = counter.total, learning

    def close(self) -> None:
        """Count no more."""
        self.wanted = False

    def figures(self, steps_per_second: float) -> dict[str, float]:
        """For the log; of all processes together, but for the share, which is of one."""
        found = {
            "steps_per_second": steps_per_second,
            "samples_per_second": steps_per_second * self.batch * self.processes,
        }
        if self.flops:
            own = self.flops * steps_per_second
            if own > self.peak:  # the machine was busy when the peak was measured
                self.peak = max(self.peak, matmul_peak(*self.machine, seconds=0.4))
            found |= {"tflops": own * self.processes / 1e12, "share_of_peak": own / self.peak}
        return found


@cache
def matmul_peak(device: str, dtype: torch.dtype, seconds: float = 0.2) -> float:
    """FLOP/s of the best square matrix product found: sides doubled from 256 until one takes 1/40 of ``seconds`` (to
    16384 at most), then repeated for about as long. No random numbers are drawn."""
    side, took = 128, 0.0
    best = 0.0
    while side < 16384 and took < seconds / 40:
        side *= 2
        values = torch.linspace(-1, 1, side * side, device=device).view(side, side)
        left, right = values.to(dtype), (values * 0.7).T.contiguous().to(dtype)
        _time(device, left, right)  # warm up
        took = _time(device, left, right)
        best = max(best, 2 * side**3 / took)
        for _ in range(min(8, int(seconds / 4 / took))):
            best = max(best, 2 * side**3 / _time(device, left, right))
    return best


def _time(device: str, left: torch.Tensor, right: torch.Tensor) -> float:
    """Seconds of one product, the wait for the device included."""
    started = time.perf_counter()
    torch.mm(left, right)
    if device == "cuda":
        torch.cuda.synchronize()
    return max(time.perf_counter() - started, 1e-9)
