"""`realsrt upscale`: pictures in, better pictures out; one bad file never stops the rest."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

from realsrt.batch.outputs import CONFIDENCE, Files, settings_of
from realsrt.batch.plan import Job, plan_batch, take_shard
from realsrt.batch.report import Report
from realsrt.batch.resume import Manifest, remove_leftovers
from realsrt.batch.signals import stop_signals
from realsrt.cli.options import Device, ModelName, ModelPath, NoProvenance, Precision, Quality, Strip, option
from realsrt.cli.show import Screen, error, note
from realsrt.cli.work import Past, Work
from realsrt.errors import ImageError, UsageError


def upscale(
    input: Annotated[list[str], option("--input", "-i", help="Files, folders or globs.", consume_multiple=True)],
    *,
    output: Annotated[str, option("--output", "-o", help="A file (for one input file) or a folder.")],
    model_name: ModelName = "small",
    model_path: ModelPath = None,
    outscale: Annotated[
        float | None, option("--outscale", "-s", help="Final scale, any number; x4, then resampled.  [default: 4]")
    ] = None,
    resize: Annotated[
        str | None, option("--resize", "-r", help="Final size in pixels, WxH, in place of a scale.")
    ] = None,
    tile: Annotated[int, option("--tile", "-t", help="Side of a window in input pixels; 0 = the model's own.")] = 0,
    stride: Annotated[int | None, option(help="Input pixels from window to window (less: smoother, slower).")] = None,
    steps: Annotated[
        int | None, option("--steps", "--timesteps", help="Generation steps; the model's own if not given.")
    ] = None,
    refine: Annotated[
        Literal["sparse", "dense"] | None,
        option(help="From the second step on, compute masked tokens only (sparse: faster) or all; the model's own."),
    ] = None,
    confidence_exit: Annotated[
        float | None,
        option(help="Windows of this mean confidence, 0 to 1, take no further step; 1 = all steps. The model's own."),
    ] = None,
    max_minibatch: Annotated[int | None, option(help="Windows computed at a time on a GPU.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    fp32: Annotated[bool, option(help="The same as --precision fp32.")] = False,
    compile: Annotated[
        bool,
        option(help="Compile the model (needs a C++ compiler): the first windows take a minute, the others less."),
    ] = False,
    suffix: Annotated[str, option(help="Added to each output's name, before its extension.")] = "",
    ext: Annotated[
        str, option("--ext", "-f", help="Output format: auto (as the input), png, jpg, webp, tif, ...")
    ] = "auto",
    fidelity: Annotated[float, option(help="How closely to follow the input, 0 to 1 (1: the paper's).")] = 1.0,
    color_fix: Annotated[
        Literal["adain", "wavelet", "none"] | None, option(help="The model's own if not given.")
    ] = None,
    confidence: Annotated[
        bool, option(help=f"Save how sure the model is as NAME{CONFIDENCE}, of the output's size; brighter = surer.")
    ] = False,
    save_steps: Annotated[
        bool,
        option(help="Save the picture after each step as NAME_step1.EXT and so on, with --confidence its map too."),
    ] = False,
    seed: Annotated[int | None, option(help="For what is random (nothing is, by default).")] = None,
    recursive: Annotated[bool, option(help="Folders inside folders too; their structure is kept.")] = False,
    resume: Annotated[bool, option(help="Skip pictures made of the same input with the same settings.")] = False,
    report: Annotated[Path | None, option(help="Write one JSON line a picture into this file.")] = None,
    shard: Annotated[
        str | None, option(help="i/n: only the i-th (from 0) of n parts, for n runs side by side into one folder.")
    ] = None,
    quality: Quality = None,
    alpha: Annotated[
        Literal["lanczos", "model"], option(help="What enlarges transparency; the model takes twice the time.")
    ] = "lanczos",
    strip: Strip = False,
    no_provenance: NoProvenance = False,
    max_pixels: Annotated[int, option(help="Refuse larger inputs before decoding them.")] = 500_000_000,
) -> int:
    """Upscale pictures: files, folders and globs to a file or a folder.

    A bad file is named on stderr and the rest is done. Exit status: 0 all done, 1 some failed, 2 usage.
    Without a terminal, stdout gets one JSON line a picture. SIGINT and SIGTERM (130, 143): what is being written is
    finished, what is being computed dropped, and --resume goes on; the second signal ends at once.
    """
    size = final_size(resize, outscale)
    precise = chosen_precision(precision, fp32)
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"--quality goes from 1 to 100, got {quality}")
    if max_pixels < 1:
        raise UsageError(f"--max-pixels must be at least 1, got {max_pixels}")
    companions = [CONFIDENCE] if confidence else []
    jobs = plan_batch(input, output, suffix=suffix, ext=ext, recursive=recursive, companions=companions)
    _check_formats(jobs)
    jobs = jobs if shard is None else take_shard(jobs, output, shard)
    files = Files(max_pixels, quality, strip, not no_provenance, confidence, save_steps)
    options = {
        "steps": steps, "stride": stride, "tile": tile or None, "max_minibatch": max_minibatch, "fidelity": fidelity,
        "color_fix": color_fix, "outscale": 4.0 if outscale is None else outscale, "size": size,
        "confidence": confidence or report is not None, "seed": seed, "alpha": alpha, "keep_steps": save_steps,
        "refine": refine, "confidence_exit": confidence_exit,
    }  # fmt: skip
    streams = [] if sys.stdout.isatty() else [sys.stdout]
    with ExitStack() as stack:
        written = stack.enter_context(Report(report, append=resume, streams=streams))
        manifest = _manifest(stack, jobs, Path(output), companions, resume)
        if not jobs:
            note(f"no picture falls to shard {shard}")
            return 0
        from realsrt.inference.upscaler import Upscaler

        up = Upscaler.from_pretrained(model_path or model_name, device=device, precision=precise, compile=compile)
        settings = settings_of(up.model.info.sha256, str(up.precision), options, files)
        past = Past(manifest, settings, resume)
        signals = stack.enter_context(stop_signals())
        with Screen(len(jobs)) as screen:
            stopped = Work(up, options, files, past, written, screen, signals).run(jobs)
        return _conclude(written, len(jobs), stopped, signals)


def _manifest(stack: ExitStack, jobs: list[Job], output: Path, companions: list[str], resume: bool) -> Manifest | None:
    """The output folder's manifest, in the folder tidied up. A single output file has one only with --resume."""
    if not jobs:  # of a small batch a shard may have none
        return None
    single = len(jobs) == 1 and jobs[0].target == output
    if single and not resume:
        remove_leftovers(jobs, companions)
        return None
    manifest = stack.enter_context(Manifest(output.parent if single else output))
    if manifest.alone:
        remove_leftovers(jobs, companions)
        manifest.share()
    return manifest


def _conclude(report: Report, total: int, stopped: str, signals: list[int]) -> int:
    """The last word on a batch, if there is anything to say that was not said; returns the exit status."""
    done, skipped, failed = map(report.count, ("done", "skipped", "failed"))
    if stopped:
        left = total - done - skipped - failed
        counts = f"{done} done, {skipped} skipped, {failed} failed, {left} left"
        error(f"{stopped}; {counts}; the same command with --resume goes on")
    elif failed and total > 1:
        note(f"{done} done, {skipped} skipped, {failed} failed")
    return 128 + signals[0] if signals and stopped else 1 if failed or stopped else 0


def final_size(text: str | None, outscale: float | None) -> tuple[int, int] | None:
    """What --resize asks for. Raises UsageError."""
    if text is None:
        return None
    if outscale is not None:
        raise UsageError("give --outscale or --resize, not both")
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"--resize takes a width and a height such as 1920x1080, not '{text}'")
    return int(width), int(height)


def chosen_precision(precision: str, fp32: bool) -> str:
    """What --precision and --fp32 come to. Raises UsageError."""
    if fp32 and precision not in ("auto", "fp32"):
        raise UsageError(f"--fp32 contradicts --precision {precision}")
    return "fp32" if fp32 else precision


def _check_formats(jobs: list[Job]) -> None:
    from realsrt.io.image import output_format

    for job in {job.target.suffix: job for job in jobs}.values():
        try:
            output_format(job.target)
        except ImageError as problem:
            raise UsageError(str(problem)) from problem
