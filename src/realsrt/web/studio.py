"""What the page does with one picture: open, upscale, redo a region, pick, undo, export. No Gradio here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from realsrt.batch.process import provenance_of, read_image, upscale_rows
from realsrt.errors import ImageError, UsageError
from realsrt.io import image as imageio
from realsrt.web import previews
from realsrt.web.choices import Choices
from realsrt.web.engine import Cancelled, Engine, named
from realsrt.web.running import Progress, Put, waiting, watched
from realsrt.web.session import Session, Version

if TYPE_CHECKING:
    from realsrt.io.picture import Picture

LIVE = 640_000  # input pixels up to which all windows are kept in flight: a preview after each step, and redoing


@dataclass(frozen=True)
class StepPreview:
    """The picture after a step is ready to be looked at, as a file beside the input's."""

    number: int
    count: int
    before: Path
    after: Path


def open_picture(engine: Engine, session: Session, uploaded: Path) -> imageio.Header:
    """Take a file in place of what there was. Raises ImageError."""
    session.close()
    header = imageio.header(uploaded, max_pixels=engine.max_pixels)
    session.source, session.size = session.take(uploaded), (header.width, header.height)
    return header


def first_look(engine: Engine, session: Session) -> Path:
    """A preview of the input, decoded whole, so that damage shows at once; a small one enlarged. Raises ImageError."""
    picture = _read(engine, session)
    height, width = picture.pixels.shape[:2]
    times = min(4, previews.SIDE // max(height, width))
    shown = previews.enlarged(picture, (height * times, width * times)) if times > 1 else previews.shrunk(picture)
    return previews.save(shown, session.place("input"))


def upscale(engine: Engine, session: Session, choices: Choices) -> Iterator[Progress | StepPreview | Version]:
    """Progress, a StepPreview after each step (of pictures up to LIVE), at last the Version, which the session then
    shows.

    Raises ImageError, UsageError, Cancelled; the session then keeps what it had.
    """
    source, stop = session.source, session.stop
    if source is None:
        raise UsageError("drop a picture first")

    def work(put: Put) -> None:
        with engine.job(stop, waiting(put)):
            put(Progress(0, 0, what="loading"))
            up, target = engine.upscaler(choices.model), source.with_name(choices.target(source))
            picture = read_image(source, target, choices, choices.files(engine.max_pixels))
            notices = tuple(map(named, picture.notices))
            on_progress = engine.watch(stop, lambda done, total, left: put(Progress(done, total, left)))
            if picture.width * picture.height > LIVE:
                out, store = upscale_rows(up, picture, choices, source, on_progress)
                made = Version(out.image, out.confidence, choices, store=store, notices=notices)
            else:
                made = None
                for out in up.stream(picture, choices, on_progress=on_progress):
                    made = Version(out.image, out.confidence, choices, out, notices=notices)
                    if out.step < out.num_steps:
                        put(StepPreview(out.step, out.num_steps, *look(session, made, 0, picture)))
                assert made is not None
        put(Progress(1, 1, what="writing the file"))
        if stop.is_set():
            made.close()
            raise Cancelled
        look(session, made, 0, picture)
        export(engine, session, choices, made)
        session.forget_versions()
        session.versions = [made]
        put(made)

    yield from watched(work, stop)


def regenerate(
    engine: Engine,
    session: Session,
    region: Any,
    *,
    temperature: float,
    seed: int,
    candidates: int,
    max_temperature: float | None = None,
) -> Iterator[Progress | Version]:
    """Redo a region: a bool mask of the output's size, or a number: where confidence is below it. See
    `Upscaler.regenerate`. Raises UsageError, Cancelled."""
    version, stop = session.version, session.stop
    if version is None or version.out is None:
        raise UsageError(why_not(session))
    mask = _mask(version, region)
    if not mask.any():
        raise UsageError(
            "nothing is painted: brush over what looks wrong"
            if isinstance(region, np.ndarray)
            else f"no place has a confidence below {region:g}: raise the threshold"
        )

    def work(put: Put) -> None:
        assert version is not None
        assert version.out is not None
        with engine.job(stop, waiting(put)):
            up = engine.upscaler(version.choices.model)
            on_progress = engine.watch(stop, lambda done, total, left: put(Progress(done, total, left)))
            out = up.regenerate(
                version.out, region, temperature=temperature, seed=seed, candidates=candidates,
                max_temperature=max_temperature, on_progress=on_progress,
            )  # fmt: skip
        found = out.candidates or (out,)
        box = _bounds(mask)
        note = {"box": list(box), "temperature": temperature, "seed": seed, "candidates": candidates}
        note |= {} if max_temperature is None else {"max_temperature": max_temperature}
        if not isinstance(region, np.ndarray):
            note["below"] = region
        made = Version(
            out.image, out.confidence, version.choices, out, (*version.redone, note | {"picked": 1}), version.notices,
            found, 0, box,
        )  # fmt: skip
        look(session, made, 0)
        session.versions.append(made)
        put(made)

    yield from watched(work, stop)


def pick(session: Session, index: int) -> Version:
    """Show another of the candidates of the last redoing."""
    version = session.version
    if version is None or not 0 <= index < len(version.candidates):
        raise UsageError("there is no such candidate: regenerate first")
    if index != version.chosen:
        out = version.candidates[index]
        notes = (*version.redone[:-1], version.redone[-1] | {"picked": index + 1})
        session.versions[-1] = replace(
            version, picture=out.image, confidence=out.confidence, out=out, redone=notes, chosen=index, small=None,
            files={key: path for key, path in version.files.items() if isinstance(key, tuple) and key[0] == "crop"},
        )  # fmt: skip
        session.leave(version)
    return session.versions[-1]


def undo(session: Session) -> Version:
    """Back to the version before the last redoing."""
    if len(session.versions) < 2:
        raise UsageError("there is nothing to undo")
    session.leave(session.versions.pop())
    return session.versions[-1]


def export(engine: Engine, session: Session, choices: Choices, version: Version) -> Path:
    """The file: bytes as `realsrt upscale` writes them. What concerns pixels is as when it was made; format, quality
    and metadata as chosen now. Raises ImageError."""
    assert session.source is not None
    made = version.choices.of_file(choices)
    if made not in version.files:
        target = session.place(made.target(session.source))
        redone = {"regenerated": list(version.redone)} if version.redone else None
        noted = provenance_of(engine.upscaler(made.model), made, made.files(), redone)
        notices = imageio.write(target, version.picture, quality=made.quality, strip=made.strip, provenance=noted)
        version.files[made] = target
        version.remarks[target] = tuple(map(named, notices))
    return version.files[made]


def look(session: Session, version: Version, opacity: float, source: Picture | None = None) -> tuple[Path, Path]:
    """Files for the slider: the input enlarged, and the result with its confidence over it at `opacity`."""
    if version.small is None:
        version.small = previews.shrunk(version.picture)
    small, key = version.small, ("look", round(opacity, 2))
    if key not in version.files:
        shown = small
        if opacity and version.confidence is not None:
            shown = previews.covered(small, version.confidence, opacity)
        version.files[key] = previews.save(shown, session.place("after"))
    size = (small.height, small.width)
    if size not in session.before:
        assert session.source is not None
        picture = imageio.read(session.source) if source is None else source
        session.before[size] = previews.save(previews.enlarged(picture, size), session.place("before"))
    return session.before[size], version.files[key]


def gallery(session: Session, version: Version) -> list[tuple[str, str]]:
    """Crops of the candidates around the region, with their score and temperature."""
    shown = []
    for number, out in enumerate(version.candidates, 1):
        key = ("crop", number)
        if key not in version.files and version.box:
            version.files[key] = previews.save(
                previews.crop(out.image, version.box), session.place(f"candidate{number}")
            )
        shown.append((str(version.files[key]), f"{out.score or 0:.2f} · T {out.temperature or 0:.2g}"))
    return shown


def painted(version: Version, layers: list[np.ndarray]) -> np.ndarray:
    """The brush's layers (H', W', RGBA), at the preview's size, as a bool mask of the output's size."""
    height, width = version.picture.height, version.picture.width
    mask = np.zeros((height, width), bool)
    for layer in layers:
        on = layer[..., 3] > 0
        rows = np.arange(height) * on.shape[0] // height
        columns = np.arange(width) * on.shape[1] // width
        mask |= on[rows[:, None], columns]
    return mask


def why_not(session: Session) -> str:
    """Why nothing can be redone."""
    if session.version is None:
        return "upscale a picture first"
    return f"redoing keeps all of a picture in memory: it is for inputs of up to {LIVE:,} pixels"


def _read(engine: Engine, session: Session) -> Picture:
    assert session.source is not None
    return imageio.read(session.source, max_pixels=engine.max_pixels)


def _mask(version: Version, region: Any) -> np.ndarray:
    """Output pixels under a region."""
    if isinstance(region, np.ndarray):
        return region
    if version.confidence is None:
        raise ImageError("there is no confidence map to go by")
    cells = (version.confidence < region).repeat(8, 0).repeat(8, 1)
    return cells[: version.picture.height, : version.picture.width]


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
