"""What all workers know of a run, and the two ends of an image's way: reading it, and putting its files in place."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from realsrt.batch.outputs import Files, Finished
from realsrt.batch.plan import FileJob
from realsrt.batch.process import read_image, save_image
from realsrt.batch.report import about
from realsrt.bulk.results import BulkRecord, bulk_record
from realsrt.bulk.sources import Item
from realsrt.bulk.state import State, missing, write_state
from realsrt.bulk.store import OutputStore, fingerprint, is_local, open_store
from realsrt.errors import ImageError, renamed
from realsrt.inference.options import UpscaleOptions
from realsrt.io.files import file_sha256, open_fs
from realsrt.io.metadata.provenance import Provenance, provenance

if TYPE_CHECKING:
    from realsrt.inference.result import Upscaled
    from realsrt.io.picture import Picture


@dataclass(frozen=True)
class BulkRun:
    """One run: `settings` decide about the outputs' bytes, `options` are those of `Upscaler.upscale`, `weights` are
    loaded as `model`. `large`: bytes of an uncompressed result from which an image stays with its actor."""

    output: str
    options: UpscaleOptions
    files: Files
    settings: Mapping[str, Any]
    weights: str
    model: str
    model_sha256: str
    device: str
    precision: str
    threads: int
    max_tries: int
    large: int = 2**26
    run: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def made(self) -> Provenance | None:
        noted = self.options.pixel_options()
        return provenance(self.model, self.model_sha256, noted) if self.files.provenance else None

    @property
    def store(self) -> OutputStore:
        return open_store(self.output)

    def outcome(self, item: Item, status: str, reason: str | None = None, **more: Any) -> BulkRecord:
        shown = f"{self.store.shown}/{item.target}"
        return BulkRecord(item.shown, shown, status, reason, key=item.key, **more)

    def failure(self, item: Item, problem: BaseException, digest: str = "", path: Path | None = None) -> BulkRecord:
        """Recorded, so that the next run tries it afresh."""
        reason = about(item.shown, ImageError(said(str(problem), item, path)) if path else problem)
        outcome = self.outcome(item, "failed", reason, input_sha256=digest or None)
        state = State(item.key, digest, self.settings, "failed", self.run, record=asdict(outcome), worker=worker())
        with contextlib.suppress(OSError):  # the failure may be the store's
            write_state(self.store, state)
        return outcome

    def past(self, item: Item, state: State, digest: str) -> BulkRecord | str:
        """The outcome of an image whose output is there, or why it has to be made."""
        why = missing(self.store, state, item.target, digest, self.settings)
        if why:
            return why
        outcome = bulk_record(dict(state.record))
        if state.run == self.run:  # a worker died between writing and saying so
            return outcome
        return replace(outcome, status="skipped", reason="the output is there, of this input and these settings")


def worker() -> str:
    return f"{os.uname().nodename if hasattr(os, 'uname') else ''}:{os.getpid()}"


def said(text: str, item: Item, path: Path | None) -> str:
    """What was said of a temporary file, said of the image."""
    return text if path is None else renamed(text, path, item.shown)


@contextlib.contextmanager
def fetched(item: Item) -> Iterator[tuple[Path, str]]:
    """The image as a file on this machine, and its hash. Raises OSError, ImageError."""
    import tempfile

    if item.problem:
        raise ImageError(item.problem)
    fs, path = open_fs(item.uri)
    if is_local(fs) and item.start is None:
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise ImageError(f"{path}: is a pipe or a device, not an image's file")
        yield Path(path), file_sha256(Path(path)) if os.path.isfile(path) else ""
        return
    end = None if item.start is None or item.length is None else item.start + item.length
    content = fs.cat_file(path, start=item.start, end=end)
    with tempfile.TemporaryDirectory(prefix="realsrt-") as folder:
        file = Path(folder) / PurePosixPath(item.key).name
        file.write_bytes(content)
        yield file, hashlib.sha256(content).hexdigest()


def read_item(work: BulkRun, item: Item, path: Path) -> "Picture":
    """Decoded, and its output known to be possible. Raises ImageError."""
    target, local = PurePosixPath(item.target), work.store.local
    path_or_name = Path(work.store.path(item.target)) if local else target
    image = read_image(path, path_or_name, work.options, work.files, local=local)
    return replace(image, source=None, notices=tuple(said(notice, item, path) for notice in image.notices))


def is_large(work: BulkRun, path: Path) -> bool:
    """Whether an image, by its header, has a result that should not go from process to process. Raises ImageError."""
    from realsrt.io import image as imageio

    header = imageio.header(path, max_pixels=work.files.max_pixels)
    width, height = work.options.out_size(header.width, header.height)
    return width * height * header.pixel_bytes > work.large


def put_in_place(
    work: BulkRun,
    item: Item,
    digest: str,
    size: tuple[int, int],
    out: "Upscaled | Finished",
    tries: int,
    seconds: float,
) -> BulkRecord:
    """Write the files of an input of `size`: encoded aside, hashes recorded, then put in place, the image last."""
    store = work.store
    with store.scratch() as folder:
        path = folder / PurePosixPath(item.target).name
        try:
            record, made = save_image(
                FileJob(Path(item.uri), path), out, work.files, work.made, size=size, seconds=seconds, model=work.model,
                model_sha256=work.model_sha256,
            )  # fmt: skip
        except ImageError as problem:
            raise ImageError(renamed(problem, path, f"{store.shown}/{item.target}")) from problem
        prints = {file.name: fingerprint(file) for file in made}
        told = work.outcome(item, "done", input_sha256=digest, output_sha256=prints[path.name]["sha256"], tries=tries)
        measured = {key: value for key, value in asdict(record).items() if key not in ("source", "target")}
        notices = (*out.image.notices, *(said(notice, item, path) for notice in record.notices))
        outcome = replace(told, **{**measured, "notices": notices})
        state = State(
            item.key, digest, work.settings, "done", work.run, tries, outputs=prints, record=asdict(outcome),
            worker=worker(),
        )  # fmt: skip
        write_state(store, state)
        for file in made:
            store.publish(file, (PurePosixPath(item.target).parent / file.name).as_posix())
    return outcome


def tries_before(work: BulkRun, state: State, digest: str) -> int:
    """How often this image was begun with these settings and came to no end."""
    same = state.input == digest and state.settings == work.settings and state.status in ("reading", "trying")
    return state.tries if same else 0


@contextlib.contextmanager
def reading(work: BulkRun, item: Item, digest: str, state: State) -> Iterator[None]:
    """Counts reads in this run that came to no end. Raises ImageError if there were too many."""
    again = state.run == work.run and state.status == "reading"
    before = state.reads if again else 0
    if before >= max(2, work.max_tries):  # others of its task are read again too: once is not enough to blame it
        raise ImageError(f"has killed the process that read it {before} times")
    tries = tries_before(work, state, digest)
    mark = State(item.key, digest, work.settings, "reading", work.run, tries, before + 1, worker=worker())
    write_state(work.store, mark)
    yield
    if before:
        write_state(work.store, replace(mark, reads=before))


def begin_computing(work: BulkRun, item: Item, digest: str, tries: int) -> None:
    write_state(work.store, State(item.key, digest, work.settings, "trying", work.run, tries, worker=worker()))
