"""Many images at once: windows of several share a batch, so that small images fill a GPU too. Whatever goes wrong with
one is that one's."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from realsrt.inference.assemble import Assembled, assemble, assemble_base, with_alpha
from realsrt.inference.request import UpscaleRequest
from realsrt.inference.runner import Runner, View, WindowResult, Windows

Finish = Callable[[UpscaleRequest, list[Assembled]], Any]


@dataclass(eq=False)
class _UnderWay:
    """A job some of whose windows are in a batch, and the views of its inputs' sources."""

    job: UpscaleRequest
    views: list[View]
    failed: bool = False


@dataclass(frozen=True, eq=False)
class _Slot:
    """Which window of which job a place in a batch is for."""

    owner: _UnderWay
    view: View
    index: int


def run_many(
    jobs: Iterable[UpscaleRequest | Exception], runner: Runner, pack: Finish, max_minibatch: int | None
) -> Iterator[Any]:
    """What `pack` makes of each job, or the error it came as or ran into, in order. Jobs are drawn as they are needed:
    those that wait are the ones with windows in the batch that is being filled. All must have the same settings."""
    computed = _computed(jobs, runner, max_minibatch)
    for owner in computed:
        assert not isinstance(owner, WindowResult)
        if isinstance(owner, Exception):
            yield owner
            continue
        try:
            done = pack(owner.job, _assembled(owner, computed))
        except Exception as error:
            owner.failed, done = True, error  # no more of its windows come
        yield done


def _assembled(owner: _UnderWay, computed: Iterator[Any]) -> list[Assembled]:
    """The images of a job whose windows are next in `computed`. Raises the error that comes in place of one."""
    job, views = owner.job, iter(owner.views)

    def windows() -> Iterator[WindowResult]:
        for result in islice(computed, len(job.tiles)):
            if isinstance(result, Exception):
                raise result
            yield result

    steps = job.settings.num_steps
    images = []
    for own in job.inputs:
        parts = [
            assemble(job, view, steps, windows()) if steps else assemble_base(job, view)
            for view in islice(views, len(own.sources))
        ]
        images.append(with_alpha(*parts))
    return images


def _computed(
    jobs: Iterable[UpscaleRequest | Exception], runner: Runner, max_minibatch: int | None
) -> Iterator[_UnderWay | WindowResult | Exception]:
    """Each job, and after it the results of its windows, up to the first that is an error."""
    batch: list[_UnderWay | Exception | _Slot] = []
    slots = 0
    for job in jobs:
        owner = _under_way(job, runner)
        batch.append(owner)
        for slot in [] if isinstance(owner, Exception) else _slots(owner):
            batch.append(slot)
            slots += 1
            if slots >= runner.batch_size(max_minibatch):
                yield from _run(batch, runner)
                batch, slots = [], 0
        if not slots:  # nothing to wait for
            yield from _run(batch, runner)
            batch = []
    yield from _run(batch, runner)


def _under_way(job: UpscaleRequest | Exception, runner: Runner) -> _UnderWay | Exception:
    if isinstance(job, Exception):
        return job
    try:
        sources = [source for own in job.inputs for source in own.sources]
        return _UnderWay(job, [runner.view(source, job.tiles, job.settings) for source in sources])
    except Exception as error:
        return error


def _slots(owner: _UnderWay) -> Iterator[_Slot]:
    for view in owner.views if owner.job.settings.num_steps else ():
        for index in range(len(owner.job.tiles)):
            yield _Slot(owner, view, index)


def _run(batch: list[_UnderWay | Exception | _Slot], runner: Runner) -> Iterator[_UnderWay | WindowResult | Exception]:
    """The batch with results in place of slots; of a job that fails, its first error only."""
    slots = [item for item in batch if isinstance(item, _Slot) and not item.owner.failed]
    found = dict(zip(slots, _advance(slots, runner), strict=True))
    for item in batch:
        if not isinstance(item, _Slot):
            yield item
        elif not item.owner.failed:
            item.owner.failed = isinstance(found[item], Exception)
            yield found[item]


def _advance(slots: list[_Slot], runner: Runner) -> list[WindowResult | Exception]:
    """Take windows through all steps. If that fails, one job after another, so that only the guilty one fails."""
    if not slots:
        return []
    settings = slots[0].owner.job.settings
    try:
        windows = Windows.joined([slot.view.window(slot.owner.job.tiles, slot.index) for slot in slots])
        running = runner.start(list(range(len(slots))), windows, settings)
        for _ in range(1, settings.num_steps):
            running.advance(decode=False)
        results = running.advance()
    except Exception as error:
        owners = list(dict.fromkeys(slot.owner for slot in slots))
        if len(owners) == 1:
            return [error] * len(slots)
        return [result for one in owners for result in _advance([s for s in slots if s.owner is one], runner)]
    return [replace(result, index=slot.index) for slot, result in zip(slots, results, strict=True)]
