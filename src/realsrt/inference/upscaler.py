"""Whole pictures: `Upscaler` takes any kind of picture of any size, and gives the same kind back with a confidence map.

One picture goes: planes of floats (kinds) → windows (imaging.tiling) → the model, batch by batch (windows) → blended,
colour-fixed and resized (job) → the kind it came as (kinds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch

from realsrt.checkpoint import load_model
from realsrt.errors import RealSRTError, UsageError
from realsrt.inference.adapters import Pixels, Planes
from realsrt.inference.assemble import Blended, ImageAssembler, Rows, base_picture, joined
from realsrt.inference.many import run_many
from realsrt.inference.options import UpscaleOptions
from realsrt.inference.regenerate import Sampling, regenerate
from realsrt.inference.request import UpscaleRequest, make_request
from realsrt.inference.result import Origin, Upscaled
from realsrt.inference.runner import Runner, View, WindowBatch, WindowResult, Windows, pick_device, pick_precision
from realsrt.model import RealSRT
from realsrt.models.compiled import compile_for_inference

Progress = Callable[[int, int], None]


class Upscaler:
    """A model made ready for pictures: moved to the device, in eval mode. Not for several threads at once."""

    def __init__(
        self, model: RealSRT, device: str | torch.device = "auto", precision: str = "auto", *, compile: bool = False
    ) -> None:
        """device: auto, cpu, cuda:0, mps. precision: auto (bf16 on CUDA, else fp32), fp32, bf16, fp16. compile: by
        torch.compile, which needs a C++ compiler; the first windows then take a minute, the others less, and last bits
        differ. Raises UsageError."""
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - convolutions like it best
        self.model = model.to(self.device).eval()
        if compile:
            compile_for_inference(self.model)
        self._runner = Runner(self.model, self.device, self.precision)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str = "small", *, device: str | torch.device = "auto", precision: str = "auto",
        compile: bool = False,
    ) -> Self:  # fmt: skip
        """An embedded model by name, a weight file, or "hf:org/repo[@revision]". Raises CheckpointError, UsageError."""
        where = pick_device(device)
        pick_precision(precision, where)  # complain before loading
        return cls(load_model(name_or_path), where, precision, compile=compile)

    def check(self, options: UpscaleOptions) -> UpscaleRequest:
        """The request of a small image with these options. Raises UsageError for what this model does not allow."""
        return make_request(np.zeros((8, 8, 3), np.uint8), options, self.model.config)

    def upscale(
        self,
        image: Any,
        options: UpscaleOptions | None = None,
        *,
        on_progress: Progress | None = None,
        keep_steps: bool = False,
        rows: Rows | None = None,
        **changes: Any,
    ) -> Upscaled:
        """Upscale an image, which may be a path, Picture, PIL image, HW(C) array or BCHW tensor (see `adapters`).

        Args:
            image: What to upscale.
            options: See `UpscaleOptions`; single ones may also be given by name, as in ``upscale(image, outscale=2)``.
            on_progress: Called with (done, total), which count windows times steps.
            keep_steps: Whether to keep the image after every step.
            rows: Called with (first, planes) as rows are finished, from the top, in place of `image` and `ids`, which
                are then None: the result is never held whole, nor is an opaque input of whole numbers made floats as a
                whole. With ``alpha="model"`` all rows come at the end.

        Returns:
            The result, its image of the kind that came in. On the CPU the same input and options give the same bytes.

        Raises:
            UsageError, ImageError, RealSRTError: One line on what is wrong and what to do.
            TypeError: For an unknown option.
        """
        options = UpscaleOptions.of(options, changes)
        job = make_request(image, options, self.model.config)
        count = _Counter(on_progress, job.window_steps)
        if rows and (keep_steps or job.batched):
            raise UsageError("rows are of one picture after the last step: not with keep_steps, not for tensors")
        into = rows if rows and job.streams else None
        pictures = [self._run(job, source, count, every_step=keep_steps, rows=into) for source in job.inputs]
        if rows:
            blended = joined([steps[-1] for steps in pictures])[0]
            if blended.planes is not None:
                rows(0, blended.planes)
            return Upscaled(
                None, blended.confidence, None, blended.step, blended.step, window_steps=blended.window_steps
            )
        origin = Origin(job, self.model.config)
        per_step = tuple(_pack(job, origin, list(blended)) for blended in zip(*pictures, strict=True))
        return replace(per_step[-1], steps=per_step) if keep_steps else per_step[-1]

    def upscale_many(
        self,
        images: Iterable[Any],
        options: UpscaleOptions | None = None,
        *,
        return_errors: bool = False,
        **changes: Any,
    ) -> Iterator[Upscaled | RealSRTError]:
        """What `upscale` gives for each of the images, in order; windows of several share a batch.

        `images` is drawn from as batches fill, so it may be endless. On the CPU every byte is that of `upscale`.
        return_errors: an image that fails gives its error in its place, and the others go on; else it is raised.
        """
        options = UpscaleOptions.of(options, changes)
        jobs = (self._job_or_error(image, options) for image in images)
        pack = lambda job, blended: _pack(job, Origin(job, self.model.config), blended)  # noqa: E731
        for result in run_many(jobs, self._runner, pack, options.max_minibatch):
            if isinstance(result, RealSRTError) and not return_errors:
                raise result
            yield result

    def _job_or_error(self, image: Any, options: UpscaleOptions) -> UpscaleRequest | RealSRTError:
        try:
            return make_request(image, options, self.model.config)
        except UsageError:
            raise
        except RealSRTError as error:
            return error

    def stream(
        self, image: Any, options: UpscaleOptions | None = None, *, on_progress: Progress | None = None, **changes: Any
    ) -> Iterator[Upscaled]:
        """The whole image after each step; the last equals what `upscale`, which see, gives for the same options.

        All windows are in flight at once: memory grows with the image. Options are checked before this returns.
        """
        options = UpscaleOptions.of(options, changes)
        job = make_request(image, options, self.model.config)
        return self._steps(job, _Counter(on_progress, job.window_steps))

    def regenerate(
        self,
        result: Upscaled,
        region: Any,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
        candidates: int = 1,
        max_temperature: float | None = None,
        on_progress: Progress | None = None,
    ) -> Upscaled:
        """Generate a region of one picture's result anew, by sampling; all else is kept.

        region: a box (x0, y0, x1, y1) in output pixels, ends exclusive; a bool array (H, W) of the output's size; or a
        number in (0, 1): the cells whose confidence is below it. Tokens under it are generated again in every window
        that sees them, in the steps and with the options of `result`; outside it, pixels change within a token's side
        only (8 output pixels at x4), where old and new are feathered, and beyond that no byte does. temperature 0 is
        argmax; top_k: sample among the likeliest codes only; the same seed gives the same picture (on the CPU, to the
        byte). With candidates > 1 the best by `score` is returned, and has all of them; with `max_temperature` their
        temperatures rise from `temperature` to it, by equal factors. `result` stays as it is; what is returned can be
        regenerated again. Transparency is kept. Raises UsageError.
        """
        sampling = Sampling(temperature, top_k, seed, candidates, max_temperature)
        return regenerate(self._runner, result, region, sampling, on_progress)

    def _run(
        self,
        job: UpscaleRequest,
        source: Planes | Pixels,
        count: _Counter,
        *,
        every_step: bool,
        rows: Rows | None = None,
    ) -> list[Blended]:
        """Batch after batch through all steps, so that only one is on the device."""
        view, total = self._runner.view(source, job.tiles, job.settings), job.settings.num_steps
        if not total:
            return [base_picture(job, view, ImageAssembler(job, 0, source, rows), count.more)]
        mosaics = {
            step: ImageAssembler(job, step, source, rows) for step in range(1 if every_step else total, total + 1)
        }
        for flight in self._flights(job, view):
            for step in range(1, total + 1):
                results = count(flight.advance(decode=step in mosaics))
                if step in mosaics:
                    mosaics[step].add(results)
        return [mosaic.finish() for mosaic in mosaics.values()]

    def _steps(self, job: UpscaleRequest, count: _Counter) -> Iterator[Upscaled]:
        """Step after step through all batches, so that a step's picture is whole before the next begins."""
        origin = Origin(job, self.model.config)
        views = [self._runner.view(planes, job.tiles, job.settings) for planes in job.inputs]
        if not job.settings.num_steps:
            bases = [base_picture(job, view, ImageAssembler(job, 0, view.source), count.more) for view in views]
            yield _pack(job, origin, bases)
            return
        flights = [list(self._flights(job, view)) for view in views]
        for step in range(1, job.settings.num_steps + 1):
            blended = []
            for planes, in_flight in zip(job.inputs, flights, strict=True):
                mosaic = ImageAssembler(job, step, planes)
                for flight in in_flight:
                    mosaic.add(count(flight.advance()))
                blended.append(mosaic.finish())
            yield _pack(job, origin, blended)

    def _flights(self, job: UpscaleRequest, view: View) -> Iterator[WindowBatch]:
        start = 0
        while start < len(job.tiles):
            stop = min(start + self._runner.batch_size(job.max_minibatch), len(job.tiles))
            windows = [view.window(job.tiles, index) for index in range(start, stop)]
            yield self._runner.start(list(range(start, stop)), Windows.joined(windows), job.settings)
            start = stop


def _pack(job: UpscaleRequest, origin: Origin, pictures: list[Blended]) -> Upscaled:
    pictures = joined(pictures)
    tokens = [picture.ids for picture in pictures if picture.ids is not None]
    ids = np.stack(tokens) if tokens else None
    steps = np.stack([picture.window_steps for picture in pictures])
    maps = [picture.confidence for picture in pictures if picture.confidence is not None]
    confidence = np.stack(maps) if maps else None
    return Upscaled(
        image=job.pack([picture.planes for picture in pictures if picture.planes is not None]),
        confidence=confidence if job.batched or confidence is None else confidence[0],
        ids=ids if job.batched or ids is None else ids[0],
        step=pictures[0].step,
        num_steps=job.settings.num_steps,
        window_steps=steps if job.batched else steps[0],
        origin=origin,
    )


class _Counter:
    """Tells the caller how far we are, and passes the results on."""

    def __init__(self, on_progress: Progress | None, total: int) -> None:
        self._call, self._done, self._total = on_progress, 0, total
        if on_progress:
            on_progress(0, total)

    def __call__(self, results: list[WindowResult]) -> list[WindowResult]:
        self.more(len(results))
        return results

    def more(self, done: int) -> None:
        """So many more windows, or strips of a base picture, are done."""
        self._done += done
        if self._call:
            self._call(self._done, self._total)
