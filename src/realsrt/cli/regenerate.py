"""`realsrt regenerate`: a region of a picture generated anew, all else as `upscale` makes it."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from realsrt.batch.outputs import CONFIDENCE, left_beside, save
from realsrt.batch.plan import FileJob, plan_batch
from realsrt.batch.process import provenance_of, read_image
from realsrt.cli.options import ModelArgs, OutputArgs, SteppedArgs, check_not_read, check_outputs, option, parse_box
from realsrt.cli.show import Screen, note
from realsrt.errors import UsageError
from realsrt.inference.options import Sampling

if TYPE_CHECKING:
    import numpy as np

    from realsrt.inference.result import Upscaled


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class _UpscaleArgs(SteppedArgs):
    seed: Annotated[int | None, Parameter(parse=False)] = None  # --seed is the region's


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class _SamplingArgs(Sampling):
    candidates: int = 1
    """Make so many; the surest becomes the output, the others NAME_2.EXT, NAME_3.EXT and so on."""


def regenerate(
    input: Annotated[str, option("--input", "-i", help="The low-quality picture: one file.")],
    *,
    output: Annotated[str, option("--output", "-o", help="The file to write, or a folder.")],
    box: Annotated[
        list[str] | None,
        option(help="X0,Y0,X1,Y1 in output pixels, ends exclusive. Several: one region after the other."),
    ] = None,
    mask: Annotated[
        Path | None, option(help="A picture of the output's size, or of the input's: the region is where it is bright.")
    ] = None,
    below: Annotated[float | None, option(help="The region is where confidence is below this, 0 to 1.")] = None,
    sampling: _SamplingArgs = _SamplingArgs(),
    options: _UpscaleArgs = _UpscaleArgs(),
    model: ModelArgs = ModelArgs(),  # noqa: B008 - frozen
    files: OutputArgs = OutputArgs(),  # noqa: B008 - frozen
) -> int:
    """Upscale a picture and restore one region of it in another way; the rest is what upscale makes of it.

    INPUT is the low-quality picture: upscaling always gives the same, so it is done again here, and what lies outside
    the region (and 8 pixels around it, at x4) is the same to the byte. With the options of upscale that were used.
    With several regions, --candidates are of the last. Without a terminal, stdout gets a line of JSON.
    """
    if sum(given is not None for given in (box, mask, below)) != 1:
        raise UsageError("give one of --box X0,Y0,X1,Y1 (as often as needed), --mask FILE or --below CONFIDENCE")
    regions: list[Any] = [parse_box(text) for text in box or ()] or [below]
    from realsrt.inference.regions import check_limit, pixel_mask

    if below is not None:
        check_limit(below)
    endings = [f"_{number}" for number in range(2, sampling.candidates + 1)]
    job, *more = plan_batch([input], output)
    if more or Path(input).is_dir():
        raise UsageError(f"regenerate takes one picture, and {input} is {1 + len(more)}; give a file")
    others = [job.beside(ending + job.target.suffix) for ending in endings]
    check_outputs(*others)
    check_not_read([job.source, mask], job.target, *others, job.beside(CONFIDENCE) if files.confidence else None)
    picture = read_image(job.source, job.target, options, files)
    width, height = options.out_size(picture.width, picture.height)
    for region in regions if box else ():
        pixel_mask(region, (height, width), None)
    if mask is not None:
        regions = [read_mask(mask, (height, width), (picture.height, picture.width))]
    up = model.load()
    before = [(list(region) if isinstance(region, tuple) else str(mask) if mask else region) for region in regions]
    with Screen(1) as screen:
        screen.begin(job.source.name)
        out = up.upscale(picture, options, on_progress=screen.windows)
        for number, region in enumerate(regions, 1):
            own = sampling if number == len(regions) else replace(sampling, candidates=1, max_temperature=None)
            out = up.regenerate(out, region, own, on_progress=screen.windows)
    said = {name: getattr(sampling, name) for name in ("temperature", "top_k", "seed", "variety")}

    def made(one: "Upscaled") -> Any:
        """Each file tells of its own temperature."""
        own = {} if sampling.max_temperature is None else {"temperature": round(one.temperature or 0, 3)}
        return provenance_of(up, options, files, {"regenerated": before} | said | own)

    plain = replace(files, confidence=False)
    written = []
    for target, other in zip(others, out.candidates[1:], strict=True):
        written += save(FileJob(job.source, target), other, plain, made(other))[1]
    notices, last = save(job, out, files, made(out))
    for notice in (*picture.notices, *notices):
        note(notice)
    _tell(job, last[-1:] + written, out)
    if left := left_beside([job.target], files):
        note(left)
    return 0


def read_mask(path: Path, out_hw: tuple[int, int], lq_hw: tuple[int, int]) -> "np.ndarray":
    """A mask picture as bool (H, W) of the output's size; one of the input's size is enlarged. Raises ImageError,
    UsageError."""
    import numpy as np

    from realsrt.io import image as imageio

    bright = imageio.read(path).rgb_float().mean(axis=2) >= 0.5
    if bright.shape == lq_hw and bright.shape != out_hw:
        rows, columns = (np.arange(out) * side // out for out, side in zip(out_hw, lq_hw, strict=True))
        bright = bright[rows[:, None], columns]
    if bright.shape != out_hw:
        raise UsageError(
            f"{path}: is {bright.shape[1]}x{bright.shape[0]}; a mask must have the output's size, "
            f"{out_hw[1]}x{out_hw[0]}, or the input's, {lq_hw[1]}x{lq_hw[0]}"
        )
    if not bright.any():
        raise UsageError(f"{path}: the mask is all dark; the region is where it is bright (at least half)")
    return bright


def _tell(job: FileJob, files: list[Path], out: "Upscaled") -> None:
    made = out.candidates or (out,)
    scores = [round(one.score or 0, 4) for one in made]
    drawn = [round(one.temperature or 0, 4) for one in made]
    if not sys.stdout.isatty():
        told = {"outputs": [str(file) for file in files], "scores": scores, "temperatures": drawn}
        changes = [one.change and [round(by, 3) for by in one.change] for one in made]
        how = out.restored[0]._asdict() if out.restored else {}
        print(json.dumps({"input": str(job.source)} | told | {"changes": changes} | how))
        return
    for file, score, temperature, one in zip(files, scores, drawn, made, strict=True):
        change = f", denoising {one.change.denoise:+.2f}, crispness {one.change.share:+.2f}" if one.change else ""
        print(f"{file}  confidence in the region {score:.3f}, temperature {temperature:g}{change}")
