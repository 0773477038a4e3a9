"""Ray, started here or joined: small, silent, listening to this machine only; and what an image's actor may use."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from realsrt.errors import RealSRTError, UsageError, first_line, needs

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anyone
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # the working tree stays where it is
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its errors are repeated as exceptions
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


@dataclass(frozen=True)
class Share:
    """Actors, and CPUs and GPUs of each and of each task that reads or writes. `batch`: images an actor takes at a
    time."""

    actors: int
    threads: int
    actor_cpus: float
    actor_gpus: float
    task_cpus: float
    batch: int
    device: str


@contextlib.contextmanager
def ray_running(address: str | None, store_mb: int) -> Iterator[Any]:
    """Ray, connected, and left or stopped at the end. Raises UsageError, RealSRTError."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    with needs("bulk", "bulk"):
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    more: dict[str, Any] = {"address": address}
    if address is None:
        more = {
            "num_cpus": cores(), "include_dashboard": False, "object_store_memory": store_mb * 2**20,
            "_node_ip_address": "127.0.0.1", "address": "local",
        }  # fmt: skip
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **more)
    except Exception as problem:
        what = f"cannot join the cluster at {address}" if address else "cannot start"
        raise RealSRTError(f"Ray {what}: {first_line(problem)}") from problem
    try:
        yield ray
    finally:
        ray.shutdown()


def cores() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shares(
    resources: dict[str, float], actors: int | None, threads: int | None, batch: int | None, device: str, images: int
) -> Share:
    """Who gets what, so that no core has two threads that compute: an actor of T threads asks for T - 1/2 CPUs, two
    tasks for the other half. Of GPUs each actor has one. Raises UsageError if that is not there."""
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    kind = device.partition(":")[0]
    if kind == "cuda":
        if (actors or 1) > gpus:
            raise UsageError(f"{actors or 1} GPUs are wanted, Ray knows of {gpus}; use fewer actors or --device cpu")
        actors = actors or gpus
        batch = batch or min(32, max(1, images // (2 * actors)))
        return Share(actors, threads or 1, 0.5, 1, 1 if cpus > 1 else 0.5, batch, "cuda")
    threads = threads or (max(1, cpus // actors) if actors else 1)
    actors = actors or max(1, cpus // threads)
    if actors * threads > cpus:
        raise UsageError(f"{actors} actors of {threads} threads are wanted, there are {cpus} CPUs; use fewer")
    batch = batch or min(8, max(1, images // (2 * actors)))
    return Share(actors, threads, threads - 0.5, 0, 0.25, batch, device)
