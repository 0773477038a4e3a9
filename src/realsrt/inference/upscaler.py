"""Whole images: `Upscaler` takes any kind of image of any size, and gives the same kind back with a confidence map.

One image goes: planes of floats (adapters) → windows (imaging.tiling) → the model, batch by batch (runner) → blended,
colour-fixed and resized (assemble) → the kind it came as (adapters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch

from realsrt.checkpoint import load_model
from realsrt.errors import UsageError
from realsrt.inference.adapters import Pixels, Planes
from realsrt.inference.alpha import ModelInput
from realsrt.inference.assemble import Assembled, Rows, assemble, assemble_base, with_alpha
from realsrt.inference.many import run_many
from realsrt.inference.options import Sampling, UpscaleOptions
from realsrt.inference.regenerate import regenerate
from realsrt.inference.request import UpscaleRequest, make_request
from realsrt.inference.result import Origin, Upscaled
from realsrt.inference.runner import (
    Runner,
    View,
    WindowBatch,
    WindowResult,
    Windows,
    pick_device,
    pick_fast_precision,
    pick_precision,
)
from realsrt.inference.strength import Weakening
from realsrt.io.metadata.provenance import Restored
from realsrt.model import RealSRT
from realsrt.models.compiled import compile_for_inference

Progress = Callable[[int, int], None]


class Upscaler:
    """A model made ready for images: moved to the device, in eval mode. Not for several threads at once."""

    def __init__(
        self, model: RealSRT, device: str | torch.device = "auto", precision: str = "auto", *, compile: bool = False
    ) -> None:
        """Move a model to a device, ready for images.

        Args:
            model: Any model, as `load_model` gives it.
            device: auto, cpu, cuda:0, mps.
            precision: auto (bf16 on CUDA, else fp32; of a model on a trunk all but 0 steps in bf16 also on a CPU that
                multiplies it),
                fp32, bf16, fp16.
            compile: By torch.compile, which needs a C++ compiler; the first windows then take a minute, the others
                less, and last bits differ.

        Raises:
            UsageError: For a device or a precision that is not there.

        >>> import realsrt
        >>> realsrt.Upscaler(realsrt.presets.build("tiny"), "cpu").device
        device(type='cpu')
        """
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - convolutions like it best
        self.model = model.to(self.device).eval()
        if compile:
            compile_for_inference(self.model)
        self._runner = Runner(self.model, self.device, self.precision, pick_fast_precision(precision, self.device))
        self.window_precision = self._runner.fast

    @classmethod
    def from_pretrained(
        cls, name_or_path: str = "small", *, device: str | torch.device = "auto", precision: str = "auto",
        compile: bool = False,
    ) -> Self:  # fmt: skip
        """An upscaler of weights that are loaded by name.

        Args:
            name_or_path: An embedded model ("small"), a weight file, or "hf:org/repo[@revision]".
            device, precision, compile: See `Upscaler`.

        Returns:
            The upscaler.

        Raises:
            CheckpointError: If there is no such model, or its file is damaged.
            UsageError: For a device or a precision that is not there.

        >>> import realsrt
        >>> realsrt.Upscaler.from_pretrained("small", device="cpu").model.config.preset
        'small'
        """
        where = pick_device(device)
        pick_precision(precision, where)  # complain before loading
        return cls(load_model(name_or_path), where, precision, compile=compile)

    def computed_in(self, options: UpscaleOptions) -> str:
        """The precisions that decide about the pixels with these options: "auto" may be this or that."""
        steps = self.model.config.num_steps if options.steps is None else options.steps
        windows = f", windows {self.window_precision}" if steps and self.window_precision != self.precision else ""
        return f"{self.precision}{windows}"

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
            The result, its image of the kind that came in. On one CPU the same input and options give the same bytes;
            CPUs that multiply bfloat16 give others than those that do not, unless the precision is fp32.

        Raises:
            UsageError, ImageError, RealSRTError: One line on what is wrong and what to do.
            TypeError: For an unknown option.

        >>> import numpy as np, realsrt
        >>> up = realsrt.Upscaler(realsrt.presets.build("tiny"), "cpu")
        >>> up.upscale(np.zeros((20, 30, 3), np.uint8), outscale=2).image.shape
        (40, 60, 3)
        """
        options = UpscaleOptions.of(options, changes)
        job = make_request(image, options, self.model.config)
        count = _Counter(on_progress, job.window_steps)
        if rows and (keep_steps or job.batched):
            raise UsageError("rows are of one image after the last step: not with keep_steps, not for tensors")
        if rows and job.strength < 1:
            rows = _weakened(job, rows)
        into = rows if rows and job.streams else None
        images = [self._run(job, own, count, every_step=keep_steps, rows=into) for own in job.inputs]
        if rows:
            done = images[0][-1]
            if done.planes is not None:
                rows(0, done.planes)
            taken, how = done.window_steps, _restored([done])
            return Upscaled(None, done.confidence, None, done.step, done.step, window_steps=taken, restored=how)
        origin = Origin(job, self.model.config)
        per_step = tuple(_pack(job, origin, list(step)) for step in zip(*images, strict=True))
        return replace(per_step[-1], steps=per_step) if keep_steps else per_step[-1]

    def upscale_many(
        self,
        images: Iterable[Any],
        options: UpscaleOptions | None = None,
        *,
        return_errors: bool = False,
        **changes: Any,
    ) -> Iterator[Upscaled | Exception]:
        """What `upscale` gives for each of the images, in order; windows of several share a batch.

        Args:
            images: Images of any kind and size. They are drawn from as batches fill, and may be endless.
            options: Of all of them, as in `upscale`.
            return_errors: Whether an image that fails gives its error in its place, and the others go on.

        Returns:
            The results. On the CPU every byte is that of `upscale`.

        Raises:
            UsageError: For options out of range.
            Exception: That of the first image that fails, unless errors are returned; RealSRTError as in `upscale`.
            TypeError: For an unknown option.

        >>> import numpy as np, realsrt
        >>> images = [np.zeros((8, 8), np.uint8), np.zeros((4, 6, 3), np.float32)]
        >>> up = realsrt.Upscaler(realsrt.presets.build("tiny"), "cpu")
        >>> [out.image.shape for out in up.upscale_many(images)]
        [(32, 32), (16, 24, 3)]
        """
        options = UpscaleOptions.of(options, changes)
        jobs = (self._job_or_error(image, options) for image in images)
        pack = lambda job, blended: _pack(job, Origin(job, self.model.config), blended)  # noqa: E731
        for result in run_many(jobs, self._runner, pack, options.max_minibatch):
            if isinstance(result, Exception) and not return_errors:
                raise result
            yield result

    def _job_or_error(self, image: Any, options: UpscaleOptions) -> UpscaleRequest | Exception:
        try:
            return make_request(image, options, self.model.config)
        except UsageError:
            raise
        except Exception as error:
            return error

    def stream(
        self,
        image: Any,
        options: UpscaleOptions | None = None,
        *,
        on_progress: Progress | None = None,
        base: bool = False,
        **changes: Any,
    ) -> Iterator[Upscaled]:
        """The whole image after each step. All windows are in batch at once: memory grows with the image.

        Args:
            image, options, on_progress: As in `upscale`.
            base: Begin with the base image (step 0, without confidence), which is there long before the first step,
                where the model has one.

        Returns:
            A result a step; the last equals what `upscale` gives for the same options.

        Raises:
            UsageError, ImageError, TypeError: As in `upscale`, at once.
            RealSRTError: As in `upscale`, on the way.

        >>> import numpy as np, realsrt
        >>> up = realsrt.Upscaler(realsrt.presets.build("tiny"), "cpu")
        >>> [out.step for out in up.stream(np.zeros((8, 8, 3), np.uint8), steps=3)]
        [1, 2, 3]
        """
        options = UpscaleOptions.of(options, changes)
        job = make_request(image, options, self.model.config)
        return self._steps(job, _Counter(on_progress, job.window_steps), base=base)

    def regenerate(
        self,
        result: Upscaled,
        region: Any,
        sampling: Sampling | None = None,
        *,
        on_progress: Progress | None = None,
        **changes: Any,
    ) -> Upscaled:
        """Regenerate a region of one image's result; all else is kept.

        The trunk restores the region again, more or less denoised and crisp than before, and the tokens under it are
        drawn again in every window that sees them, in the steps and with the options of `result`. Outside it, pixels
        change within a token's side only (8 output pixels at x4), where old and new are feathered, and beyond that no
        byte does. Transparency is kept.

        Args:
            result: Of `upscale`, `stream` or this; it stays as it is.
            region: A box (x0, y0, x1, y1) in output pixels, ends exclusive; a bool array (H, W) of the output's size;
                or a number in (0, 1): the cells whose confidence is below it.
            sampling: See `Sampling`; single fields may also be given by name: ``regenerate(out, region, seed=1)``.
            on_progress: As in `upscale`.

        Returns:
            A result that can be regenerated again: of several candidates the best by `score`, which has all of them. On
            the CPU the same seed gives the same bytes.

        Raises:
            UsageError: For a region or a number out of range, or a result that cannot be gone on from.
            TypeError: For an unknown field of `Sampling`.

        >>> import numpy as np, realsrt
        >>> up = realsrt.Upscaler(realsrt.presets.build("tiny"), "cpu")
        >>> before = up.upscale(np.zeros((16, 16, 3), np.uint8))
        >>> up.regenerate(before, (0, 0, 8, 8), seed=1).image.shape
        (64, 64, 3)
        """
        return regenerate(self._runner, result, region, Sampling.of(sampling, changes), on_progress)

    def _run(
        self, job: UpscaleRequest, own: ModelInput, count: _Counter, *, every_step: bool, rows: Rows | None = None
    ) -> list[Assembled]:
        """An input after its last step, or after every step."""
        parts = [self._run_source(job, source, count, every_step, rows) for source in own.sources]
        return [with_alpha(*step) for step in zip(*parts, strict=True)]

    def _run_source(
        self, job: UpscaleRequest, source: Planes | Pixels, count: _Counter, every_step: bool, rows: Rows | None
    ) -> list[Assembled]:
        """Batch after batch through all steps, so that only one is on the device."""
        view, total = self._runner.view(source, job.tiles, job.settings), job.settings.num_steps
        if not total:
            return [assemble_base(job, view, count.more, rows)]
        if not every_step:
            return [assemble(job, view, total, self._last_step(job, view, count), rows)]
        found: dict[int, list[WindowResult]] = {step: [] for step in range(1, total + 1)}
        for batch in self._batches(job, view):
            for results in found.values():
                results += count(batch.advance())
        return [assemble(job, view, step, results) for step, results in found.items()]

    def _last_step(self, job: UpscaleRequest, view: View, count: _Counter) -> Iterator[WindowResult]:
        for batch in self._batches(job, view):
            for _ in range(1, job.settings.num_steps):
                count(batch.advance(decode=False))
            yield from count(batch.advance())

    def _steps(self, job: UpscaleRequest, count: _Counter, *, base: bool = False) -> Iterator[Upscaled]:
        """Step after step through all batches, so that a step's image is whole before the next begins."""
        origin, total = Origin(job, self.model.config), job.settings.num_steps
        views = [[self._runner.view(source, job.tiles, job.settings) for source in own.sources] for own in job.inputs]
        if not total or (base and self.model.trunk is not None):
            tell = count.silent if total else count.more
            bases = [with_alpha(*(assemble_base(job, view, tell) for view in own)) for own in views]
            yield _pack(job, origin, bases)
        if not total:
            return
        batches = [[(view, list(self._batches(job, view))) for view in own] for own in views]

        def advance(some: list[WindowBatch]) -> Iterator[WindowResult]:
            for batch in some:
                yield from count(batch.advance())

        for step in range(1, total + 1):
            parts = ([assemble(job, view, step, advance(some)) for view, some in own] for own in batches)
            yield _pack(job, origin, [with_alpha(*own) for own in parts])

    def _batches(self, job: UpscaleRequest, view: View) -> Iterator[WindowBatch]:
        start = 0
        while start < len(job.tiles):
            stop = min(start + self._runner.batch_size(job.max_minibatch), len(job.tiles))
            windows = [view.window(job.tiles, index) for index in range(start, stop)]
            yield self._runner.start(list(range(start, stop)), Windows.joined(windows), job.settings)
            start = stop


def _pack(job: UpscaleRequest, origin: Origin, images: list[Assembled]) -> Upscaled:
    def stacked(arrays: list[np.ndarray | None]) -> np.ndarray | None:
        found = [array for array in arrays if array is not None]
        return None if not found else np.stack(found) if job.batched else found[0]

    whole = job.pack([image.planes for image in images if image.planes is not None])
    return Upscaled(
        image=Weakening(job).image(whole) if job.strength < 1 else whole,
        confidence=stacked([image.confidence for image in images]),
        ids=stacked([image.ids for image in images]),
        step=images[0].step,
        num_steps=job.settings.num_steps,
        window_steps=stacked([image.window_steps for image in images]),
        restored=_restored(images),
        origin=origin,
    )


def _restored(images: list[Assembled]) -> tuple[Restored, ...]:
    return tuple(image.restored for image in images if image.restored is not None)


def _weakened(job: UpscaleRequest, rows: Rows) -> Rows:
    weakening = Weakening(job)
    return lambda first, planes: rows(first, weakening.rows(first, planes))


class _Counter:
    """Tells the caller how far we are, and passes the results on."""

    def __init__(self, on_progress: Progress | None, total: int) -> None:
        self._call, self._done, self._total = on_progress, 0, total
        if on_progress:
            on_progress(0, total)

    def __call__(self, results: list[WindowResult]) -> list[WindowResult]:
        self.more(len(results))
        return results

    def silent(self, done: int) -> None:
        """What is done besides the steps counts for nothing, but the caller is asked whether to go on."""
        if self._call:
            self._call(self._done, self._total)

    def more(self, done: int) -> None:
        """So many more windows, or strips of a base image, are done."""
        self._done += done
        if self._call:
            self._call(self._done, self._total)
