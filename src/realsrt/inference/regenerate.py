"""Regenerating a region of a finished image, everything else kept.

The tokens under the region are masked in every window that sees them and generated again, with sampling if asked for;
only these windows are decoded, and their image replaces the old one in the region, feathered over a token's side.
Legend: H W the output's sides in pixels, s scale (4), w the feathering weight.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsrt.errors import UsageError
from realsrt.imaging import tiling
from realsrt.imaging.color import luma, wavelet
from realsrt.imaging.resize import resize
from realsrt.inference import adapters, regions
from realsrt.inference.assemble import enlarged, fit, keep_coarse
from realsrt.inference.options import Sampling
from realsrt.inference.request import UpscaleRequest
from realsrt.inference.result import Change, Upscaled
from realsrt.inference.resume_state import ResumeState
from realsrt.inference.runner import Runner, Windows
from realsrt.inference.strength import PlainEnlargement
from realsrt.models.trunk import Variation

_TURN = 0x7475726E  # beside the seed, so that tokens draw other numbers


def regenerate(
    runner: Runner, result: Upscaled, region: Any, sampling: Sampling, count: Callable[[int, int], None] | None
) -> Upscaled:
    """See `Upscaler.regenerate`."""
    origin = result.origin
    if not result.num_steps:
        raise UsageError("there are no tokens to regenerate after 0 steps: upscale with steps of 1 or more first")
    if origin is None or result.ids is None:
        raise UsageError(
            "nothing to go on from: regenerate takes a result of upscale or stream in this process, made without rows="
        )
    job = origin.job
    if origin.config != runner.model.config:
        raise UsageError("the result was made by another model; regenerate it with that one")
    if job.batched and len(result.ids) != 1:
        raise UsageError(f"regenerate takes one image, not a batch of {len(result.ids)}; upscale them one by one")
    place = RegionTask(job, result, region)
    varied = sampling.variety > 0 and runner.model.trunk is not None
    rounds = sampling.candidates if sampling.temperature > 0 or varied else 1
    total = rounds * len(place.indices) * job.settings.num_steps
    if count:
        count(0, total)
    made = []
    for number in range(rounds):
        done = number * total // rounds
        tell = (lambda more, done=done: count(done + more, total)) if count else None
        made.append(place.generate(runner, sampling, number, tell))
    made *= sampling.candidates // rounds  # with neither sampling nor variety all are the same
    ranked = sorted(made, key=lambda candidate: -(candidate.score or 0.0))
    return replace(ranked[0], candidates=tuple(ranked)) if len(ranked) > 1 else ranked[0]


class RegionTask:
    """A region of a result: its pixels, the tokens under it, and the windows that see them."""

    def __init__(self, job: UpscaleRequest, result: Upscaled, region: Any) -> None:
        self._job, self._result, self._fold = job, result, job.fold
        self._source, tiles = job.inputs[0].colour, job.tiles
        self._belief = _single(result.confidence, job)
        self._ids = _single(result.ids, job)
        mask_HW = regions.pixel_mask(region, job.out_hw, self._belief)
        self._cells = regions.cells(mask_HW)
        margin = math.ceil(self._fold * max(out / side for out, side in zip(job.out_hw, self._source.hw, strict=True)))
        self._box, self._weight = regions.feather(mask_HW, margin)
        lq_mask = regions.shrunk(mask_HW, self._source.hw)
        self._masks: dict[int, Tensor] = {}
        for index in range(len(tiles)):
            rows, columns = tiling.window_at(tiles, index)
            seen = lq_mask[rows[:, None], columns].unflatten(1, (-1, self._fold)).unflatten(0, (-1, self._fold))
            if seen.any():
                self._masks[index] = seen.any(3).any(1)
        self.indices = list(self._masks)

    def generate(self, runner: Runner, sampling: Sampling, number: int, tell: Callable[[int], None] | None) -> Upscaled:
        """Candidate `number`, from 0. `tell` counts windows times steps."""
        job, tiles = self._job, self._job.tiles
        whole = job.out_hw != (tiles.height * job.scale, tiles.width * job.scale)  # to be resampled in its place
        image = tiling.Patch(tiles, tiles.window * job.scale, self.indices, taper=job.taper, whole=whole)
        belief = tiling.Patch(tiles, tiles.window // job.fold, self.indices, taper=job.taper, whole=True)
        ids, steps, done = self._ids.copy(), _single(self._result.window_steps, job), 0
        steps = None if steps is None else steps.copy()
        settings = replace(job.settings, confidence=True, confidence_exit=1.0, variation=_variation(sampling, number))
        size = runner.batch_size(job.max_minibatch)
        view = runner.view(self._source, tiles, settings, self.indices)
        for start in range(0, len(self.indices), size):
            batch = self.indices[start : start + size]
            windows = Windows.joined([view.window(tiles, index) for index in batch])
            running = runner.start(batch, windows, settings, self._resume_state(batch, sampling, number))
            for step in range(1, settings.num_steps + 1):
                results = running.advance(decode=step == settings.num_steps)
                done += len(batch)
                if tell:
                    tell(done)
            for found in results:
                assert found.image is not None
                assert found.confidence is not None
                image.add(found.index, found.image)
                belief.add(found.index, found.confidence[None])
                ids[found.index] = found.ids.numpy()
                if steps is not None:
                    steps[found.index] = found.steps
        change = None
        if view.trunk is not None:
            made, own = view.trunk.amounts, view.trunk.own
            change = Change(made.denoise - own.denoise, made.share - own.share)
        return replace(self._joined(image, belief, ids, steps), temperature=sampling.at(number), change=change)

    def _resume_state(self, batch: list[int], sampling: Sampling, number: int) -> ResumeState:
        masks = torch.stack([self._masks[index] for index in batch])
        corners = [self._job.tiles.position(index) for index in batch]
        return ResumeState(
            ids=torch.from_numpy(self._ids[batch].astype(np.int64)).flatten(1),
            mask=masks.flatten(1),
            places=[(y // self._fold, x // self._fold) for y, x in corners],
            grid=(masks.shape[1], masks.shape[2]),
            temperature=sampling.at(number),
            top_k=sampling.top_k,
            seed=(sampling.seed, number),
        )

    @torch.inference_mode()
    def _joined(self, image: tiling.Patch, belief: tiling.Patch, ids: np.ndarray, steps: np.ndarray | None) -> Upscaled:
        job, result = self._job, self._result
        grid = self._map(belief)
        score = float(grid[self._cells].mean())
        confidence = self._belief
        if confidence is not None:
            confidence = np.where(self._cells.numpy(), grid.numpy(), confidence).astype(np.float32)
        lead = (lambda array: None if array is None else array[None]) if job.batched else (lambda array: array)
        return replace(
            result, image=self._merged(image), confidence=lead(confidence), ids=lead(ids), window_steps=lead(steps),
            score=score, candidates=(), steps=(),
        )  # fmt: skip

    def _map(self, belief: tiling.Patch) -> Tensor:
        """The windows' confidence on the output's grid; true where all windows are among them."""
        mean, there = belief.finish()
        both = tiling.crop_tokens(torch.cat([mean, there[None].float()]), self._job.tiles, self._job.fold)
        height, width = self._cells.shape
        if both.shape[1:] != (height, width):
            both = resize(both[None], (height, width), "bilinear", antialias=True)[0]
        return (both[0] / both[1].clamp_min(1e-6)).clamp(0, 1)

    def _merged(self, image: tiling.Patch) -> Any:
        """The result's image with the new one in the region: of the same kind, byte for byte the same elsewhere."""
        job, (y, x) = self._job, self._box
        old = adapters.to_planes(self._result.image)[0][0]
        if old.hw != job.out_hw:
            raise UsageError(f"the result's image is {old.hw[1]}x{old.hw[0]} now, not as upscale gave it")
        new, (top, left) = self._made(image)
        new = new[:, y.start - top : y.stop - top, x.start - left : x.stop - left].clamp(0, 1)
        if job.strength < 1:
            plain = PlainEnlargement(self._source, job.out_hw).rows(y.start, y.stop)
            new = torch.lerp(plain[:, :, x], new.clamp(0, 1), job.strength)
        before = old.pick(torch.arange(y.start, y.stop), torch.arange(x.start, x.stop))
        alpha = None if old.alpha is None else old.alpha[:, y, x]
        crop = job.pack([adapters.Planes(torch.lerp(before, new, self._weight), alpha)])
        return adapters.pasted(self._result.image, crop, (y, x), self._weight > 0)

    def _made(self, image: tiling.Patch) -> tuple[Tensor, tuple[int, int]]:
        """The new windows' image at the output's size, colour-fixed, and where in it its corner lies; where they show
        nothing, the enlarged input."""
        job, s = self._job, self._job.scale
        mean, there = image.finish()
        height, width = (side * s for side in self._source.hw)
        rows, columns = (
            slice(max(span.start, before * s), min(span.stop, before * s + side))
            for span, before, side in zip(image.box, (job.tiles.top, job.tiles.left), (height, width), strict=True)
        )
        inside = (
            slice(rows.start - image.box[0].start, rows.stop - image.box[0].start),
            slice(columns.start - image.box[1].start, columns.stop - image.box[1].start),
        )
        top, left = rows.start - job.tiles.top * s, columns.start - job.tiles.left * s
        mean, there = mean[:, *inside], there[inside]
        if self._source.gray:
            mean = luma(mean).expand_as(mean)
        if job.color_fix == "wavelet" or not there.all():
            below = enlarged(self._source, s, (top, top + mean.shape[1]), (left, left + mean.shape[2]))
            mean = torch.where(there, mean, below)
            mean = wavelet(mean, below) if job.color_fix == "wavelet" else mean
        if job.color_fix == "coarse":
            spans = (torch.arange(at // s, (at + side) // s) for at, side in zip((top, left), there.shape, strict=True))
            part = adapters.Planes(self._source.pick(*spans))
            mean = torch.cat([*keep_coarse([mean], part, s)], 1)
        if job.out_hw != (height, width):
            strips = fit([mean.clamp(0, 1)], (height, width), job.out_hw, None)
            return torch.cat([strip.rgb for strip in strips], 1), (0, 0)
        return mean, (top, left)


def _variation(sampling: Sampling, number: int) -> Variation | None:
    """Of candidate `number`: the candidates lie evenly on the ellipse, the seed turns it."""
    if not sampling.variety:
        return None
    turn = np.random.default_rng([sampling.seed & (2**64 - 1), _TURN]).random() + number / sampling.candidates
    return Variation(turn % 1, sampling.variety)


def _single(array: Any, job: UpscaleRequest) -> Any:
    """Without the leading batch axis that results of tensors have."""
    return array[0] if job.batched and array is not None else array
