"""Bulk inference on many GPUs as sums: what each part of a fleet allows by itself, and so which is the limit.

An image passes through: the driver (hands it out), the object store (download), its worker's cores (decode), its
worker's GPU, its worker's cores (encode), the object store (upload), the driver (notes the result). A worker has one
GPU, some cores, and room for a few images at once.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Stages:
    """One image: seconds on one core, on the GPU, and at the driver; bytes in and out; requests to the store."""

    decode: float
    compute: float
    encode: float
    driver: float
    bytes_in: float
    bytes_out: float
    requests: float = 2.0

    @property
    def seconds(self) -> float:
        """One thing after the other."""
        return self.decode + self.compute + self.encode + self.driver


@dataclass(frozen=True)
class Fleet:
    """``store`` bytes/s and ``requests`` a second of the object store for all; ``network`` bytes/s of one worker.
    ``latency`` seconds of a transfer. ``room``: images at once on a worker. A share ``slow`` of the workers is
    ``slower`` times slower. A worker fails every ``hours`` on average, and is back after ``restart`` seconds.
    ``shards``: images are dealt out beforehand, so that the slow ones end last, not handed out as workers get free."""

    gpus: int = 1
    cores: int = 8
    room: int = 4
    store: float = 12.5e9
    requests: float = 3500.0
    network: float = 1.25e9
    latency: float = 0.05
    slow: float = 0.0
    slower: float = 2.0
    hours: float = 0.0
    restart: float = 300.0
    shards: bool = False


def limits(stages: Stages, fleet: Fleet) -> dict[str, float]:
    """Images/s that each part allows by itself, by name; failures and slow workers as averages."""
    share = 1 / fleet.slower if fleet.shards and fleet.slow else 1 - fleet.slow + fleet.slow / fleet.slower
    there = fleet.hours * 3600 / (fleet.hours * 3600 + fleet.restart) if fleet.hours else 1.0
    workers, size = fleet.gpus * share * there, stages.bytes_in + stages.bytes_out
    flight = fleet.latency * 2 + size / fleet.network + stages.seconds
    return {
        "GPU": workers / stages.compute,
        "cores": workers * fleet.cores / (stages.decode + stages.encode),
        "room on a worker": workers * fleet.room / flight,
        "store's bandwidth": fleet.store / size,
        "store's requests": fleet.requests / stages.requests,
        "driver": 1 / stages.driver,
    }


def limit(stages: Stages, fleet: Fleet) -> tuple[str, float]:
    """The part that allows the least, and how many images/s that is."""
    return min(limits(stages, fleet).items(), key=lambda item: item[1])


def breaks_at(stages: Stages, fleet: Fleet) -> dict[str, float]:
    """GPUs from which on each shared part is the limit, the first first: more of them no longer help."""
    one = limits(stages, replace(fleet, gpus=1))
    rate = min(one[name] for name in ("GPU", "cores", "room on a worker"))
    found = {name: one[name] / rate for name in ("store's bandwidth", "store's requests", "driver")}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def training_step(compute: float, weights: float, gpus: int, bandwidth: float) -> float:
    """Seconds of a step on so many GPUs at ``bandwidth`` bytes/s each: computing, then a ring exchange of gradients of
    ``weights`` bytes, nothing overlapped (the worst case)."""
    return compute + 2 * (gpus - 1) / gpus * weights / bandwidth
