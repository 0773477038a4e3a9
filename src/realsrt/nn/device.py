"""Getting small tensors onto a GPU without waiting for it, how much room it has, and float32 that is float32 there; and
memory of the CPU that is not asked for again and again."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's mallopt


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """``x`` on ``device``; from the CPU to a GPU through pinned memory, so that the CPU does not wait for the GPU."""
    device = torch.device(device)
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def cpu_multiplies_bf16() -> bool:
    """This CPU multiplies bfloat16 matrices by itself, twice as fast as float32, as far as PyTorch can tell."""
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """What convolutions and matrix products on this device are computed in under autocast, or None outside it."""
    kind = device.type
    able = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if able else None


def keep_freed_memory() -> bool:
    """Let this process keep memory that large tensors have given back, up to 128 MB, for the next ones; whether it can
    (by glibc: not on macOS and Windows). By default every tensor of more than 32 MB comes as fresh pages from the
    system, and what is freed goes back at once: on a virtual machine that took a third of the time of an upscaling."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError):
        return False
    from_system = mallopt(_MMAP_THRESHOLD, 2**27) or mallopt(_MMAP_MAX, 0)  # some refuse more than 32 MB
    return bool(from_system and mallopt(_TRIM_THRESHOLD, 2**27))


class MemoryGauge:
    """How much memory of a CUDA device a batch takes, from what was allocated before and at most since."""

    SHARE = 0.8  # of what is free; the rest is for fragments and other programs

    def __init__(self, device: torch.device) -> None:
        self._device = device
        torch.cuda.reset_peak_memory_stats(device)
        self._before = torch.cuda.memory_allocated(device)

    def room(self, items: int) -> int:
        """How many there is room for at a time, now that ``items`` have been through."""
        each = max(1, (torch.cuda.max_memory_allocated(self._device) - self._before) // items)
        free, _ = torch.cuda.mem_get_info(self._device)
        cached = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return int(self.SHARE * (free + cached)) // each


@contextmanager
def exact_float32(device: torch.device | str) -> Iterator[None]:
    """On a GPU: matrix products and convolutions of float32 without TF32, and no search for the fastest convolution,
    which would be repeated for every new size. Nothing changes elsewhere."""
    if torch.device(device).type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
