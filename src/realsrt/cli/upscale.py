"""`realsrt upscale`: pictures in, better pictures out; one bad file never stops the rest."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from realsrt.batch import Job, Record, Report, plan_batch
from realsrt.cli.show import Screen, about, error, note
from realsrt.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from realsrt.pipeline import Upscaled, Upscaler
    from realsrt.provenance import Provenance

CONFIDENCE = "_confidence.png"


def _option(*names: str, help: str = "", **more: Any) -> Parameter:
    return Parameter(name=list(names) or None, help=help, negative=(), **more)


@dataclass(frozen=True)
class _Files:
    """How files are read and written."""

    max_pixels: int
    quality: int | None
    strip: bool
    provenance: bool
    confidence: bool
    save_steps: bool


def upscale(
    input: Annotated[list[str], _option("--input", "-i", help="Files, folders or globs.", consume_multiple=True)],
    *,
    output: Annotated[str, _option("--output", "-o", help="A file (for one input file) or a folder.")],
    model_name: Annotated[
        str, _option("--model-name", "-n", help='An embedded model, or "hf:org/repo[@revision]"; see realsrt models.')
    ] = "small",
    model_path: Annotated[str | None, _option(help="A weight file: ours, or the authors' .pth as it is.")] = None,
    outscale: Annotated[
        float | None, _option("--outscale", "-s", help="Final scale, any number; x4, then resampled.  [default: 4]")
    ] = None,
    resize: Annotated[
        str | None, _option("--resize", "-r", help="Final size in pixels, WxH, in place of a scale.")
    ] = None,
    tile: Annotated[int, _option("--tile", "-t", help="Side of a window in input pixels; 0 = the model's own.")] = 0,
    stride: Annotated[int | None, _option(help="Input pixels from window to window (less: smoother, slower).")] = None,
    steps: Annotated[
        int | None, _option("--steps", "--timesteps", help="Generation steps; the model's own if not given.")
    ] = None,
    max_minibatch: Annotated[int | None, _option(help="Windows computed at a time on a GPU.")] = None,
    device: Annotated[str, _option("--device", "-g", help="auto, cpu, cuda:0, mps.")] = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], _option(help="auto: bf16 on GPUs that have it.")
    ] = "auto",
    fp32: Annotated[bool, _option(help="The same as --precision fp32.")] = False,
    suffix: Annotated[str, _option(help="Added to each output's name, before its extension.")] = "",
    ext: Annotated[
        str, _option("--ext", "-f", help="Output format: auto (as the input), png, jpg, webp, tif, ...")
    ] = "auto",
    fidelity: Annotated[float, _option(help="How closely to follow the input, 0 to 1 (1: the paper's).")] = 1.0,
    color_fix: Annotated[
        Literal["adain", "wavelet", "none"] | None, _option(help="The model's own if not given.")
    ] = None,
    confidence: Annotated[
        bool, _option(help=f"Save how sure the model is as NAME{CONFIDENCE}, of the output's size; brighter = surer.")
    ] = False,
    save_steps: Annotated[bool, _option(help="Save the picture after each step as NAME_step1.EXT and so on.")] = False,
    seed: Annotated[int | None, _option(help="For what is random (nothing is, by default).")] = None,
    recursive: Annotated[bool, _option(help="Folders inside folders too; their structure is kept.")] = False,
    resume: Annotated[bool, _option(help="Skip pictures whose output is there and newer than the input.")] = False,
    report: Annotated[Path | None, _option(help="Write one JSON line a picture into this file.")] = None,
    quality: Annotated[int | None, _option(help="1 to 100, for JPEG, WebP and AVIF.")] = None,
    alpha: Annotated[
        Literal["lanczos", "model"], _option(help="What enlarges transparency; the model takes twice the time.")
    ] = "lanczos",
    strip: Annotated[
        bool, _option(help="Leave all metadata but the ICC profile and density out of the output.")
    ] = False,
    no_provenance: Annotated[
        bool, _option(help="Do not note software, model and settings in the output's XMP.")
    ] = False,
    max_pixels: Annotated[int, _option(help="Refuse larger inputs before decoding them.")] = 500_000_000,
) -> int:
    """Upscale pictures: files, folders and globs to a file or a folder.

    A bad file is named on stderr and the rest is done. Exit status: 0 all done, 1 some failed, 2 usage.
    Without a terminal, stdout gets one JSON line a picture.
    """
    size = _size(resize)
    if size and outscale is not None:
        raise UsageError("give --outscale or --resize, not both")
    if fp32 and precision not in ("auto", "fp32"):
        raise UsageError(f"--fp32 contradicts --precision {precision}")
    companions = [CONFIDENCE] if confidence else []
    jobs = plan_batch(input, output, suffix=suffix, ext=ext, recursive=recursive, companions=companions)
    _check_formats(jobs)
    files = _Files(max_pixels, quality, strip, not no_provenance, confidence, save_steps)
    options = {
        "steps": steps, "stride": stride, "tile": tile or None, "max_minibatch": max_minibatch, "fidelity": fidelity,
        "color_fix": color_fix, "outscale": 4.0 if outscale is None else outscale, "size": size, "confidence": True,
        "seed": seed, "alpha": alpha, "keep_steps": save_steps,
    }  # fmt: skip
    streams = [] if sys.stdout.isatty() else [sys.stdout]
    with Report(report, append=resume, streams=streams) as written:
        done = {job for job in jobs if resume and job.is_done(companions)}
        if len(done) < len(jobs):
            from realsrt.pipeline import Upscaler

            up = Upscaler.from_pretrained(
                model_path or model_name, device=device, precision="fp32" if fp32 else precision
            )
        with Screen(len(jobs)) as screen:
            for job in jobs:
                screen.begin(job.source.name)
                if job in done:
                    record = Record(str(job.source), str(job.target), "skipped", "the output is there and newer")
                else:
                    record = _try(job, up, options, files, screen)
                written.add(record)
                screen.end(record)
        return 1 if written.count("failed") else 0


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"--resize takes a width and a height such as 1920x1080, not '{text}'")
    return int(width), int(height)


def _check_formats(jobs: list[Job]) -> None:
    from realsrt.imageio import output_format

    for job in {job.target.suffix: job for job in jobs}.values():
        output_format(job.target)


def _try(job: Job, up: "Upscaler", options: dict[str, Any], files: _Files, screen: Screen) -> Record:
    """One picture, whatever happens to it; only contradicting options and Ctrl-C get through."""
    try:
        record = _one(job, up, options, files, screen)
        for notice in record.notices:
            note(notice)
        return record
    except UsageError:
        raise
    except Exception as problem:
        reason = about(job.source, problem)
        error(reason)
        return Record(str(job.source), str(job.target), "failed", reason)


def _one(job: Job, up: "Upscaler", options: dict[str, Any], files: _Files, screen: Screen) -> Record:
    from realsrt import imageio
    from realsrt.provenance import provenance

    started = time.perf_counter()
    picture = imageio.read(job.source, max_pixels=files.max_pixels)
    scale = options["outscale"]
    width, height = options["size"] or (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    imageio.check_output(job.target, width, height, picture.has_alpha, picture.depth)
    if files.confidence:
        imageio.check_output(job.beside(CONFIDENCE), width, height)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    out = up.upscale(picture, on_progress=screen.windows, **options)
    made = provenance(up.model.info.source, up.model.info.sha256, _told(options)) if files.provenance else None
    if files.save_steps:
        for number, step in enumerate(out.steps, 1):
            _save(job, step, files, f"_step{number}", made)
    notices = _save(job, out, files, made=made)
    return Record(
        str(job.source),
        str(job.target),
        "done",
        width=picture.width,
        height=picture.height,
        out_width=out.image.width,
        out_height=out.image.height,
        seconds=round(time.perf_counter() - started, 3),
        confidence=None if out.confidence is None else round(float(out.confidence.mean()), 4),
        notices=(*picture.notices, *notices),
    )


def _told(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that a picture's metadata tell: those that were asked for and matter to it."""
    return {key: value for key, value in options.items() if key not in ("confidence", "keep_steps", "max_minibatch")}


def _save(
    job: Job, out: "Upscaled", files: _Files, mark: str = "", made: "Provenance | None" = None
) -> tuple[str, ...]:
    """The map first: a target that exists stands for a finished picture."""
    from realsrt import imageio

    if files.confidence and out.confidence is not None:
        image = out.image
        imageio.write(job.beside(mark + CONFIDENCE), confidence_picture(out.confidence, image.width, image.height))
    target = job.beside(mark + job.target.suffix)
    return imageio.write(target, out.image, quality=files.quality, strip=files.strip, provenance=made)


def confidence_picture(confidence_hw: "np.ndarray", width: int, height: int) -> Any:
    """A map in [0,1] on the grid of 8-px cells as an 8-bit gray Picture of the output's size; brighter = surer."""
    import numpy as np

    from realsrt.picture import Picture

    gray = np.rint(np.clip(confidence_hw, 0, 1) * 255).astype(np.uint8)
    return Picture.from_array(gray.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])
