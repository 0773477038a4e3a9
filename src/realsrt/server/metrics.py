"""Figures for Prometheus."""

from collections.abc import Callable
from http import HTTPMethod

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)


class Metrics:
    """Counted since the start, in a registry of its own; `waiting` and `running` are asked for when they are read."""

    def __init__(self, waiting: Callable[[], float], running: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        here = self._registry
        Gauge("realsrt_jobs_waiting", "Jobs in the queue", registry=here).set_function(waiting)
        Gauge("realsrt_jobs_running", "Jobs being computed", registry=here).set_function(running)
        self._jobs = Counter("realsrt_jobs", "Jobs that ended, by how", ["state"], registry=here)
        self._seconds = Histogram("realsrt_job_seconds", "Time to compute a job", buckets=_SECONDS, registry=here)
        self._pixels = Counter("realsrt_input_pixels", "Input pixels of finished jobs", registry=here)
        by = ["method", "route", "status"]
        self._requests = Counter("realsrt_requests", "Requests, by route and status", by, registry=here)
        self._took = Histogram(
            "realsrt_request_seconds", "Time to answer a request", ["route"], buckets=_SECONDS, registry=here
        )
        for state in ("done", "failed", "cancelled"):
            self._jobs.labels(state)

    def ended(self, state: str, seconds: float | None = None, pixels: int = 0) -> None:
        self._jobs.labels(state).inc()
        self._pixels.inc(pixels)
        if seconds is not None:
            self._seconds.observe(seconds)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is the pattern, not the path, and `method` one of HTTP's own, so that there are few of them."""
        method = method if method in set(HTTPMethod) else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._took.labels(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)
