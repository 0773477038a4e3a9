"""The parts of a running service, and what requests do with them."""

import secrets
import time
from pathlib import Path

import numpy as np

from realsrt.errors import ImageError, UsageError
from realsrt.inference.request import make_request
from realsrt.inference.upscaler import Upscaler
from realsrt.io import image as imageio
from realsrt.server.live import Live
from realsrt.server.logs import say
from realsrt.server.maker import Maker
from realsrt.server.metrics import Metrics
from realsrt.server.options import Regeneration
from realsrt.server.problems import refuse
from realsrt.server.records import JobRecord
from realsrt.server.settings import ServerSettings
from realsrt.server.store import JobStore, QueueFull
from realsrt.server.uploads import Upload
from realsrt.server.worker import Worker
from realsrt.version import __version__

_ENLARGED = 16  # pixels of a result for each that an input may have: x4
_OVERLAP = 4  # strides to a window, at most: less takes needlessly many windows


class Service:
    """Made of settings and a loaded model. `start` and `stop` once each."""

    def __init__(self, settings: ServerSettings, up: Upscaler) -> None:
        """Raises RealSRTError if the data folder cannot be used."""
        self.settings, self.up, self.live = settings, up, Live()
        self.store = JobStore(settings.data)
        self.metrics = Metrics(lambda: self.store.count("queued"), lambda: self.store.count("running"))
        self.worker = Worker(Maker(up, settings.max_pixels), self.store, self.live, self.metrics, settings.keep)
        self.stopping = False

    def start(self) -> None:
        waiting, begun = self.store.recover(self.settings.keep)
        self.worker.start()
        say(
            "service.started", version=__version__, model=self.up.model.info.source, device=str(self.up.device),
            waiting=waiting, begun=begun, keys=bool(self.settings.keys),
        )  # fmt: skip

    def will_stop(self) -> None:
        """Event streams end, so that connections do."""
        self.stopping = True
        self.live.wake_all()

    def stop(self) -> None:
        self.will_stop()
        self.worker.stop()
        self.worker.join()
        self.store.close()
        say("service.stopped")

    @property
    def ready(self) -> bool:
        return self.worker.is_alive() and not self.stopping

    def job(self, id: str, owner: str) -> JobRecord:
        """Raises a 404 for what is not there or another's."""
        record = self.store.get(id)
        if record is None or record.owner != owner:
            raise refuse(404, "there is no such job")
        return record

    def check_room(self) -> None:
        """Raises a 429 if no further job can wait."""
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
        """A new job that makes a finished one's result again, and then a part of it anew. Raises refusals."""
        self.need_done(parent)
        width, height = parent.out_size
        if edit.box and not (edit.box[2] <= width and edit.box[3] <= height):
            raise refuse(422, f"box: reaches outside the result of {width}x{height} pixels")
        record = JobRecord(
            secrets.token_hex(12), parent.owner, parent.name, "queued", parent.options, parent.suffix, parent.width,
            parent.height, time.time(), (*parent.edits, edit), parent.id,
        )  # fmt: skip
        self._add(record, self.store.input(parent.id), link=True)
        return record

    def need_done(self, record: JobRecord) -> None:
        """Raises 409 or 410 where there is no result."""
        if record.state == "expired":
            raise refuse(410, "the files of this job have been removed")
        if record.state != "done":
            raise refuse(409, f"the job is {record.state}{f': {record.error}' if record.error else ''}")

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

    def _full(self) -> Exception:
        running = self.store.ahead()[:1]
        wait = self.live.estimate(running[0].work) if running else None
        seconds = max(1, min(600, round(wait or 1)))
        detail = f"{self.settings.max_queue} jobs are waiting already; try again in {seconds} s"
        return refuse(429, detail, {"Retry-After": str(seconds)})

    def _check(self, record: JobRecord, has_alpha: bool) -> None:
        """Whether the model, the format and this service's limits allow it."""
        options, config = record.options, self.up.model.config
        asked = options.upscaling
        try:
            tiles = make_request(np.zeros((8, 8, 3), np.uint8), asked, config).tiles
        except UsageError as error:
            raise refuse(422, str(error)) from None
        if asked.stride is not None and tiles.stride * _OVERLAP < tiles.window:
            least = -(-tiles.window // _OVERLAP)
            raise refuse(422, f"stride must be at least {least}, a quarter of the tile, got {asked.stride}")
        width, height = record.out_size
        limit = self.settings.max_pixels * _ENLARGED
        if width * height > limit:
            raise refuse(413, f"the result of {width}x{height} would be above the limit of {limit:,} pixels")
        try:
            imageio.check_output(Path(f"result{record.suffix}"), width, height, has_alpha)
        except ImageError as error:
            raise refuse(422, str(error)) from None


def _needs_alpha(upload: Upload, suffix: str) -> bool:
    """Whether the result of a picture with alpha has to have it too; looks into it only where the format holds none."""
    try:
        return imageio.output_format(f"result{suffix}").alpha or imageio.is_transparent(upload.path)
    except ImageError as error:
        raise refuse(422, str(error).replace(str(upload.path), upload.name)) from None
