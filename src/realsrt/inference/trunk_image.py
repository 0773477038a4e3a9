"""The trunk on a whole image: in big pieces with a halo, and from them strips of base image and features.

A piece sees as much around it as its pixels depend on, so the numbers are those of the whole image in one piece, to
the last bit on the CPU; of the deep network's reach, which is several times longer, the part that matters. Legend: H W
input pixels, F features, s scale.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from realsrt.errors import RealSRTError
from realsrt.imaging.color import COARSE_REACH
from realsrt.imaging.resize import upscale_bicubic
from realsrt.imaging.tiling import TilePlan, window_at
from realsrt.inference.adapters import Pixels, Planes
from realsrt.models.guide import Ground
from realsrt.models.trunk import Amounts, Reduction, Trunk, Variation, Way, choose, mix, pieces, vary
from realsrt.nn.device import to_device

PIECE = 512  # side of a piece without its halo, twice that of the deep ways; halved where memory does not take it
LEAST_PIECE = 32
STRIP_PIXELS = 2**19  # a strip of rows has about so many, and is 64 to PIECE rows high; twice that of the deep ways
_BICUBIC = 2  # how far bicubic enlarging looks
_DEEP_REACH = 80  # of the deep network, in pixels that it sees: what lies further away changes no pixel by a level
_ROWS = 16  # a strip's rows are a multiple of
_Cut = tuple[slice, slice]  # rows, columns
Make = Callable[[int, int, int, int], tuple[Tensor, ...]]  # of rows top to bottom, columns left to right
_KEPT = 2  # strips; a window lies in no more, as strips are no lower than windows


class TrunkImage:
    """What the trunk makes of one image, in strips that are computed when they are first asked for."""

    def __init__(
        self,
        trunk: Trunk,
        source: Planes | Pixels,
        device: torch.device,
        *,
        denoise: float | None = None,
        variation: Variation | None = None,
        deep: bool = True,
        columns: range | None = None,
        piece: int = PIECE,
        window: int = 64,
        precision: Callable[[], AbstractContextManager[object]],
        deep_precision: Callable[[], AbstractContextManager[object]] | None = None,
        is_out_of_memory: Callable[[BaseException], bool],
    ) -> None:
        """``denoise``: None = as the trunk finds right. ``variation``: with other amounts than these. ``deep``: may
        be taken. ``columns``: none outside of these will be asked for. ``window``: what will be asked for at once is no
        higher."""
        self._trunk, self._source, self._device = trunk, source, device
        self._piece, self._precision, self._is_out_of_memory = piece, precision, is_out_of_memory
        self._deep_precision = deep_precision or precision
        self.scale = trunk.config.network.scale
        height, width = source.hw
        self._columns = columns or range(width)
        self._found: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()
        self.own, self.amounts = self._estimate(denoise, variation, deep)
        larger = 2 if self.amounts.way.deep else 1  # its halo is much work
        self._piece *= larger
        self._rows = max(window, min(larger * PIECE, larger * STRIP_PIXELS // width)) // _ROWS * _ROWS or _ROWS
        self.strips = -(-height // self._rows)
        self._reduced = tuple(Reduction(side, self.scale) for side in source.hw)

    @torch.inference_mode()
    def _estimate(self, denoise: float | None, variation: Variation | None, deep: bool) -> tuple[Amounts, Amounts]:
        found = [
            self._trunk.look(self._pick(rows.start, rows.stop, columns.start, columns.stop))
            for rows, columns in pieces(*self._source.hw)
        ]
        costs_K = self._trunk.costs_of(found)[0]
        own = choose(costs_K, denoise, deep=deep)
        return own, own if variation is None else vary(costs_K, own, variation, deep=deep)

    def _pick(self, first: int, stop: int, west: int, east: int) -> Tensor:
        lq = self._source.pick(torch.arange(first, stop), torch.arange(west, east))[None]
        return to_device(lq, self._device).contiguous(memory_format=torch.channels_last)

    def _run(self, make: Make, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, ...]:
        """What is made of a part, on the CPU."""
        side = max(bottom - top, right - left)
        if side > self._piece:  # memory has run out since it was cut
            return self._parts(make, top, bottom, left, right)
        try:
            with self._precision():
                return make(top, bottom, left, right)
        except Exception as error:
            if not self._is_out_of_memory(error):
                raise
        if side <= LEAST_PIECE or self._piece <= LEAST_PIECE:
            raise RealSRTError(
                f"out of memory on {self._device} with {bottom - top}x{right - left} pixels; close other programs that "
                "use it, or run on the CPU (--device cpu)"
            )
        while self._piece >= side:
            self._piece //= 2
        return self._parts(make, top, bottom, left, right)

    def _parts(self, make: Make, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, ...]:
        """As `_run`, piece by piece."""
        lines, piece = [], self._piece  # which may be halved on the way
        for y in range(top, bottom, piece):
            line = [
                self._run(make, y, min(y + piece, bottom), x, min(x + piece, right)) for x in range(left, right, piece)
            ]
            lines.append(_joined(line, 2))
        return _joined(lines, 1)

    def _both(self, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, Tensor]:
        """Features (F,h,w) and base (3,sh,sw) of a part."""
        network = self._trunk.network(self.amounts.denoise)
        lq, inside, fine = self._around(max(network.config.reach, _BICUBIC), top, bottom, left, right)
        features = network.features(lq)
        found = features[0][:, *inside].float().cpu()
        denoise, share, way = self.amounts
        if way == Way.REDUCED:
            return found, *self._base_of_reduced(top, bottom, left, right)
        image = network.image(features, lq)[0][:, *fine].float().cpu()
        if way.deep:
            deep = self._restored_reduced if way.reduced else self._restored_deep
            image = torch.lerp(image, deep(top, bottom, left, right), denoise)
        return found, mix(upscale_bicubic(lq, self.scale)[0][:, *fine].cpu(), image, share)

    def _around(self, reach: int, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, _Cut, _Cut]:
        """A part with `reach` pixels around it, where there are so many; where the part lies in that, and in its
        enlargement."""
        (height, width), s = self._source.hw, self.scale
        first, west = max(0, top - reach), max(0, left - reach)
        lq = self._pick(first, min(height, bottom + reach), west, min(width, right + reach))
        rows, columns = inside = slice(top - first, bottom - first), slice(left - west, right - west)
        return lq, inside, (slice(rows.start * s, rows.stop * s), slice(columns.start * s, columns.stop * s))

    def _base_of_reduced(self, top: int, bottom: int, left: int, right: int) -> tuple[Tensor]:
        """The base (3,sh,sw) of a part, of the reduced way."""
        restored = self._restored_reduced(top, bottom, left, right)
        return (mix(self._plain(top, bottom, left, right), restored, self.amounts.share),)

    def _reach(self) -> int:
        """How far around a part the way's network is shown, in pixels that it sees."""
        reach = self._trunk.seeing(self.amounts.denoise, self.amounts.way).config.reach
        return min(reach + COARSE_REACH, _DEEP_REACH) if self.amounts.way.deep else reach

    def _see(self, seen: Tensor) -> Tensor:
        """The image (1,3,sH,sW) that the way's network makes, on the CPU."""
        with self._deep_precision() if self.amounts.way.deep else nullcontext():
            return self._trunk.see(seen, self.amounts.denoise, self.amounts.way).float().cpu()

    def _restored_deep(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """What the deep network makes (3,sh,sw) of a part."""
        lq, _, fine = self._around(self._reach(), top, bottom, left, right)
        return self._see(lq)[0][:, *fine]

    def _restored_reduced(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """What is made (3,sh,sw) of a part by the network that sees the image reduced."""
        reach, s = self._reach(), self.scale
        spans = ((top * s, bottom * s), (left * s, right * s))
        seen, read = [], []
        for axis, (start, stop) in zip(self._reduced, spans, strict=True):
            low, high = axis.up.needs(start, stop)
            seen.append((max(0, low // s - reach), min(axis.side, -(-high // s) + reach)))
            read.append(axis.down.needs(*seen[-1]))
        lq = self._source.pick(*(torch.arange(*span) for span in read))[None]
        for number, (axis, (start, stop), (first, _)) in enumerate(zip(self._reduced, seen, read, strict=True), 2):
            lq = axis.down.along(lq, number, start, stop, offset=first)
        small = to_device(lq.clamp(0, 1), self._device).contiguous(memory_format=torch.channels_last)
        image = self._see(small)
        for number, (axis, span, (first, _)) in enumerate(zip(self._reduced, spans, seen, strict=True), 2):
            image = axis.up.along(image, number, *span, offset=first * s)
        return image[0]

    def _plain(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """The bicubic enlargement (3,sh,sw) of a part."""
        lq, _, fine = self._around(_BICUBIC, top, bottom, left, right)
        return upscale_bicubic(lq, self.scale)[0][:, *fine].float().cpu()

    @torch.inference_mode()
    def strip(self, number: int) -> tuple[Tensor, Tensor]:
        """Features (F,h,W) and base image (3,sh,sW) of strip ``number``, float32 on the CPU, not clamped. Raises
        RealSRTError if they are not finite or no piece fits in memory."""
        if number in self._found:
            self._found.move_to_end(number)
            return self._found[number]
        while len(self._found) >= _KEPT:  # before there is one more
            self._found.popitem(last=False)
        features, base = self._made(self._both, number)
        self._found[number] = found = (features, base)
        return found

    def base_strips(self) -> Iterator[Tensor]:
        """The base image (3,sh,sW) of every strip, from the top. No features are computed for it where it can be had
        without."""
        for number in range(self.strips):
            alone = self.amounts.way == Way.REDUCED and number not in self._found
            yield self._made(self._base_of_reduced, number)[0] if alone else self.strip(number)[1]

    def _made(self, make: Make, number: int) -> tuple[Tensor, ...]:
        """What is made of a strip, its base last. Raises as `strip`."""
        height, top = self._source.hw[0], number * self._rows
        found = self._parts(make, top, min(top + self._rows, height), self._columns.start, self._columns.stop)
        if not bool(found[-1].sum().isfinite()):  # of each pixel would take as much memory again
            raise RealSRTError("the model fails on this image: its base image is not finite; try --fp32")
        return found

    def window(self, tiles: TilePlan, index: int) -> Ground:
        """Features (1,F,n,n) and base (1,3,sn,sn) of a window, its border mirrored in."""
        rows, columns = window_at(tiles, index)
        columns = columns - self._columns.start
        (low, stop), (west, east) = ((int(places.min()), int(places.max()) + 1) for places in (rows, columns))
        s, parts = self.scale, []
        for first in range(low // self._rows * self._rows, stop, self._rows):
            top, bottom = max(0, low - first), min(self._rows, stop - first)
            features, base = self.strip(first // self._rows)
            parts.append((features[:, top:bottom, west:east], base[:, top * s : bottom * s, west * s : east * s]))
        features, base = _joined(parts, 1)
        rows, columns = rows - low, columns - west
        fine_rows, fine_columns = _fine(rows, s), _fine(columns, s)
        return Ground(
            features.index_select(1, rows).index_select(2, columns)[None],
            base.index_select(1, fine_rows).index_select(2, fine_columns)[None],
        )


def _joined(parts: list[tuple[Tensor, ...]], dim: int) -> tuple[Tensor, ...]:
    """The first tensors of all parts as one, and so on; of a single part without a copy."""
    return parts[0] if len(parts) == 1 else tuple(torch.cat(found, dim) for found in zip(*parts, strict=True))


def _fine(places: Tensor, scale: int) -> Tensor:
    """The output pixels of input pixels in a row; where the row runs backwards (mirrored), so do they."""
    falls = torch.ones(len(places) + 1, dtype=torch.bool)
    falls[1:-1] = places[1:] < places[:-1]
    back = (falls[1:] & falls[:-1])[:, None] & (len(places) > 1)
    within = torch.arange(scale)
    return (places[:, None] * scale + torch.where(back, scale - 1 - within, within)).flatten()
