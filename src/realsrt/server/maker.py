"""One job, from its input file to the files of its result: the same bytes that `realsrt upscale` writes."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from realsrt.batch.plan import FileJob
from realsrt.batch.process import provenance_of, read_image, save_image, upscale_rows
from realsrt.batch.report import Record
from realsrt.inference.result import Upscaled
from realsrt.inference.upscaler import Upscaler
from realsrt.io.picture import Picture
from realsrt.server.records import JobRecord
from realsrt.server.results import Results, write_candidates, write_step

PREVIEW_PIXELS = 1_000_000  # larger inputs are computed row by row, without previews: memory stays bounded

Progress = Callable[[float], None]
Show = Callable[[Upscaled], None]


class Maker:
    """Reads, computes and writes jobs, one at a time; on a GPU also several that ask for the same."""

    def __init__(self, up: Upscaler, max_pixels: int) -> None:
        self.up, self._max_pixels = up, max_pixels
        self._results = Results(up)

    @property
    def together(self) -> bool:
        """Whether pictures share batches: where there are batches."""
        return self.up.device.type != "cpu" and hasattr(self.up, "upscale_many")

    def read(self, record: JobRecord, source: Path, target: Path) -> Picture:
        """The input, if its result can be written. Raises ImageError."""
        return read_image(source, target, record.options.upscaling, record.options.files(self._max_pixels))

    def make(self, record: JobRecord, source: Path, target: Path, progress: Progress, show: Show | None) -> Record:
        """Everything. `progress` hears the share done, 0 to 1, and may raise to end it; `show` sees every step."""
        picture = self.read(record, source, target)
        with contextlib.ExitStack() as stack:
            return self._write(
                record, target, picture, self._compute(record, target, picture, progress, show, source, stack)
            )

    def make_many(
        self, records: Sequence[JobRecord], pictures: Sequence[Picture], targets: Sequence[Path]
    ) -> Iterator[Record]:
        """Jobs that ask for the same, in order, each written before the next comes."""
        up: Any = self.up
        results = up.upscale_many(iter(pictures), records[0].options.upscaling)
        for record, picture, target, out in zip(records, pictures, targets, results, strict=True):
            yield self._write(record, target, picture, out)

    def _compute(
        self, record: JobRecord, target: Path, picture: Picture, progress: Progress, show: Show | None,
        source: Path, stack: contextlib.ExitStack,
    ) -> Upscaled:  # fmt: skip
        def shown(out: Upscaled) -> None:
            write_step(target.parent, out)
            if show:
                show(out)

        if record.edits or (show and picture.width * picture.height <= PREVIEW_PIXELS):
            out = self._results.make(record, picture, source, progress, shown if show else None)
            write_candidates(target.parent, out)
            return out
        count = lambda done, total: progress(done / total)  # noqa: E731
        out, store = upscale_rows(self.up, picture, record.options.upscaling, target, count)
        stack.callback(store.close)
        return out

    def _write(self, record: JobRecord, target: Path, picture: Picture, out: Upscaled) -> Record:
        options, files = record.options.upscaling, record.options.files(self._max_pixels)
        edits = [edit.noted for edit in record.edits]
        noted = provenance_of(self.up, options, files, {"regenerated": edits} if edits else None)
        size = picture.width, picture.height
        made, _ = save_image(FileJob(target, target), out, files, noted, size=size, seconds=0.0)
        return replace(made, notices=(*picture.notices, *made.notices))
