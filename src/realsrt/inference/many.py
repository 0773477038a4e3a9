"""Many pictures at once: windows of several share a batch, so that small pictures fill a GPU too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from realsrt.errors import RealSRTError
from realsrt.inference.assemble import Blended, ImageAssembler, base_picture
from realsrt.inference.request import UpscaleRequest
from realsrt.inference.runner import Runner, View, Windows

Finish = Callable[[UpscaleRequest, list[Blended]], Any]


class _WindowSlot:
    """Where one window comes from and belongs."""

    def __init__(self, under_way: _UnderWay, view: View, mosaic: ImageAssembler, index: int) -> None:
        self.under_way, self.mosaic, self.index = under_way, mosaic, index
        self._view = view

    def window(self) -> Windows:
        return self._view.window(self.under_way.job.tiles, self.index)


class _UnderWay:
    """One picture whose windows are on their way, or the reason why there are none."""

    def __init__(self, job: UpscaleRequest | None, error: RealSRTError | None = None) -> None:
        self._job, self.error = job, error
        self._mosaics = [ImageAssembler(job, job.settings.num_steps, source) for source in job.inputs] if job else []
        self.waiting = len(self._mosaics) * len(job.tiles) if job and job.settings.num_steps else 0

    @property
    def job(self) -> UpscaleRequest:
        assert self._job is not None
        return self._job

    def places(self, runner: Runner) -> Iterator[_WindowSlot]:
        """Where its windows belong; none where it has failed or has none."""
        if self._job is None:
            return
        for source, mosaic in zip(self.job.inputs, self._mosaics, strict=True):
            try:
                view = runner.view(source, self.job.tiles, self.job.settings)
                if not self.job.settings.num_steps:
                    base_picture(self.job, view, mosaic, lambda _: None)
                    continue
            except RealSRTError as error:
                self.fail(error)
                return
            for index in range(len(self.job.tiles)):
                yield _WindowSlot(self, view, mosaic, index)

    def fail(self, error: RealSRTError) -> None:
        self.error, self.waiting = error, 0

    def result(self, pack: Finish) -> Any:
        return self.error or pack(self.job, [mosaic.finish() for mosaic in self._mosaics])


def run_many(
    jobs: Iterable[UpscaleRequest | RealSRTError], runner: Runner, pack: Finish, max_minibatch: int | None
) -> Iterator[Any]:
    """What `pack` makes of each job, or the error it came as or ran into, in order. Jobs are drawn as they are needed:
    those that wait are the ones with windows in the batch that is being filled. All must have the same settings."""
    queue: deque[_UnderWay] = deque()
    batch: list[_WindowSlot] = []
    size = runner.batch_size(max_minibatch)
    for job in jobs:
        queue.append(_UnderWay(None, job) if isinstance(job, RealSRTError) else _UnderWay(job))
        for place in queue[-1].places(runner):
            batch.append(place)
            if len(batch) >= size:
                _fly(batch, runner)
                batch, size = [], runner.batch_size(max_minibatch)
        while queue and not queue[0].waiting:
            yield queue.popleft().result(pack)
    if batch:
        _fly(batch, runner)
    while queue:
        yield queue.popleft().result(pack)


def _fly(batch: list[_WindowSlot], runner: Runner) -> None:
    """Take windows through all steps. If that fails, one picture after another, so that only the guilty one fails."""
    batch = [place for place in batch if place.under_way.error is None]
    if not batch:
        return
    settings = batch[0].under_way.job.settings
    try:
        flight = runner.start(list(range(len(batch))), Windows.joined([place.window() for place in batch]), settings)
        for _ in range(1, settings.num_steps):
            flight.advance(decode=False)
        results = flight.advance()
    except RealSRTError as error:
        pictures = list(dict.fromkeys(place.under_way for place in batch))
        if len(pictures) == 1:
            pictures[0].fail(error)
        else:
            for picture in pictures:
                _fly([place for place in batch if place.under_way is picture], runner)
        return
    for place, result in zip(batch, results, strict=True):
        place.mosaic.add([replace(result, index=place.index)])
        place.under_way.waiting -= 1
