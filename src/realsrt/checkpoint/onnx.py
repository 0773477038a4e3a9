"""Models as ONNX files, for programs without PyTorch. Needs the extra ``onnx``; see docs/export.md.

Legend: B windows (any number), n side of a window in input pixels, N tokens, s scale (4). A token that is not known yet
has the id ``codes``, the number of codes.

`export_whole`, in one file, the number of steps fixed: lq (B,3,H,W), RGB in [0,1] → image (B,3,sH,sW), not clamped;
with steps also confidence (B,H/c,W/c), c pixels a cell, in [0,1]. `export`, in parts:

* guide.onnx: lq (B,3,n,n), RGB in [0,1] → what the others take beside it: up (B,3,sn,sn), features, cond_ids, as far as
  the model has them; a trunk has one denoising strength, chosen at the export
* generator.onnx: ids (B,N) int64, mask (B,N) True = predicted, the guide's → choice (B,N), the likeliest codes
* critic.onnx: ids, the guide's → confidence (B,N) in [0,1], high = believable
* decoder.onnx: ids, the guide's → image (B,3,sn,sn), not clamped
"""

import json
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from realsrt.errors import RealSRTError, needs
from realsrt.io.atomic import rename, temporary_beside, write_whole
from realsrt.io.files import file_sha256
from realsrt.model import RealSRT
from realsrt.models.guide import Ground, Guide
from realsrt.models.trunk import PIECE
from realsrt.sampling.schedules import SCHEDULES, masked_count

OPSET = 20
WINDOW_KEY = "window"
"""Metadata of a whole model's file with steps: the side of the windows that it is meant for, in input pixels."""
PART_KEY = "realsrt_part"
"""Metadata of a part's file: which one it is."""
TOLERANCE = 1e-3  # of a part's floats, between PyTorch and ONNX Runtime


class _OnnxPart(nn.Module):
    """A function of a model as a module with flat tensors in and out."""

    def __init__(self, model: RealSRT) -> None:
        super().__init__()
        self.model = model

    def _find(self, lq: Tensor, denoise: float, views: Sequence[Tensor]) -> Guide:
        """The guide, by what the trunk sees in these views: of free sizes it could not choose its pieces."""
        trunk = self.model.trunk
        if trunk is None:
            return self.model.guide(lq)
        costs = trunk.costs_of([trunk.look(view) for view in views])
        return self.model.guide(lq, Ground(*trunk.at(denoise, lq, costs)))

    def _guide(self, lq: Tensor, rest: Sequence[Tensor]) -> Guide:
        left = iter(rest)
        up = next(left)
        features = next(left) if self.model.trunk is not None else None
        return Guide(lq, up, features, next(left) if self.model.needs_token_condition else None)


class _GuidePart(_OnnxPart):
    def __init__(self, model: RealSRT, denoise: float) -> None:
        super().__init__(model)
        self.denoise = denoise

    def forward(self, lq: Tensor) -> tuple[Tensor, ...]:
        guide = self._find(lq, self.denoise, [lq])
        return tuple(x for x in (guide.up, guide.features, guide.ids) if x is not None)


class _GeneratorPart(_OnnxPart):
    def forward(self, ids: Tensor, mask: Tensor, lq: Tensor, *rest: Tensor) -> Tensor:
        head = self.model.generator
        return head(ids, self.model.condition(head.backbone, self._guide(lq, rest)), mask).argmax(-1)


class _CriticPart(_OnnxPart):
    def forward(self, ids: Tensor, lq: Tensor, *rest: Tensor) -> Tensor:
        head = self.model.critic
        return head.confidence(head(ids, self.model.condition(head.backbone, self._guide(lq, rest))))


class _DecoderPart(_OnnxPart):
    def forward(self, ids: Tensor, lq: Tensor, *rest: Tensor) -> Tensor:
        return self.model.decode(ids, self._guide(lq, rest))


def parts(model: RealSRT, denoise: float) -> dict[str, tuple[nn.Module, list[str], list[str]]]:
    """The parts that `export` writes: each as a module, what it takes and what it gives. `denoise`: strength of the
    trunk, 0 to 1."""
    known = ["up", *["features"] * (model.trunk is not None), *["cond_ids"] * model.needs_token_condition]
    return {
        "guide": (_GuidePart(model, denoise), ["lq"], known),
        "generator": (_GeneratorPart(model), ["ids", "mask", "lq", *known], ["choice"]),
        "critic": (_CriticPart(model), ["ids", "lq", *known], ["confidence"]),
        "decoder": (_DecoderPart(model), ["ids", "lq", *known], ["image"]),
    }


class _WholePart(_OnnxPart):
    """As `RealSRT.super_resolve` at temperature 0, the steps unrolled."""

    def __init__(self, model: RealSRT, denoise: float, steps: int) -> None:
        super().__init__(model)
        self.denoise, self.steps = denoise, steps
        if model.trunk is not None:
            model.trunk.network(denoise)  # made here: while exporting, tensors have no values

    def forward(self, lq: Tensor) -> tuple[Tensor, ...]:
        ends = slice(None, PIECE), slice(-PIECE, None)  # pieces of an image up to 384 pixels a side; a window is one
        views = [lq] if self.steps else [lq[:, :, rows, columns] for rows in ends for columns in ends]
        guide = self._find(lq, self.denoise, views)
        if not self.steps:
            return (guide.up,)
        model, schedule = self.model, SCHEDULES[self.model.config.schedule]
        seen, judged = (model.condition(head.backbone, guide) for head in (model.generator, model.critic))
        rows, columns = seen.grid
        ids = torch.full((lq.shape[0], rows * columns), model.config.generator.codes, device=lq.device)
        mask = torch.ones_like(ids, dtype=torch.bool)
        for step in range(1, self.steps + 1):
            ids = torch.where(mask, model.generator(ids, seen, mask).argmax(-1), ids)
            score = model.critic(ids, judged)
            place = score.argsort(1).argsort(1)  # of each among the least confident, from 0
            # floor(N * share) of them, as `masked_count` says, without asking how many there are
            count = torch.ones_like(place).sum(1, keepdim=True) * schedule(step / self.steps) + 1e-9
            mask = place + 1 <= count
        return model.decode(ids, guide), model.grid(model.critic.confidence(score), guide)


def export_whole(model: RealSRT, path: Path, *, denoise: float = 0.5, steps: int | None = None) -> list[Path]:
    """Write the model as one file, checked against PyTorch on two sizes of input.

    Args:
        model: The model. Height and width of its input are free, multiples of ``fold`` where there are steps; where
            positions come from a table (the paper's), they are those of the window.
        path: The file, ``.onnx``.
        denoise: Strength of the trunk, 0 to 1.
        steps: Of generation; 0 = the base image of the trunk, or the bicubic enlargement. None: the model's own.

    Returns:
        The file, in a list.

    Raises:
        UsageError: Without the extra.
        RealSRTError: If the file computes something else.
    """
    need_the_extra()
    steps = model.config.num_steps if steps is None else steps
    model = _plain(model)
    window, fold = model.config.window, model.config.fold if steps else 1
    generator = model.config.generator
    free = not steps or "sincos" not in (generator.position, model.config.critic.position)
    sizes = [(window, window), (window - 3 * fold, window + fold)] if free else [(window, window)]
    rng = torch.Generator().manual_seed(0)
    inputs = [torch.rand(2, 3, *size, generator=rng) for size in sizes]
    outputs = ["image", "confidence"] if steps else ["image"]
    axes = {"lq": ("height", "width"), "image": tuple(f"{model.config.scale}*{side}" for side in ("height", "width"))}
    axes["confidence"] = tuple(f"{side}/{model.config.fold}" for side in ("height", "width"))
    shape: dict[int, object] = {0: torch.export.Dim("batch", min=1, max=4096)}
    if free:
        shape |= {axis: fold * torch.export.Dim(name, min=4, max=4096) for axis, name in ((2, "rows"), (3, "columns"))}
    part = _WholePart(model, denoise, steps)
    metadata = {WINDOW_KEY: str(window)} if steps else {}
    _save(part, (inputs[-1],), ["lq"], outputs, {"lq": shape}, path, metadata, axes if free else {})
    for lq in inputs:
        _compare(part, (lq,), ["lq"], path)
    return [path]


def export(model: RealSRT, folder: Path, *, denoise: float = 0.5) -> list[Path]:
    """Write ``guide``, ``generator``, ``critic`` and ``decoder`` as .onnx and ``realsrt.json`` (how to join them) into
    `folder`, each checked against PyTorch on a random window. `denoise`: strength of the trunk, 0 to 1.
    Raises UsageError without the extra, RealSRTError if a part computes something else."""
    need_the_extra()
    model = _plain(model)
    folder.mkdir(parents=True, exist_ok=True)
    rng = torch.Generator().manual_seed(0)
    window = model.config.window
    given = example(model, torch.rand(2, 3, window, window, generator=rng), denoise)
    ids = given["ids"]
    given["mask"] = torch.rand(ids.shape, generator=rng) < 0.5
    paths = []
    for name, (part, takes, gives) in parts(model, denoise).items():
        paths.append(_write(part, tuple(given[each] for each in takes), takes, gives, folder / f"{name}.onnx"))
    facts = {
        "model": asdict(model.info),
        "preset": model.config.preset,
        "window": window,
        "scale": model.config.scale,
        "tokens": ids.shape[1],
        "codes": model.config.generator.codes,
        "steps": model.config.num_steps,
        "denoise": None if model.trunk is None else denoise,
        "masked_after_step": {
            str(total): [
                masked_count(SCHEDULES[model.config.schedule], ids.shape[1], t + 1, total) for t in range(total)
            ]
            for total in (1, 2, 4, 8)
        },
        "color_fix": model.config.color_fix,
        "sha256": {path.name: file_sha256(path) for path in paths},
    }
    write_whole(folder / "realsrt.json", (json.dumps(facts, indent=2) + "\n").encode())
    return [*paths, folder / "realsrt.json"]


@torch.no_grad()
def example(model: RealSRT, lq: Tensor, denoise: float) -> dict[str, Tensor]:
    """What `parts` take, for windows (B,3,n,n): the guide's, ids after one step, and a mask of all positions."""
    part, _, known = parts(model, denoise)["guide"]
    ids = next(iter(model.iterate(model.guide(lq), num_steps=1))).ids
    return {"lq": lq, "ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool)} | dict(
        zip(known, part(lq), strict=True)
    )


def need_the_extra() -> None:
    """Raises UsageError without it."""
    with needs("onnx", "exporting"):
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401


def _plain(model: RealSRT) -> RealSRT:
    return cast(Any, model.cpu()).to(memory_format=torch.contiguous_format).eval()


def _write(part: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str], path: Path) -> Path:
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes: Any = {name: {0: batch} for name in names}
    if len(names) > 1:  # "rest" of forward(..., *rest) takes the guide's
        fixed = names.index("lq") + 1
        shapes = tuple({0: batch} for _ in names[:fixed]), tuple({0: batch} for _ in names[fixed:])
        shapes = (*shapes[0], shapes[1])
    _save(part, inputs, names, outputs, shapes, path, {PART_KEY: path.stem}, {})
    _compare(part, inputs, names, path)
    return path


def _save(
    part: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str], shapes: Any, path: Path,
    metadata: dict[str, str], axes: Mapping[str, tuple[str, ...]],
) -> None:  # fmt: skip
    """`axes`: what the last axes of inputs and outputs are called, where they are free; torch calls them s30."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            part, inputs, dynamo=True, verbose=False, opset_version=OPSET, input_names=names, output_names=outputs,
            dynamic_shapes=shapes,
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(metadata)
    for value in (*program.model.graph.inputs, *program.model.graph.outputs):
        for number, name in enumerate(reversed(axes.get(value.name or "", ()))):
            assert value.shape is not None
            value.shape[-1 - number] = name
    temporary = temporary_beside(path)
    try:
        program.save(str(temporary))
        rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _compare(part: nn.Module, inputs: tuple[Tensor, ...], names: list[str], path: Path) -> None:
    """On the inputs, and on the first window alone, so that the batch is known to be free."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    takes = {entry.name for entry in session.get_inputs()}
    for some in (inputs, tuple(x[:1] for x in inputs)):
        with torch.inference_mode():
            expected = part(*some)
        feed = {name: x.numpy() for name, x in zip(names, some, strict=True) if name in takes}
        for want, got in zip(
            expected if isinstance(expected, tuple) else (expected,), session.run(None, feed), strict=True
        ):
            got = torch.from_numpy(got)
            same = got.shape == want.shape and (
                torch.allclose(got, want, atol=TOLERANCE)
                if want.is_floating_point()
                else bool((got == want).float().mean() > 0.99)
            )
            if not same or not math.isfinite(float(got.double().sum())):
                raise RealSRTError(f"{path}: does not compute what PyTorch does; please report this with the versions")
