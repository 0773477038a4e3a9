"""From an image to its result, with what was computed before taken from memory: regenerating, another format or
another strength need not begin anew."""

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from realsrt.inference.options import UpscaleOptions
from realsrt.inference.result import Upscaled
from realsrt.inference.strength import weaken
from realsrt.inference.upscaler import Upscaler
from realsrt.io import image as imageio
from realsrt.io import preview
from realsrt.io.atomic import write_whole
from realsrt.io.files import file_sha256
from realsrt.io.picture import Picture
from realsrt.server.options import Regeneration
from realsrt.server.records import JobRecord
from realsrt.server.trust import FirstConfidence, first_confidence

BYTES = 2**29  # of all results that are kept in memory
STEP_SIDE = 1600  # pixels at most of the image after a step, as it is kept beside the result

Progress = Callable[[float], None]
Show = Callable[[Upscaled], None]


@dataclass(frozen=True)
class Kept:
    """A result with all its candidates, the steps before it where they were shown, and what its trust is made of."""

    result: Upscaled
    steps: Sequence[Upscaled] = ()
    first: FirstConfidence | None = None


class ResultMemory:
    """The results used last. Not thread-safe."""

    def __init__(self, limit: int = BYTES) -> None:
        """`limit`: bytes of all results together."""
        self._limit, self._size = limit, 0
        self._kept: OrderedDict[str, tuple[Kept, int]] = OrderedDict()

    def get(self, key: str) -> Kept | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: str, made: Kept) -> None:
        """What is larger than all that may be kept is not."""
        size = sum(_bytes(one) for one in (made.result, *made.result.candidates, *made.steps))
        if key in self._kept or size > self._limit:
            return
        self._kept[key] = (made, size)
        self._size += size
        while self._size > self._limit:
            self._size -= self._kept.popitem(last=False)[1][1]


class Results:
    """Computes results by one model, the image held whole. Not for several threads at once."""

    def __init__(self, up: Upscaler, limit: int = BYTES) -> None:
        self._up, self._memory = up, ResultMemory(limit)

    def make(
        self, job: JobRecord, picture: Picture, source: Path, progress: Progress, show: Show | None
    ) -> tuple[Kept, bool]:
        """The result of a job, regenerated and picked as it says, with all candidates of the last time; and whether
        nothing of it was taken from memory.

        source: the input's file. progress: hears the share that is done, and may raise to end it. show: sees the image
        after every step, the base image first, where that is computed.
        """
        options, digest = job.options.upscaling, file_sha256(source)
        full = replace(options, strength=1.0)
        keys = [_key(digest, full, job.edits[:count]) for count in range(len(job.edits) + 1)]
        kept = [self._memory.get(key) for key in keys]
        known = max((count for count, made in enumerate(kept) if made), default=-1)
        made = kept[known] if known >= 0 else None
        if show is not None and kept[0] is not None:
            for step in kept[0].steps:
                show(step)
        for count in range(known + 1, len(keys)):

            def tell(done: int, total: int, before: int = count - known - 1) -> None:
                progress((before + done / total) / (len(keys) - known - 1))

            if made is None:
                made = self._upscale(picture, full, tell, show)
            else:
                made = self._regenerate(made, job.edits[:count], tell)
            self._memory.put(keys[count], made)
        assert made is not None
        progress(1.0)
        shown = weaken(_picked(made.result, job.edits), options.strength)
        return replace(made, result=replace(shown, candidates=made.result.candidates)), known < 0

    def _upscale(
        self, picture: Picture, options: UpscaleOptions, tell: Callable[[int, int], None], show: Show | None
    ) -> Kept:
        if show is None:
            out = self._up.upscale(picture, options, on_progress=tell)
            return Kept(out, first=first_confidence(out.confidence))
        out, steps = None, []
        for out in self._up.stream(picture, options, on_progress=tell, base=True):
            show(out)
            if out.step < out.num_steps:
                steps.append(replace(out, ids=None, origin=None))
        assert out is not None
        return Kept(out, steps, first_confidence(out.confidence))

    def _regenerate(self, made: Kept, edits: Sequence[Regeneration], tell: Callable[[int, int], None]) -> Kept:
        """The last of these edits, all before it done."""
        before, edit = _picked(made.result, edits[:-1]), edits[-1]
        region = edit.region(before.image.width, before.image.height)
        out = self._up.regenerate(before, region, edit.sampling, on_progress=tell)
        first = made.first and made.first.after(before.image, [one.image for one in (out, *out.candidates)])
        return Kept(out, first=first)


def _picked(out: Upscaled, edits: Sequence[Regeneration]) -> Upscaled:
    """The candidate that stays, if these are the edits so far."""
    return out.candidates[edits[-1].pick - 1] if edits and out.candidates else out


def _key(digest: str, options: UpscaleOptions, edits: Sequence[Regeneration]) -> str:
    """Of a result with all its candidates: the last pick does not count."""
    said = [edit.model_dump(exclude_defaults=True) for edit in edits]
    said[-1:] = [{name: value for name, value in edit.items() if name != "pick"} for edit in said[-1:]]
    return json.dumps([digest, options.pixel_options(), said], sort_keys=True)


def _bytes(result: Upscaled) -> int:
    arrays = [result.confidence, result.ids, result.window_steps]
    inputs = () if result.origin is None else result.origin.job.inputs
    held = sum(12 * height * width for height, width in (own.colour.hw for own in inputs))
    return result.image.pixels.nbytes + held + sum(array.nbytes for array in arrays if array is not None)


def step_path(folder: Path, step: int) -> Path:
    return folder / f"step{step}.jpg"


def write_step(folder: Path, out: Upscaled) -> None:
    """The image after a step, but for the last, which is the result."""
    if out.step < out.num_steps:
        step_path(folder, out.step).write_bytes(preview.jpeg(out.image, STEP_SIDE))


def candidate_path(folder: Path, number: int) -> Path:
    return folder / f"candidate{number}.png"


def write_candidates(folder: Path, out: Upscaled) -> None:
    """Where the candidates differ: the box, and of each that part of it, its score, temperature and change."""
    if len(out.candidates) < 2:
        return
    images = [candidate.image.pixels for candidate in out.candidates]
    differs = np.zeros(images[0].shape[:2], bool)
    for image in images[1:]:
        differs |= (image != images[0]).any(2)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    y, x = (slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 1) for found in (rows, columns))
    for number, image in enumerate(images, 1):
        part = Picture(np.ascontiguousarray(image[y, x]), out.image.metadata)
        imageio.write(candidate_path(folder, number), preview.plain(part), strip=True)
    said = [
        {"score": candidate.score, "temperature": candidate.temperature}
        | (candidate.change._asdict() if candidate.change else {})
        for candidate in out.candidates
    ]
    facts = {"box": [x.start, y.start, x.stop, y.stop], "candidates": said}
    write_whole(folder / "candidates.json", json.dumps(facts).encode())
