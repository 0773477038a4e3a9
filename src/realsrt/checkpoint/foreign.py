"""Networks of other projects, to be compared with ours.

The Real-ESRGAN project's compact and dense networks are read by our own code, ONNX files are run by ONNX Runtime, and
what else spandrel knows is built by it (extra ``compare``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from realsrt.checkpoint.load import load_model
from realsrt.checkpoint.official import PICKLE_SUFFIXES, check_stored, unpickle
from realsrt.checkpoint.onnx import PART_KEY, WINDOW_KEY
from realsrt.checkpoint.published import load_published
from realsrt.checkpoint.weights import ForeignFileError, read_tensors
from realsrt.errors import CheckpointError, UsageError, first_line, installing, needs
from realsrt.imaging.tiling import mirror_index
from realsrt.model import RealSRT

TILE = 256
MARGIN = 16
"""Input pixels that a tile reads beyond its own on every side; of a network of one size, at most a quarter of it."""
_PROBE = 32  # a side of the image that tells what an ONNX file does


@dataclass(frozen=True)
class ForeignNetwork:
    """`run`: (1,3,h,w) RGB in [0,1] → (1,3,sh,sw) float32 on the CPU, s the `scale`. `side`: the only h and w it takes,
    or None for any."""

    run: Callable[[Tensor], Tensor]
    scale: int
    side: int | None = None

    @torch.inference_mode()
    def enlarge(
        self, lq_BCHW: Tensor, tile: int = TILE, *, on_progress: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """(1,3,H,W) → (1,3,sH,sW), not clamped, tile by tile: they overlap, and pass into one another in the middle of
        that. An image smaller than the network's one size is mirrored at its edges. `on_progress`: called with (done,
        total) tiles. Raises CheckpointError if the network does not take such an image."""
        s, margin = self.scale, MARGIN if self.side is None else min(MARGIN, self.side // 4)
        sides = [self.side or min(length, tile + 2 * margin) for length in lq_BCHW.shape[2:]]
        rows, columns = (_axis(*lengths, margin, s) for lengths in zip(lq_BCHW.shape[2:], sides, strict=True))
        out_BCHW = torch.zeros(1, 3, *(s * length for length in lq_BCHW.shape[2:]))
        for done, (row, column) in enumerate(product(rows, columns)):
            if on_progress:
                on_progress(done, len(rows) * len(columns))
            read_BCHW = lq_BCHW.index_select(2, row.read).index_select(3, column.read)
            made_BCHW = self.run(read_BCHW)
            if made_BCHW.shape[2:] != (s * sides[0], s * sides[1]):
                raise CheckpointError(f"the network gives other than {s} times the size at {sides[1]}x{sides[0]} px")
            weight_HW = row.weight[:, None] * column.weight
            out_BCHW[..., row.to, column.to] += made_BCHW[..., row.of, column.of] * weight_HW
        if on_progress:
            on_progress(len(rows) * len(columns), len(rows) * len(columns))
        return out_BCHW


class _Tile(NamedTuple):
    """Along one axis: which pixels it reads, which of its output go where, and their share of what is there."""

    read: Tensor
    of: slice
    to: slice
    weight: Tensor


def _axis(length: int, side: int, margin: int, scale: int) -> list[_Tile]:
    """Tiles of `side` evenly over an axis, as few as overlap by two margins; a shorter axis in the middle of one."""
    last = length - side
    count = 1 - (-last // (side - 2 * margin)) if last > 0 else 1
    starts = [last * number // max(1, count - 1) if last > 0 else last // 2 for number in range(count)]
    rise = ((torch.arange(scale * side) + 0.5) / scale - margin / 2).div(max(margin, 1)).clamp(0, 1)
    total, tiles = torch.zeros(scale * length), []
    for number, start in enumerate(starts):
        to = slice(scale * max(start, 0), scale * min(start + side, length))
        of = slice(to.start - scale * start, to.stop - scale * start)
        weight = (rise if number else torch.ones_like(rise)) * (rise.flip(0) if number < count - 1 else 1)
        total[to] += weight[of]
        tiles.append(_Tile(mirror_index(start, start + side, length), of, to, weight[of]))
    return [one._replace(weight=one.weight / total[one.to]) for one in tiles]


def load_any(source: str, *, device: str | torch.device = "cpu") -> RealSRT | ForeignNetwork:
    """A model of ours, as `load_model` takes it, or a network of another project: .onnx, .pth or .safetensors.

    No code in a file is run. Raises UsageError without a package that the file needs, CheckpointError for what is
    missing, damaged or no network from one RGB image to another.
    """
    path, device = Path(source), torch.device(device)
    suffix = path.suffix.lower()
    if not path.is_file():
        return load_model(source, device=device)
    if suffix == ".onnx":
        return _by_onnx(path)
    if suffix not in (".safetensors", *PICKLE_SUFFIXES):
        raise CheckpointError(f"{path} is none of .safetensors, .pth and .onnx")
    if suffix == ".safetensors":
        try:
            return load_model(source, device=device)
        except ForeignFileError:
            pass
    try:
        network = load_published(path).to(device)
        return ForeignNetwork(lambda lq_BCHW: network(lq_BCHW.to(device)).float().cpu(), 4)
    except CheckpointError as error:
        problem = error
    if suffix != ".safetensors":
        try:
            return load_model(source, device=device)  # the authors'
        except CheckpointError:
            pass
    content = read_tensors(path) if suffix == ".safetensors" else unpickle(path)
    return _by_spandrel(path, content, device, str(problem))


def labels(names: Sequence[str]) -> list[str]:
    """Weight files by their stem, by their name where stems are equal, or else by the whole path; other names as they
    are."""

    def by(part: str) -> list[str]:
        files = (".safetensors", ".pth", ".onnx")
        return [getattr(Path(name), part) if name.endswith(files) else name for name in names]

    shorter_first = list(zip(by("stem"), by("name"), names, strict=True))
    taken = [list(column) for column in zip(*shorter_first, strict=True)]
    return [
        next((label for label, others in zip(own, taken, strict=True) if others.count(label) == 1), own[-1])
        for own in shorter_first
    ]


def _by_onnx(path: Path) -> ForeignNetwork:
    with needs("compare", f"{path}: an ONNX file"):
        import numpy as np
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds
        raise CheckpointError(f"{path} is no ONNX file that can be run: {first_line(error)}") from None
    metadata = session.get_modelmeta().custom_metadata_map
    if part := metadata.get(PART_KEY):
        raise CheckpointError(f"{path} is the {part} alone; realsrt export writes the whole model to a name in .onnx")
    entries = session.get_inputs()
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    if len(entries) != 1 or entries[0].type not in types or len(entries[0].shape) != 4:
        sizes = ["x".join(str(side or "any") for side in entry.shape) for entry in entries]
        takes = ", ".join(f"{entry.name} {entry.type} {size}" for entry, size in zip(entries, sizes, strict=True))
        raise CheckpointError(f"{path} takes {takes}: one image of floats, (1,3,H,W), is needed")
    name, kind = entries[0].name, types[entries[0].type]
    window = metadata.get(WINDOW_KEY)
    sides = [int(window)] * 2 if window else [side if isinstance(side, int) else None for side in entries[0].shape[2:]]
    if sides[0] != sides[1]:
        raise CheckpointError(
            f"{path} takes images of {' x '.join(str(side or 'any') for side in sides)} px: only squares or any size "
            "are possible here"
        )

    def run(lq_BCHW: Tensor) -> Tensor:
        try:
            return torch.from_numpy(session.run(None, {name: lq_BCHW.numpy().astype(kind)})[0]).float()
        except Exception as error:
            raise CheckpointError(f"{path} fails on {tuple(lq_BCHW.shape)}: {first_line(error)}") from None

    side = sides[0] or _PROBE
    shape = tuple(run(torch.zeros(1, 3, side, side)).shape)
    if len(shape) != 4 or shape[:2] != (1, 3) or shape[2] != shape[3] or shape[2] % side:
        raise CheckpointError(f"{path} makes {shape} of an image of {side}x{side}: no larger RGB image")
    return ForeignNetwork(run, shape[2] // side, sides[0])


def _by_spandrel(path: Path, content: Any, device: torch.device, otherwise: str) -> ForeignNetwork:
    try:
        from spandrel import (  # pyright: ignore[reportMissingImports] - brings torchvision, and is tried only
            ImageModelDescriptor,
            ModelLoader,
            canonicalize_state_dict,
        )
    except Exception as error:  # a torchvision of another build of torch is a RuntimeError
        raise UsageError(
            f"{otherwise}; others need spandrel, with the torchvision of your torch: {installing('compare')} "
            f"({first_line(error)})"
        ) from None
    try:
        state = canonicalize_state_dict(content)
        check_stored(state, path)
        found = ModelLoader(device).load_from_state_dict(state)
    except CheckpointError:
        raise
    except Exception as error:  # spandrel's or torch's
        raise CheckpointError(f"{path} is no network that spandrel knows: {first_line(error)}") from None
    if not isinstance(found, ImageModelDescriptor) or (found.input_channels, found.output_channels) != (3, 3):
        raise CheckpointError(f"{path} is no network from one RGB image to another")
    found.eval()
    return ForeignNetwork(lambda lq_BCHW: found(lq_BCHW.to(device)).float().cpu(), found.scale)
