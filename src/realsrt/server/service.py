"""The parts of a running service, and what requests do with them."""

import secrets
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from realsrt.errors import ImageError, UsageError, renamed
from realsrt.evaluation.trust import calibrated_options
from realsrt.imaging import tiling
from realsrt.inference.regions import CELL
from realsrt.inference.request import UpscaleRequest, make_request
from realsrt.inference.upscaler import Upscaler
from realsrt.io import image as imageio
from realsrt.server.cells import MOST_RUNS, runs_of
from realsrt.server.live import Live
from realsrt.server.logs import say
from realsrt.server.maker import Maker
from realsrt.server.metrics import Metrics
from realsrt.server.options import JobOptions, Regeneration
from realsrt.server.pace import Pace
from realsrt.server.problems import RETRY_FULL, refuse
from realsrt.server.process import ProcessMaker
from realsrt.server.records import JobRecord
from realsrt.server.settings import ServerSettings
from realsrt.server.store import JobStore, QueueFull
from realsrt.server.trust import TrustMask, calibration_of, read
from realsrt.server.uploads import UnderWay, Upload
from realsrt.server.visitors import VISITOR
from realsrt.server.worker import Worker
from realsrt.version import __version__

_ENLARGED = 16  # pixels of a result for each that an input may have: x4
_OVERLAP = 4  # strides to a window, at most: less takes needlessly many windows
_LARGEST = 4  # times the model's own window, at most: attention's time grows with its fourth power
_WORK = 2  # times the work of the largest input at the model's own options, at most
_MOST_EDITS = 100  # one after another, as every job keeps all of them
_MOST_RUNS = 2 * MOST_RUNS  # of painted cells in all of them
_LEAST_WORK = 1000  # windows times steps that are always allowed


class Service:
    """Made of settings and what computes. `start` and `stop` once each."""

    def __init__(self, settings: ServerSettings, up: Upscaler | ProcessMaker) -> None:
        """An Upscaler computes in this process, and cannot be ended in the middle of a window or of writing a file.
        Raises RealSRTError if the data folder or the calibration cannot be used."""
        self.settings, self.up, self.live, self.pace = settings, up, Live(), Pace(up.model.config)
        self.calibration = calibration_of(up.model.info.sha256, settings.calibration)
        self.uploads = UnderWay()
        self.store = JobStore(settings.data)
        self.metrics = Metrics(lambda: self.store.count("queued"), lambda: self.store.count("running"))
        self._maker = up if isinstance(up, ProcessMaker) else Maker(up, settings.max_pixels)
        self.worker = Worker(self._maker, self.store, self.live, self.pace, self.metrics, settings)
        self.stopping = self._stopped = False

    def start(self) -> None:
        waiting, begun = self.store.recover(self.settings.keep)
        self.worker.start()
        say(
            "service.started", version=__version__, model=self.up.model.info.source, device=str(self.up.device),
            waiting=waiting, begun=begun, keys=bool(self.settings.keys),
        )  # fmt: skip

    def will_stop(self) -> None:
        """Event streams end, so that connections do; the current job has some seconds from now on."""
        self.stopping = True
        self.worker.stop()
        self.live.wake_all()

    def stop(self) -> None:
        """What visitors sent goes, if the service was told that it will stop: not where it could not begin."""
        if self._stopped:
            return
        asked, self._stopped = self.stopping, True
        self.will_stop()
        self.worker.join()
        self._maker.close()
        if asked and not self.settings.keep_visitors and (gone := self.store.forget(VISITOR)):
            say("visitors.forgotten", count=gone)
        self.store.close()
        say("service.stopped")

    @property
    def unready(self) -> str:
        """Why no job can be computed now, or ""."""
        if self.stopping or not self.worker.is_alive():
            return "the service is stopping, or its worker has ended"
        return "the service's disk is full; jobs wait for room" if self.worker.full else self.worker.trouble

    def job(self, id: str, owner: str) -> JobRecord:
        """Raises a 404 for what is not there or another's."""
        record = self.store.get(id)
        if record is None or record.owner != owner:
            raise refuse(404, "there is no such job")
        return record

    def check_room(self) -> None:
        """Raises a 429 if no further job can wait, a 507 if the disk is full."""
        if self.worker.full:
            raise refuse(507, "the service's disk is full; try again later", RETRY_FULL)
        if self.store.count("queued") >= self.settings.max_queue:
            raise self._full()

    def submit(self, upload: Upload, owner: str) -> JobRecord:
        """An upload becomes a job. Raises refusals: 413, 422, 429."""
        try:
            options, header = upload.options, upload.header
            suffix = options.suffix(header.format)
            record = JobRecord(
                secrets.token_hex(12), owner, upload.name, "queued", options, suffix, header.width, header.height,
                time.time(),
            )  # fmt: skip
            self._check(record, header.has_alpha and _needs_alpha(upload, suffix))
            self._add(record, upload.path)
            return record
        finally:
            upload.path.unlink(missing_ok=True)

    def regenerate(self, parent: JobRecord, edit: Regeneration) -> JobRecord:
        """A new job: a finished one's result with a part of it generated anew. Raises refusals."""
        self.need_done(parent)
        width, height = parent.out_size
        runs = sum(len(one.cells or ()) for one in (*parent.edits, edit))
        if len(parent.edits) >= _MOST_EDITS or runs > _MOST_RUNS:
            raise refuse(422, f"{len(parent.edits)} parts of this result are regenerated already, one after another; "
                              "go on from an earlier one")  # fmt: skip
        cell = CELL - 1 if edit.cells else 0  # those at the border may reach beyond it
        if edit.bounds and not (edit.bounds[2] <= width + cell and edit.bounds[3] <= height + cell):
            raise refuse(
                422, f"{'cells' if edit.cells else 'box'}: reaches outside the result of {width}x{height} pixels"
            )
        return self._follow(parent, parent.options, (*parent.edits, edit))

    def pick(self, parent: JobRecord, candidate: int) -> JobRecord:
        """A new job: another candidate of what a finished one has regenerated last. Raises refusals."""
        self.need_done(parent)
        if not parent.edits or candidate > parent.edits[-1].sampling.candidates:
            raise refuse(422, "candidate: there is no such candidate")
        last = parent.edits[-1].model_copy(update={"pick": candidate})
        return self._follow(parent, parent.options, (*parent.edits[:-1], last))

    def upscale(self, parent: JobRecord, options: JobOptions) -> JobRecord:
        """A new job: the input of a finished one with other options. Raises refusals."""
        self.need_done(parent)
        same = replace(options.upscaling, strength=1.0) == replace(parent.options.upscaling, strength=1.0)
        return self._follow(parent, options, parent.edits if same else ())

    def _follow(self, parent: JobRecord, options: JobOptions, edits: tuple[Regeneration, ...]) -> JobRecord:
        source = self.store.input(parent.id)
        try:
            header = imageio.header(source, max_pixels=2**62)
        except ImageError:
            raise refuse(410, "the files of this job have been removed") from None
        suffix = options.suffix(header.format)
        record = JobRecord(
            secrets.token_hex(12), parent.owner, parent.name, "queued", options, suffix, parent.width, parent.height,
            time.time(), edits, parent.id,
        )  # fmt: skip
        self.check_room()
        self._check(record, header.has_alpha)
        self._add(record, source, link=True)
        return record

    def need_done(self, record: JobRecord) -> None:
        """Raises 409 or 410 where there is no result."""
        if record.state == "expired":
            raise refuse(410, "the files of this job have been removed")
        if record.state != "done":
            raise refuse(409, f"the job is {record.state}{f': {record.error}' if record.error else ''}")

    def trust(self, record: JobRecord, level: float, bound: float) -> TrustMask:
        """Raises refusals: 404 where nothing is promised, 422 for what cannot be."""
        self.need_done(record)
        if self.calibration is None:
            raise refuse(404, "there is no calibration for these weights")
        first = read(self.store.folder(record.id))
        if first is None:
            raise refuse(404, "there is no confidence of this job")
        options = calibrated_options(
            record.options.upscaling.pixel_options(), self.up.precision, self.up.window_precision, self.up.model.config
        )
        try:
            self.calibration.check(self.up.model.info.sha256, options)
        except UsageError as error:
            raise refuse(404, str(error)) from None
        try:
            threshold = self.calibration.threshold(level, bound, first.confidence_hw)
        except UsageError as error:
            raise refuse(422, str(error)) from None
        cells_hw, error, share = first.mask(threshold, bound, *record.out_size)
        return TrustMask(level=level, error=error, about=self.calibration.images, share=share, cells=runs_of(cells_hw))

    def cancel(self, record: JobRecord) -> JobRecord:
        """A job that has not ended is cancelled; the files of one that has are removed."""
        if self.store.end(record.id, "cancelled", self.settings.keep, of=("queued",)):
            self.store.drop_files(record.id)
            self.metrics.ended("cancelled")
        elif self.store.end(record.id, "cancelled", self.settings.keep, of=("running",)):
            self.worker.drop(record.id)
            self.metrics.ended("cancelled")
        else:
            self.store.expire_one(record.id)
        self.live.changed(record.id)
        say("job.cancelled", id=record.id, owner=record.owner)
        return self.store.get(record.id) or record

    def _add(self, record: JobRecord, source: Path, *, link: bool = False) -> None:
        if record.owner.startswith(VISITOR):
            self._check_visitor(record.owner)
        try:
            self.store.add(record, source, limit=self.settings.max_queue, link=link)
        except QueueFull:
            raise self._full() from None
        except FileNotFoundError:
            raise refuse(410, "the files of this job have been removed") from None
        say(
            "job.queued", id=record.id, owner=record.owner, pixels=record.width * record.height, edits=len(record.edits)
        )
        self.worker.wake()

    def _check_visitor(self, owner: str) -> None:
        """Raises a 429 for who has the half of the queue, or has as much here as a visitor may."""
        waiting, held = self.store.count("queued", owner), self.store.count("done", owner)
        if waiting >= max(1, self.settings.max_queue // 2):
            raise refuse(429, f"{waiting} of your pictures are waiting already; try again later", {"Retry-After": "5"})
        if waiting + held >= self.settings.visitor_jobs:
            raise refuse(
                429, f"you have {held} results here, as many as a visitor may; remove some", {"Retry-After": "60"}
            )

    def _full(self) -> Exception:
        wait = self.pace.seconds(self.store.ahead(most=1))
        seconds = max(1, min(600, round(wait or 1)))
        detail = f"{self.settings.max_queue} jobs are waiting already; try again in {seconds} s"
        return refuse(429, detail, {"Retry-After": str(seconds)})

    def _check(self, record: JobRecord, has_alpha: bool) -> None:
        """Whether the model, the format and this service's limits allow it."""
        self._check_work(record)
        width, height = record.out_size
        limit = self.settings.max_pixels * _ENLARGED
        if width * height > limit:
            raise refuse(413, f"the result of {width}x{height} would be above the limit of {limit:,} pixels")
        try:
            imageio.check_output(Path(f"result{record.suffix}"), width, height, has_alpha)
        except ImageError as error:
            raise refuse(422, str(error)) from None

    def _check_work(self, record: JobRecord) -> None:
        """Raises a 422 for what would not be done in any reasonable time."""
        asked, config = record.options.upscaling, self.up.model.config
        try:
            request = make_request(np.zeros((8, 8, 3), np.uint8), asked, config)
        except UsageError as error:
            raise refuse(422, str(error)) from None
        tiles = request.tiles
        if asked.stride is not None and tiles.stride * _OVERLAP < tiles.window:
            least = -(-tiles.window // _OVERLAP)
            raise refuse(422, f"stride must be at least {least}, a quarter of the tile, got {asked.stride}")
        if tiles.window > (largest := _LARGEST * config.window):
            raise refuse(422, f"tile must be at most {largest} for this model, got {tiles.window}")
        side = round(self.settings.max_pixels**0.5)
        usual = len(tiling.plan(side, side, config.window, config.stride)) * max(1, config.num_steps)
        rounds = 1 + sum(edit.sampling.candidates for edit in record.edits)
        work = rounds * _window_steps(request, record.height, record.width) * (tiles.window / config.window) ** 4
        if work > (allowed := max(_LEAST_WORK, _WORK * usual)):
            raise refuse(
                422,
                f"this is {work / allowed:,.1f} times the work that a job may be; take a smaller picture, "
                "fewer steps or candidates, a smaller tile or a larger stride",
            )


def _window_steps(request: UpscaleRequest, height: int, width: int) -> int:
    tiles = tiling.plan(height, width, request.tiles.window, request.tiles.stride)
    return len(tiles) * max(1, request.settings.num_steps)


def _needs_alpha(upload: Upload, suffix: str) -> bool:
    """Whether the result of a picture with alpha has to have it too; looks into it only where the format holds none."""
    try:
        return imageio.output_format(f"result{suffix}").alpha or imageio.is_transparent(upload.path)
    except ImageError as error:
        raise refuse(422, renamed(error, upload.path, upload.name)) from None
