"""Bulk inference on many GPUs as a queueing model, simulated event by event; and the sums that go with it.

A picture passes through: the driver (hands it out), the object store (download), its worker's cores (decode), its
worker's GPU, its worker's cores (encode), the object store (upload), the driver (notes the result). Whatever is shared
serves in order of arrival. A worker has one GPU, some cores, and room for a few pictures at once.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count


@dataclass(frozen=True)
class Stages:
    """One picture: seconds on one core, on the GPU, and at the driver; bytes in and out; requests to the store."""

    decode: float
    compute: float
    encode: float
    driver: float
    bytes_in: float
    bytes_out: float
    requests: float = 2.0


@dataclass(frozen=True)
class Fleet:
    """``store`` bytes/s and ``requests`` a second of the object store for all; ``network`` bytes/s of one worker.
    ``latency`` seconds of a transfer. ``room``: pictures at once on a worker. A share ``slow`` of the workers is
    ``slower`` times slower. A worker fails every ``hours`` on average, and is back after ``restart`` seconds; its
    pictures are made again. ``shards``: pictures are dealt out beforehand, not handed out as workers get free."""

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


@dataclass
class Outcome:
    """``seconds`` until the last picture; ``rate`` pictures/s over that; ``steady`` pictures/s while all workers have
    work; ``busy`` share of its time that each kind of server worked until then; ``repeated`` pictures begun again."""

    seconds: float
    rate: float
    steady: float
    busy: dict[str, float]
    repeated: int

    @property
    def bottleneck(self) -> str:
        """What is busiest."""
        return max(self.busy, key=lambda name: self.busy[name])


@dataclass
class _Server:
    """So many slots with one queue; ``busy`` slot-seconds of service given."""

    slots: int
    busy: float = 0.0
    free: int = 0
    queue: deque = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.free = self.slots


class _Simulation:
    def __init__(self, stages: Stages, fleet: Fleet, pictures: int, seed: int) -> None:
        self.stages, self.fleet, self.dice = stages, fleet, random.Random(seed)
        self.now, self.events, self.number = 0.0, [], count()
        self.driver, self.store = _Server(1), _Server(1)
        size = stages.bytes_in + stages.bytes_out
        self.share = max(size / fleet.store / stages.requests, 1 / fleet.requests)  # of the store, for one request
        self.gpu = [_Server(1) for _ in range(fleet.gpus)]
        self.cores = [_Server(fleet.cores) for _ in range(fleet.gpus)]
        slow = round(fleet.slow * fleet.gpus)
        self.pace = [fleet.slower if worker < slow else 1.0 for worker in range(fleet.gpus)]
        self.life = [0] * fleet.gpus  # a worker's failures so far: what was begun in an earlier life is lost
        self.inside = [0] * fleet.gpus
        self.up = [True] * fleet.gpus
        share = -(-pictures // fleet.gpus)
        lots = [min(share, max(0, pictures - share * worker)) for worker in range(fleet.gpus)]
        self.left = lots if fleet.shards else [pictures]
        self.pictures, self.done, self.repeated = pictures, 0, 0
        self.steady_end: tuple[float, int] | None = None
        self.waiting: deque[int] = deque()

    def at(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.number), then))

    def serve(self, server: _Server, seconds: float, then: Callable[[], None]) -> None:
        if not server.free:
            server.queue.append((seconds, then))
            return
        server.free -= 1
        server.busy += seconds

        def finish() -> None:
            server.free += 1
            if server.queue:
                self.serve(server, *server.queue.popleft())
            then()

        self.at(seconds, finish)

    def transfer(self, size: float, requests: float, then: Callable[[], None]) -> None:
        """Through the shared store, then at the worker's own pace."""
        fleet = self.fleet
        self.serve(self.store, self.share * requests, lambda: self.at(fleet.latency + size / fleet.network, then))

    def scarce(self) -> str:
        """What the store runs out of first."""
        found = limits(self.stages, self.fleet)
        return min(("store's bandwidth", "store's requests"), key=lambda name: found[name])

    def lot(self, worker: int) -> int:
        return worker if self.fleet.shards else 0

    def fill(self, worker: int) -> None:
        while self.up[worker] and self.inside[worker] < self.fleet.room:
            if not self.left[self.lot(worker)]:
                if self.steady_end is None:
                    self.steady_end = self.now, self.done
                return
            self.left[self.lot(worker)] -= 1
            self.inside[worker] += 1
            self.begin(worker, self.life[worker])

    def begin(self, worker: int, life: int) -> None:
        stages, pace, half = self.stages, self.pace[worker], self.stages.requests / 2
        cores, gpu = self.cores[worker], self.gpu[worker]

        def alive(then: Callable[[], None]) -> Callable[[], None]:
            return lambda: then() if self.life[worker] == life else None

        def end() -> None:
            self.done += 1
            self.inside[worker] -= 1
            self.fill(worker)

        upload = lambda: self.transfer(stages.bytes_out, half, alive(note))  # noqa: E731
        note = lambda: self.serve(self.driver, stages.driver / 2, alive(end))  # noqa: E731
        encode = lambda: self.serve(cores, stages.encode * pace, alive(upload))  # noqa: E731
        compute = lambda: self.serve(gpu, stages.compute * pace, alive(encode))  # noqa: E731
        decode = lambda: self.serve(cores, stages.decode * pace, alive(compute))  # noqa: E731
        download = lambda: self.transfer(stages.bytes_in, half, alive(decode))  # noqa: E731
        self.serve(self.driver, stages.driver / 2, alive(download))

    def fail(self, worker: int) -> None:
        self.life[worker] += 1
        self.repeated += self.inside[worker]
        self.left[self.lot(worker)] += self.inside[worker]
        self.inside[worker], self.up[worker] = 0, False
        self.gpu[worker] = _Server(1, busy=self.gpu[worker].busy)
        self.cores[worker] = _Server(self.fleet.cores, busy=self.cores[worker].busy)
        self.at(self.fleet.restart, lambda: self.restart(worker))
        if not self.fleet.shards:
            for other in range(self.fleet.gpus):  # who had nothing left to do takes what was lost
                self.fill(other)

    def restart(self, worker: int) -> None:
        self.up[worker] = True
        self.fill(worker)
        self.next_failure(worker)

    def next_failure(self, worker: int) -> None:
        if self.fleet.hours:
            self.at(self.dice.expovariate(1 / (3600 * self.fleet.hours)), lambda: self.fail(worker))

    def run(self) -> Outcome:
        for worker in range(self.fleet.gpus):
            self.fill(worker)
            self.next_failure(worker)
        while self.done < self.pictures:
            self.now, _, then = heapq.heappop(self.events)
            then()
        until, done = self.steady_end or (self.now, self.done)
        busy = {
            "GPU": sum(server.busy for server in self.gpu) / self.fleet.gpus,
            "cores": sum(server.busy for server in self.cores) / (self.fleet.gpus * self.fleet.cores),
            self.scarce(): self.store.busy,
            "driver": self.driver.busy,
        }
        shares = {name: min(1.0, seconds / self.now) for name, seconds in busy.items()}
        return Outcome(self.now, self.done / self.now, done / until if until else 0.0, shares, self.repeated)


def simulate(stages: Stages, fleet: Fleet, pictures: int, seed: int = 0) -> Outcome:
    """That many pictures through a fleet."""
    return _Simulation(stages, fleet, pictures, seed).run()


def limits(stages: Stages, fleet: Fleet) -> dict[str, float]:
    """Pictures/s that each part allows by itself, by name; failures and slow workers as averages."""
    pace = 1 / (1 - fleet.slow + fleet.slow / fleet.slower)
    there = 1.0
    if fleet.hours:
        there = fleet.hours * 3600 / (fleet.hours * 3600 + fleet.restart)
    size = stages.bytes_in + stages.bytes_out
    flight = fleet.latency * 2 + size / fleet.network + stages.decode + stages.compute + stages.encode + stages.driver
    return {
        "GPU": fleet.gpus * there / (stages.compute * pace),
        "cores": fleet.gpus * there * fleet.cores / ((stages.decode + stages.encode) * pace),
        "room on a worker": fleet.gpus * there * fleet.room / (flight * pace),
        "store's bandwidth": fleet.store / size,
        "store's requests": fleet.requests / stages.requests,
        "driver": 1 / stages.driver,
    }


def breaks_at(stages: Stages, fleet: Fleet) -> dict[str, float]:
    """GPUs from which on each shared part is the limit, the first first: the least count at which more GPUs no longer
    help. Parts of a worker grow with the fleet and are infinity, or 1 where they are the limit at once."""
    one = limits(stages, replace(fleet, gpus=1))
    own = {name: one[name] for name in ("GPU", "cores", "room on a worker")}
    rate = min(own.values())
    found = {name: one[name] / rate for name in ("store's bandwidth", "store's requests", "driver")}
    found |= {name: 1.0 for name in ("cores", "room on a worker") if own[name] <= rate < own["GPU"]}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def training_step(compute: float, weights: float, gpus: int, bandwidth: float) -> float:
    """Seconds of a step on so many GPUs at ``bandwidth`` bytes/s each: computing, then a ring exchange of gradients of
    ``weights`` bytes, nothing overlapped (the worst case)."""
    moved = 2 * (gpus - 1) / gpus * weights
    return compute + moved / bandwidth


def dollars_per_million(pictures_per_gpu_hour: float, dollars_per_gpu_hour: float) -> float:
    """Dollars for a million pictures."""
    return 1e6 / pictures_per_gpu_hour * dollars_per_gpu_hour
