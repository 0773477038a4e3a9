"""Running windows through a model: batches, half precision, and what to do when memory or precision gives out.

A `WindowBatch` is a batch of windows on its way through the steps. Between two steps it can wait, so that whole images
can be advanced together, one step at a time. Out of memory: the batch is halved, and each half repeats the steps
already done. Not finite, or black where the input is not: that window is redone alone in float32.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from realsrt.errors import RealSRTError, UsageError
from realsrt.imaging import tiling
from realsrt.imaging.color import adain
from realsrt.inference.adapters import Pixels, Planes
from realsrt.inference.resume_state import ResumeState
from realsrt.inference.trunk_image import TrunkImage
from realsrt.io.metadata.provenance import Restored
from realsrt.model import RealSRT
from realsrt.models.guide import Ground
from realsrt.models.trunk import Variation
from realsrt.nn.device import MemoryGauge, cpu_multiplies_bf16, to_device

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BATCH_BY_DEVICE = {"cpu": 1, "mps": 4}  # windows a batch where nothing is said; on the CPU always 1
BATCH_ELSEWHERE = 16  # and on a GPU until the first batch has shown how much memory a window takes
LARGEST_BATCH = 256
BLACK = 1 / 255  # nothing brighter than this, where the input's mean is above a tenth, is a broken window


@dataclass(frozen=True)
class WindowSettings:
    """How windows are run."""

    num_steps: int
    fidelity: float = 1.0
    match_color: bool = False  # AdaIN of each window to its low-quality window
    confidence: bool = True
    sparse: bool = False
    confidence_exit: float = 1.0
    denoise: float | None = None  # None: as the trunk finds right
    variation: Variation | None = None  # of its amounts


@dataclass(frozen=True)
class Windows:
    """Windows of images on the CPU: lq (B,3,n,n), and what a trunk found in the images, if the model has one."""

    lq: Tensor
    ground: Ground | None = None

    @classmethod
    def joined(cls, some: list[Windows]) -> Windows:
        """One batch of several."""
        lq = torch.cat([windows.lq for windows in some])
        grounds = [windows.ground for windows in some if windows.ground is not None]
        return cls(lq, Ground(*(torch.cat(parts) for parts in zip(*grounds, strict=True))) if grounds else None)

    def some(self, cut: slice) -> Windows:
        """These of the batch."""
        return Windows(self.lq[cut], self.ground and self.ground.some(cut))


class View:
    """One input as windows see it: its pixels and, where the model has a trunk, what that finds in the whole of it."""

    def __init__(self, source: Planes | Pixels, trunk: TrunkImage | None) -> None:
        self.source, self.trunk = source, trunk

    def window(self, tiles: tiling.TilePlan, index: int) -> Windows:
        """Window `index` of a plan."""
        lq = self.source.pick(*tiling.window_at(tiles, index))[None]
        return Windows(lq, None if self.trunk is None else self.trunk.window(tiles, index))

    @property
    def restored(self) -> Restored | None:
        """How the trunk restores it."""
        if self.trunk is None:
            return None
        made = self.trunk.amounts
        return Restored(made.way.name.lower(), made.denoise, round(made.share, 4))


@dataclass(frozen=True)
class WindowResult:
    """One window after one step, on the CPU: image (3,n,n) float32 or None if not decoded, ids (h,w) int32,
    confidence as a map of the model's cells, and how many steps it has really taken."""

    index: int
    image: Tensor | None
    ids: Tensor
    confidence: Tensor | None
    steps: int


def pick_device(name: str | torch.device) -> torch.device:
    """ "auto" or a device's name → the device. Raises UsageError if there is no such device here."""
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"no such device: {name!r}; use auto, cpu, cuda:0 or mps") from error
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if not usable.get(device.type, False) or (device.index or 0) >= count:
        raise UsageError(f"device {name!r} is not available here; use --device auto or cpu")
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """ "auto" → bf16 on CUDA devices that have it, else fp32. Raises UsageError for an unknown name."""
    if name == "auto":
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if bf16 else torch.float32
    if name not in PRECISIONS:
        raise UsageError(f"precision {name!r} is none of auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def pick_fast_precision(name: str, device: torch.device) -> torch.dtype:
    """Of what makes the difference to 0 steps in a model on a trunk: as `pick_precision`, but "auto" → bf16 on a CPU,
    too, that multiplies it."""
    if name == "auto" and device.type == "cpu" and cpu_multiplies_bf16():
        return torch.bfloat16
    return pick_precision(name, device)


class Runner:
    """A model on a device at a precision, and the largest batch that has fitted so far."""

    def __init__(
        self, model: RealSRT, device: torch.device, dtype: torch.dtype, fast: torch.dtype | None = None
    ) -> None:
        """`fast`: precision, if another, of a trunk's deep network and of the windows on a trunk."""
        self.model, self.device, self.dtype = model, device, dtype
        self.fast = dtype if fast is None or model.trunk is None else fast
        self._fits: int | None = None  # a larger batch ran out of memory
        self._room: int | None = None  # what the free memory of the GPU would take
        self._gauge = MemoryGauge(device) if device.type == "cuda" else None

    def batch_size(self, limit: int | None = None) -> int:
        """Windows a batch: `limit`, or what the memory takes, never more than what has fitted; 1 on the CPU."""
        if self.device.type == "cpu":
            return 1
        size = limit or self._room or BATCH_BY_DEVICE.get(self.device.type, BATCH_ELSEWHERE)
        return max(1, min(size, self._fits or size))

    def measured(self, windows: int) -> None:
        """A batch of so many windows has run: the first one tells how many there is room for."""
        if self._gauge is not None and self._room is None:
            self._room = max(1, min(LARGEST_BATCH, self._gauge.room(windows)))

    def view(
        self,
        source: Planes | Pixels,
        tiles: tiling.TilePlan,
        settings: WindowSettings,
        indices: Sequence[int] | None = None,
    ) -> View:
        """An input, ready to be cut into windows of a plan: those of `indices` (all)."""
        trunk = self.model.trunk
        if trunk is None:
            return View(source, None)
        image = TrunkImage(
            trunk,
            source,
            self.device,
            denoise=settings.denoise,
            variation=settings.variation,
            deep=settings.num_steps > 0,
            columns=None if indices is None else tiling.columns_of(tiles, indices),
            window=tiles.window,
            precision=self.autocast,
            deep_precision=partial(self.autocast, fast=True),
            is_out_of_memory=is_out_of_memory,
        )
        return View(source, image)

    def autocast(self, *, fast: bool = False) -> AbstractContextManager[Any]:
        """Computing at the precision of this runner; `fast`: of a deep network and of windows."""
        dtype = self.fast if fast else self.dtype
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.device.type, dtype)

    def start(
        self, indices: list[int], windows: Windows, settings: WindowSettings, resume: ResumeState | None = None
    ) -> WindowBatch:
        """Windows numbered `indices`, ready for their first step; `resume`: from these tokens."""
        return WindowBatch(self, _SubBatch(indices, windows, resume=resume), settings)

    def too_large(self, batch: int) -> None:
        """A batch of this size did not fit: give back what is cached and remember half."""
        self._fits = max(1, min(batch // 2, self._fits or batch))
        backend = {"cuda": torch.cuda, "mps": torch.mps}.get(self.device.type)
        if backend is not None:
            gc.collect()
            backend.empty_cache()


class WindowBatch:
    """A batch of windows between steps."""

    def __init__(self, runner: Runner, part: _SubBatch, settings: WindowSettings) -> None:
        self._runner, self._settings, self._parts, self._done = runner, settings, [part], 0

    def advance(self, *, decode: bool = True) -> list[WindowResult]:
        """One more step for every window, in their order. Raises RealSRTError if a single window does not fit in memory
        or stays broken in float32."""
        waiting, self._parts = self._parts, []
        self._done += 1
        results: list[WindowResult] = []
        while waiting:
            part = waiting.pop(0)
            try:
                done = part.run(self._runner, self._settings, self._done, decode)
                if decode:
                    self._runner.measured(len(part.indices))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                done = None
            if done is None:  # outside the except block, where the traceback no longer holds the memory
                part.close()
                self._runner.too_large(len(part.indices))
                if len(part.indices) == 1:
                    raise RealSRTError(
                        f"out of memory on {self._runner.device} with a single window; close other programs "
                        "that use it, or run on the CPU (--device cpu)"
                    )
                waiting = [piece for large in (part, *waiting) for piece in large.split(len(part.indices) // 2)]
                continue
            for result, broken in done:
                if not broken:
                    results.append(result)
                elif part.precise or self._runner.fast == torch.float32:
                    raise RealSRTError(f"the model fails on window {result.index}, in float32 too: {broken}")
                else:
                    waiting.append(part.alone(result.index))
            self._parts.append(part)
        return sorted(results, key=lambda result: result.index)


@dataclass
class _Running:
    """An iteration under way."""

    lq: Tensor
    guide: Any
    steps: Iterator[Any]
    done: int = 0
    last: Any = None  # sampling.Step
    left: dict[int, int] = field(default_factory=dict)  # windows that took no further step, by their place: steps taken


class _SubBatch:
    """Windows that share one iteration."""

    def __init__(
        self, indices: list[int], windows: Windows, *, precise: bool = False, resume: ResumeState | None = None
    ) -> None:
        self.indices, self.windows, self.precise, self.resume = indices, windows, precise, resume
        self._gone: set[int] = set()  # windows that a precise part has taken over
        self._running: _Running | None = None

    def close(self) -> None:
        """Let go of everything on the device."""
        self._running = None

    def split(self, size: int) -> list[_SubBatch]:
        """Itself if it is no larger than `size` windows, else new parts that are not."""
        if len(self.indices) <= size:
            return [self]
        cuts = [slice(at, at + size) for at in range(0, len(self.indices), size)]
        parts = [self._some(cut, self.precise) for cut in cuts]
        for part in parts:
            part._gone = self._gone
        return parts

    def alone(self, index: int) -> _SubBatch:
        self._gone.add(index)
        at = self.indices.index(index)
        return self._some(slice(at, at + 1), True)

    def _some(self, cut: slice, precise: bool) -> _SubBatch:
        resume = self.resume and self.resume.some(cut)
        return _SubBatch(self.indices[cut], self.windows.some(cut), precise=precise, resume=resume)

    def run(
        self, runner: Runner, settings: WindowSettings, target: int, decode: bool
    ) -> list[tuple[WindowResult, str]]:
        """Go on until `target` steps are done; each window's result with what is wrong with it, or ""."""
        if self._gone.issuperset(self.indices):
            return []
        with torch.inference_mode(), nullcontext() if self.precise else runner.autocast(fast=True):
            running = self._running = self._running or self._start(runner, settings)
            while running.done < target:
                running.last = next(running.steps, running.last)  # a sampler may stop early: its last step stands
                running.done += 1
                if settings.confidence_exit < 1:
                    gone = (~running.last.mask.flatten(1).any(1)).nonzero()[:, 0].tolist()
                    running.left = dict.fromkeys(gone, running.done) | running.left
            images = None
            if decode:
                images = runner.model.decode(running.last.ids, running.guide, fidelity=settings.fidelity)
        return self._collect(runner.model, settings, running, images)

    def _start(self, runner: Runner, settings: WindowSettings) -> _Running:
        lq = to_device(self.windows.lq, runner.device).contiguous(memory_format=torch.channels_last)
        ground = self.windows.ground
        if ground is not None:
            parts = (to_device(part, runner.device).contiguous(memory_format=torch.channels_last) for part in ground)
            ground = Ground(*parts)
        guide = runner.model.guide(lq) if ground is None else runner.model.guide(lq, ground)
        steps = runner.model.iterate(
            guide,
            num_steps=settings.num_steps,
            want_confidence=settings.confidence,
            sparse=settings.sparse,
            exit_confidence=settings.confidence_exit if settings.confidence_exit < 1 else None,
            **(self.resume.options(runner.device) if self.resume else {}),
        )
        return _Running(lq, guide, steps)

    @torch.inference_mode()
    def _collect(
        self, model: RealSRT, settings: WindowSettings, running: _Running, images: Tensor | None
    ) -> list[tuple[WindowResult, str]]:
        ids = model.grid(running.last.ids.to("cpu", torch.int32), running.guide)
        confidence = running.last.confidence if settings.confidence else None
        if confidence is not None:
            confidence = model.grid(confidence.to("cpu", torch.float32), running.guide)
        faults = [""] * len(self.indices)
        if images is not None:
            images = images.float()
            faults = [_fault(image, lq) for image, lq in zip(images, running.lq, strict=True)]
            images = (adain(images, running.lq) if settings.match_color else images).cpu()
        results = []
        for at, index in enumerate(self.indices):
            if index in self._gone:
                continue
            belief = None if confidence is None else confidence[at]
            fault = faults[at]
            if belief is not None and not bool(belief.isfinite().all()):
                fault = "its confidence is not finite"
            image = None if images is None else images[at]
            results.append((WindowResult(index, image, ids[at], belief, running.left.get(at, running.done)), fault))
        return results


def _fault(image: Tensor, lq: Tensor) -> str:
    peak, mean, finite = torch.stack([image.amax(), lq.mean(), image.isfinite().all().float()]).tolist()
    return "its pixels are not finite" if not finite else "it is black" if peak < BLACK and mean > 0.1 else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch says that memory ran out, on whichever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in words or "not enough memory" in words)
