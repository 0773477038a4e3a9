"""How many CPU threads compute: what the machine has free when it starts."""

import os

import torch

from realsrt.errors import UsageError

MAX_THREADS = 1024


def use_threads(count: int | None) -> int:
    """Compute with `count` threads, or as many as are free, and give their number; OMP_NUM_THREADS is obeyed.

    Another number of threads may move single values of a result by one level: convolutions then add up in another
    order. Raises UsageError for less than one.
    """
    if count is not None and count < 1:
        raise UsageError(f"threads must be at least 1, got {count}")
    if count is not None and count > MAX_THREADS:
        raise UsageError(f"threads must be at most {MAX_THREADS}, got {count}")
    if count is None and not os.environ.get("OMP_NUM_THREADS"):
        count = free_cpus()
    if count is not None:
        torch.set_num_threads(count)
    return torch.get_num_threads()


def free_cpus() -> int:
    """The CPUs of this process that others left free in the last minute, at least one.

    Threads that have to wait for a busy CPU hold up all others: two are then slower than one.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    usual = min(own, torch.get_num_threads())  # hyperthreads do not help
    try:
        busy = min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    except (AttributeError, OSError):  # not on Windows
        busy = 0.0
    return max(1, min(usual, round(own * (1 - busy))))
