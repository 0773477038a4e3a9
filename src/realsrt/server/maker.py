"""One job, from its input file to the files of its result: the same bytes that `realsrt upscale` writes."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from realsrt.batch.plan import FileJob
from realsrt.batch.process import provenance_of, read_image, save_image, upscale_rows
from realsrt.batch.report import Record
from realsrt.errors import RealSRTError
from realsrt.inference.result import Upscaled
from realsrt.inference.upscaler import Upscaler
from realsrt.io.picture import Picture
from realsrt.server.options import Regeneration
from realsrt.server.records import JobRecord

PREVIEW_PIXELS = 1_000_000  # larger inputs are computed row by row, without previews: memory stays bounded

Progress = Callable[[float], None]
Show = Callable[[Upscaled], None]


class Maker:
    """Reads, computes and writes jobs, one at a time; on a GPU also several that ask for the same."""

    def __init__(self, up: Upscaler, max_pixels: int) -> None:
        self.up, self._max_pixels = up, max_pixels

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
            return self._write(record, target, picture, self._compute(record, target, picture, progress, show, stack))

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
        stack: contextlib.ExitStack,
    ) -> Upscaled:  # fmt: skip
        options, rounds = record.options.upscaling, 1 + len(record.edits)

        def share(round: int) -> Callable[[int, int], None]:
            return lambda done, total: progress((round + done / total) / rounds)

        if record.edits:
            return self._regenerate(self.up.upscale(picture, options, on_progress=share(0)), record.edits, share)
        if show and picture.width * picture.height <= PREVIEW_PIXELS:
            out = None
            for out in self.up.stream(picture, options, on_progress=share(0)):
                show(out)
            assert out is not None
            return out
        out, store = upscale_rows(self.up, picture, options, target, share(0))
        stack.callback(store.close)
        return out

    def _regenerate(
        self, out: Upscaled, edits: Sequence[Regeneration], share: Callable[[int], Callable[[int, int], None]]
    ) -> Upscaled:
        regenerate = getattr(self.up, "regenerate", None)
        if regenerate is None:
            raise RealSRTError("this version of realsrt cannot generate parts anew; update it")
        for number, edit in enumerate(edits, 1):
            out = regenerate(
                out, edit.region, temperature=edit.temperature, top_k=edit.top_k, seed=edit.seed,
                candidates=edit.candidates, on_progress=share(number),
            )  # fmt: skip
        return out

    def _write(self, record: JobRecord, target: Path, picture: Picture, out: Upscaled) -> Record:
        options, files = record.options.upscaling, record.options.files(self._max_pixels)
        edits = [edit.model_dump(exclude_none=True) for edit in record.edits]
        noted = provenance_of(self.up, options, files, {"regenerated": edits} if edits else None)
        size = picture.width, picture.height
        made, _ = save_image(FileJob(target, target), out, files, noted, size=size, seconds=0.0)
        return replace(made, notices=(*picture.notices, *made.notices))
