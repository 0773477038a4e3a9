"""One image, from its file to the files of its result: read → check → upscale, row by row → save → record; in parts, as
some surfaces read ahead, show steps or compute elsewhere.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from realsrt.batch.outputs import CONFIDENCE, Files, Finished, file_names, save, trusted
from realsrt.batch.plan import FileJob
from realsrt.batch.report import Record, mean_confidence, mean_steps
from realsrt.inference.options import UpscaleOptions
from realsrt.io.files import check_name, check_room, check_writable
from realsrt.io.metadata.provenance import Provenance, provenance

if TYPE_CHECKING:
    from realsrt.inference.assemble import RowStore
    from realsrt.inference.result import Upscaled
    from realsrt.inference.upscaler import Upscaler
    from realsrt.io.picture import Picture

Progress = Callable[[int, int], None]


def read_image(
    source: Path, target: PurePath, options: UpscaleOptions, files: Files, *, local: bool = True
) -> "Picture":
    """Decode a file whose result can be written: the formats can hold it and, if `local`, the disk has room for it.

    Raises ImageError.
    """
    from realsrt.io import image as imageio
    from realsrt.io.formats import misnamed

    picture = imageio.fitted(imageio.read(source, max_pixels=files.max_pixels), target)
    picture = replace(picture, notices=(*picture.notices, *misnamed(source, picture.format, target)))
    width, height = options.out_size(picture.width, picture.height)
    imageio.check_output(target, width, height, picture.has_alpha, picture.depth)
    if files.confidence:
        imageio.check_output(target.with_name(target.stem + CONFIDENCE), width, height)
    if local:
        for path in file_names(FileJob(source, Path(target)), files):
            check_name(path)
            check_writable(path)
        check_room(Path(target), width * height * picture.pixels.shape[2], picture.depth)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
    return picture


def upscale_rows(
    up: "Upscaler", picture: "Picture", options: UpscaleOptions, beside: Path, on_progress: Progress | None = None
) -> "tuple[Upscaled, RowStore]":
    """Upscale with the rows in a store, which the caller closes; its scratch file, if any, is beside `beside`."""
    from realsrt.inference.assemble import RowStore

    store = RowStore(picture, *options.out_size(picture.width, picture.height), beside)
    try:
        out = up.upscale(picture, options, on_progress=on_progress, rows=store.add)
        return replace(out, image=store.image()), store
    except BaseException:
        store.close()
        raise


def save_image(
    job: FileJob, out: "Upscaled | Finished", files: Files, made: Provenance | None, *, size: tuple[int, int],
    seconds: float, **more: Any,
) -> tuple[Record, list[Path]]:  # fmt: skip
    """Write the files of an input of `size`; the record, with what is in `more`, and the files. `seconds`: taken so
    far. Raises ImageError."""
    started = time.perf_counter()
    notices, paths = save(job, out, files, made)
    mask_hw = trusted(out.confidence, files)
    record = Record(
        str(job.source),
        str(job.target),
        "done",
        width=size[0],
        height=size[1],
        out_width=out.image.width,
        out_height=out.image.height,
        seconds=round(seconds + time.perf_counter() - started, 3),
        confidence=mean_confidence(out.confidence),
        trusted=None if mask_hw is None else round(float(mask_hw.mean()), 4),
        steps=mean_steps(out.window_steps),
        **(out.restored[0]._asdict() if out.restored else {}),
        notices=notices,
        **more,
    )
    return record, paths


def provenance_of(
    up: "Upscaler", options: UpscaleOptions, files: Files, more: Mapping[str, Any] | None = None
) -> Provenance | None:
    """What is noted in the files, if anything: the model, the options, and what is in `more`."""
    info = up.model.info
    settings = options.pixel_options() | dict(more or {})
    return provenance(info.source, info.sha256, settings) if files.provenance else None
