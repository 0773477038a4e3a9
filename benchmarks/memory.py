"""How much memory a call takes at its peak beyond what was held before it."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS, _REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_growth(call: Callable[[], object], device: torch.device) -> float | None:
    """MB (10^6 bytes) of GPU memory on CUDA, else of this process's resident memory; None where it cannot be told.

    Resident memory is exact on Linux only: the kernel's own high-water mark, set back before the call. What the heap
    keeps of earlier calls is given back to the system first.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
    try:
        _REFS.write_text("5")  # sets VmHWM back to VmRSS
        before = _kilobytes("VmHWM")
    except (OSError, TypeError):
        call()
        return None
    call()
    return (_kilobytes("VmHWM") - before) * 1024 / 1e6


def _kilobytes(name: str) -> int:
    found = re.search(name + r":\s*(\d+)", _STATUS.read_text())
    return int(found[1])  # pyright: ignore[reportOptionalSubscript]
