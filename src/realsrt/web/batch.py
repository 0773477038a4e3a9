"""Many pictures one after another, into one zip; a bad one is named and the rest done. No Gradio here."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from realsrt.batch.plan import FileJob
from realsrt.batch.process import process_image
from realsrt.batch.report import Record
from realsrt.errors import UsageError
from realsrt.web.choices import Choices
from realsrt.web.engine import Cancelled, Engine, named, plainly
from realsrt.web.running import Progress, Put, waiting, watched
from realsrt.web.session import Session

MOST = 200  # files a time


@dataclass(frozen=True)
class RowUpdate:
    """What has become of file `number`: a Record whose target is the name in the zip."""

    number: int
    record: Record


@dataclass(frozen=True)
class BatchFinished:
    """The zip, if anything was made; `why` it ended early, if it did."""

    path: Path | None
    why: str = ""


def run(
    engine: Engine, session: Session, uploads: list[Path], choices: Choices
) -> Iterator[Progress | RowUpdate | BatchFinished]:
    """Upscale every file into a zip of `session`. A cancelled batch keeps what is done. Raises UsageError."""
    if not uploads:
        raise UsageError("drop pictures first")
    if len(uploads) > MOST:
        raise UsageError(
            f"{len(uploads)} files at a time are too many here, at most {MOST}; use realsrt upscale FOLDER"
        )
    names, stop = target_names(uploads, choices), session.stop

    def work(put: Put) -> None:
        made, why = [], ""
        archive = session.place("realsrt.zip")
        try:
            with engine.job(stop, waiting(put)):
                for number, (upload, name) in enumerate(zip(uploads, names, strict=True)):
                    put(RowUpdate(number, Record(upload.name, name, "working")))
                    target = archive.with_name(name)
                    record = _one(engine, stop, upload, target, choices, put, f"{number + 1} of {len(uploads)}")
                    made += [target] if record.status == "done" else []
                    put(RowUpdate(number, record))
        except Cancelled as end:
            why = str(end)
        put(BatchFinished(_zipped(archive, made), why))

    if session.batch:
        session.batch.unlink(missing_ok=True)
    for item in watched(work, stop):
        if isinstance(item, BatchFinished):
            session.batch = item.path
        yield item


def target_names(uploads: list[Path], choices: Choices) -> list[str]:
    """A name for each in the zip, all different whatever the case: the second `a.png` is `a_2_x4.png`."""
    names: list[str] = []
    taken: set[str] = set()
    for upload in uploads:
        name, count = choices.target(upload), 1
        while name.lower() in taken:
            count += 1
            name = choices.target(upload.with_stem(f"{upload.stem}_{count}"))
        taken.add(name.lower())
        names.append(name)
    return names


def _one(
    engine: Engine, stop: threading.Event, upload: Path, target: Path, choices: Choices, put: Put, place: str
) -> Record:
    """Make one file; its failure is a record. Raises Cancelled."""
    what = f"{upload.name} ({place})"
    on_progress = engine.watch(stop, lambda done, total, left: put(Progress(done, total, left, what)))
    try:
        up, files = engine.upscaler(choices.model), choices.files(engine.max_pixels)
        record = process_image(up, FileJob(upload, target), choices, files, on_progress)
    except (Cancelled, UsageError):
        raise
    except Exception as problem:
        return Record(upload.name, target.name, "failed", reason=_of(upload, plainly(problem, upload)))
    notices = tuple(_of(upload, named(notice, upload)) for notice in record.notices)
    return replace(record, source=upload.name, target=target.name, notices=notices)


def _of(upload: Path, text: str) -> str:
    """Without the file's name, which stands before it in the row."""
    return text.removeprefix(f"{upload.name}: ")


def _zipped(archive: Path, made: list[Path]) -> Path | None:
    """The files in one archive, uncompressed as they are compressed already, and gone themselves."""
    if not made:
        return None
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for path in made:
            packed.write(path, path.name)
            path.unlink()
    return archive
