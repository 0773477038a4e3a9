"""`realsrt compare`: models side by side, ours and those of others, on the same images."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from realsrt.batch.plan import find_images
from realsrt.cli.options import ModelArgs, UpscaleArgs, check_not_read, check_outputs, make_folders, option
from realsrt.cli.show import Screen, note, table
from realsrt.errors import UsageError
from realsrt.inference.options import Alpha

if TYPE_CHECKING:
    from torch import Tensor

    from realsrt.evaluation.contact_sheet import Crop

Run = Callable[["Tensor"], "Tensor"]
"""(1,3,H,W) in [0,1] → (1,3,sH,sW) on the CPU."""


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class _UpscaleArgs(UpscaleArgs):
    outscale: Annotated[float, Parameter(parse=False)] = 4.0
    size: Annotated[tuple[int, int] | None, Parameter(parse=False)] = None
    alpha: Annotated[Alpha, Parameter(parse=False)] = "lanczos"
    confidence: Annotated[bool, Parameter(parse=False)] = False


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class _ModelArgs(ModelArgs):
    model_name: Annotated[str, Parameter(parse=False)] = "small"
    model_path: Annotated[str | None, Parameter(parse=False)] = None


def compare(
    input: Annotated[list[str], option("--input", "-i", help="Low-quality images.", consume_multiple=True)],
    *,
    models: Annotated[
        list[str],
        option(
            "--models", "-n", consume_multiple=True,
            help="Names and weight files of ours, hf:org/repo, .pth and .safetensors of others, .onnx files.",
        ),
    ],
    output: Annotated[Path, option("--output", "-o", help="The sheet: .png, .jpg, .webp or .html.")],
    rows: Annotated[int, option(help="Crops on the sheet.")] = 6,
    options: _UpscaleArgs = _UpscaleArgs(),
    model: _ModelArgs = _ModelArgs(),
) -> int:  # fmt: skip
    """Upscale images by several models; show where the results differ most, beside input and bicubic, and the seconds.

    Networks of the Real-ESRGAN project (SRVGGNetCompact, RRDBNet) need no extra; what else spandrel knows, and ONNX
    files, need the extra `compare`. Options are for our models. Others run in tiles; what they do not enlarge four
    times is brought to that size. The seconds are of the upscaling alone, in turns, after a warm-up.
    """
    import torch

    from realsrt.checkpoint.foreign import labels
    from realsrt.evaluation import contact_sheet, pairing
    from realsrt.inference.threads import use_threads
    from realsrt.nn.device import keep_freed_memory

    check_outputs(output)
    contact_sheet.check(output)
    if rows < 1:
        raise UsageError("--rows must be 1 or more")
    sources = find_images(input, tell=note)
    check_not_read([*sources, *models], output)
    names = labels(models)
    if twice := {name for name in names if names.count(name) > 1 or name in ("input", "bicubic")}:
        raise UsageError(f"two are named {twice.pop()}: give each model once, under a name of its own")
    keep_freed_memory()
    use_threads(model.threads)
    screen = Screen(len(sources))
    runs = {label: _contestant(name, options, model, screen) for label, name in zip(names, models, strict=True)}
    seconds: dict[str, list[float]] = {label: [] for label in runs}
    crops: list[Crop] = []
    megapixels = 0.0
    with screen:
        for number, source in enumerate(sources):
            lq = pairing.load(source)
            for run in runs.values() if not number else ():
                run(lq[..., :32, :32])
            turn = number % len(names)
            crops += _upscaled(source.name, lq, runs, [*names[turn:], *names[:turn]], seconds, rows, screen)
            megapixels += 16 * lq.shape[2] * lq.shape[3] / 1e6
            screen.advance()
    where = f"{model.device}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    make_folders(output)
    contact_sheet.save(
        output, contact_sheet.choose(crops, rows), 
        title=f"{', '.join([*names, 'bicubic'])}: {sources[0].name if len(sources) == 1 else f'{len(sources)} images'}",
        about=f"Where the results differ most. Seconds of the whole image, upscaling alone; {where}.",
    )  # fmt: skip
    found = [[label, f"{sum(own):.2f}", f"{megapixels / sum(own):.3g}"] for label, own in seconds.items()]
    table(f"{len(sources)} images, {megapixels:.3g} megapixels made; {where}", ["model", "seconds", "MP/s"], found)
    return 0


def _contestant(name: str, options: _UpscaleArgs, model: _ModelArgs, screen: Screen) -> Run:
    from realsrt.checkpoint.foreign import ForeignNetwork, load_any
    from realsrt.inference.runner import pick_device
    from realsrt.inference.upscaler import Upscaler

    device = pick_device(model.device)
    found = load_any(name, device=device)
    if isinstance(found, ForeignNetwork):
        return partial(found.enlarge, on_progress=screen.windows)
    up = Upscaler(found, device, model.chosen_precision)
    up.check(options)
    return lambda lq_BCHW: up.upscale(lq_BCHW, options, on_progress=screen.windows).image.float().cpu()


def _upscaled(
    name: str, lq: "Tensor", runs: Mapping[str, Run], turn: Sequence[str], seconds: dict[str, list[float]], rows: int,
    screen: Screen,
) -> "list[Crop]":  # fmt: skip
    """The crops of one image, models in the order of `runs`, computed in that of `turn`. Adds to `seconds`."""
    from realsrt.evaluation import contact_sheet
    from realsrt.imaging.resize import resize, upscale_bicubic

    made: dict[str, Tensor] = {}
    for label in turn:
        screen.begin(f"{name}, {label}")
        began = time.perf_counter()
        made[label] = runs[label](lq)
        seconds[label].append(time.perf_counter() - began)
    panels = {"input": lq, "bicubic": upscale_bicubic(lq, 4)}
    for label in runs:
        scale = made[label].shape[2] // lq.shape[2]
        shown = f"{label}  {seconds[label][-1]:.2f} s" + (f"  (x{scale}, resized)" if scale != 4 else "")
        panels[shown] = resize(made[label], (4 * lq.shape[2], 4 * lq.shape[3]), "bicubic", antialias=True)
    differing = [label for label in panels if label != "input" and (label != "bicubic" or len(runs) == 1)]
    return contact_sheet.crops(name, panels, differing, count=rows)
