"""`realsrt upscale`: pictures in, better pictures out; one bad file never stops the rest."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from realsrt.batch.outputs import CONFIDENCE, TRUST, left_beside, settings_of
from realsrt.batch.plan import FileJob, files_of, identity, plan_batch, take_shard
from realsrt.batch.report import Report, check_report
from realsrt.batch.resume import NAME, Manifest, listed_outputs, remove_leftovers
from realsrt.batch.signals import stop_signals
from realsrt.cli.options import NO_STEPS, ModelArgs, StepOutputArgs, UpscaleArgs, check_targets, flag, option
from realsrt.cli.pipes import STDIN, Pipes
from realsrt.cli.show import Screen, error, note
from realsrt.cli.work import BatchLoop, Past
from realsrt.errors import ImageError, UsageError, shown
from realsrt.inference.options import MAX_STEPS, UpscaleOptions

if TYPE_CHECKING:
    from realsrt.evaluation.trust import Thresholds
    from realsrt.inference.upscaler import Upscaler


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class TrustArgs:
    """The mask with a guarantee; see docs/trust.md for what it promises."""

    trust: float | None = None
    """Save a mask as NAME_trust.png: in this share of images (0.9) the mean error where it is white is small."""
    trust_error: float = 12.0
    """How small: the mean error is at most this, in levels of 255."""
    calibration: Path | None = None
    """A file of realsrt calibrate, for these weights and options; by default the one inside this package."""

    def __post_init__(self) -> None:
        if self.trust is None and (self.calibration or self.trust_error != TrustArgs.trust_error):
            raise UsageError("--calibration and --trust-error are for the mask of --trust: give that too")

    def thresholds(self, up: "Upscaler", options: UpscaleOptions, jobs: Sequence[FileJob]) -> "Thresholds | None":
        """Of `Files.trusted_above`, for these images; says on stderr what it promises. Raises UsageError."""
        if self.trust is None:
            return None
        from realsrt.evaluation.trust import calibrated_options, embedded_calibration, load_calibration

        sha256 = up.model.info.sha256
        found = load_calibration(self.calibration) if self.calibration else embedded_calibration(sha256)
        pixel_options = _as_it_results(options, jobs).pixel_options()
        now = calibrated_options(pixel_options, up.precision, up.window_precision, up.model.config)
        found.check(sha256, now, _difference)
        thresholds = found.thresholds(self.trust, self.trust_error)
        note(
            f"trust: where the mask is white, the mean error is at most {self.trust_error:g} levels of 255 in "
            f"{100 * self.trust:g} % of images like those calibrated on ({found.images})"
        )
        return thresholds


def _as_it_results(options: UpscaleOptions, jobs: Sequence[FileJob]) -> UpscaleOptions:
    """Without a size that each of the images has anyway."""
    from realsrt.io.image import header

    for job in jobs if options.size else ():
        with suppress(ImageError):  # said when it is read
            if job.source.is_file():
                found = header(job.source)
                if UpscaleOptions().out_size(found.width, found.height) != options.size:
                    return options
    return replace(options, size=None)


def _difference(name: str, calibrated: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Of one option, as it is given here."""
    if name in ("precision", "window_precision"):
        return f"{_rounding(calibrated)} (now {_rounding(now)})"
    was, is_ = (
        "x".join(map(str, value)) if isinstance(value, list) else shown(value)
        for value in (calibrated.get(name), now.get(name))
    )
    return f"{flag(name)} {was} (now {is_})"


def _rounding(options: Mapping[str, Any]) -> str:
    precision = options.get("precision")
    windows = options.get("window_precision", precision)
    if windows != precision:
        return f"windows in {windows}, as without --fp32 on CPUs that multiply it"
    given = {"float32": "--fp32", "bfloat16": "--precision bf16", "float16": "--precision fp16"}
    return f"all in {precision}, as with {given.get(str(precision), '--precision')}"


def upscale(
    input: Annotated[
        list[str], option("--input", "-i", help="Files, folders or globs; - is stdin.", consume_multiple=True)
    ],
    *,
    output: Annotated[str, option("--output", "-o", help="A file (for one input file) or a folder; - is stdout.")],
    options: UpscaleArgs = UpscaleArgs(),  # noqa: B008 - frozen
    model: ModelArgs = ModelArgs(),  # noqa: B008 - frozen
    files: StepOutputArgs = StepOutputArgs(),  # noqa: B008 - frozen
    trust: TrustArgs = TrustArgs(),
    compile: Annotated[
        bool, option(help="Compile the model (needs a C++ compiler): the first windows take a minute, the others less.")
    ] = False,
    suffix: Annotated[str, option(help="Added to each output's name, before its extension.")] = "",
    ext: Annotated[
        str, option("--ext", "-f", help="Output format: auto (as the input), png, jpg, webp, tif, ...")
    ] = "auto",
    recursive: Annotated[bool, option(help="Folders inside folders too; their structure is kept.")] = False,
    resume: Annotated[bool, option(help="Skip images made of the same input with the same settings.")] = False,
    report: Annotated[Path | None, option(help="Write one JSON line an image into this file.")] = None,
    shard: Annotated[
        str | None, option(help="i/n: only the i-th (from 0) of n parts, for n runs side by side into one folder.")
    ] = None,
) -> int:
    """Upscale pictures: files, folders and globs to a file or a folder. Outputs that are there already are replaced.

    A bad file is named on stderr and the rest is done. Exit status: 0 all done, 1 some failed, 2 usage.
    Without a terminal, stdout gets one JSON line a picture. SIGINT and SIGTERM (130, 143): what is being written is
    finished, what is being computed dropped, and --resume goes on; the second signal ends at once.
    """
    masked = trust.trust is not None
    companions = [CONFIDENCE] * files.confidence + [TRUST] * masked
    with ExitStack() as stack:
        pipes = stack.enter_context(Pipes(input, output, ext))
        if pipes.to_pipe and (files.confidence or files.save_steps or masked or resume or shard is not None):
            raise UsageError(
                "a pipe takes one image alone: no --confidence, --save-steps, --trust, --resume or --shard"
            )
        output = pipes.output
        steps = (options.steps or MAX_STEPS) if files.save_steps else 0
        jobs = plan_batch(
            pipes.inputs, output, suffix=suffix, ext=ext, recursive=recursive, companions=companions, steps=steps,
            made=listed_outputs(Path(output)), tell=note,
        )  # fmt: skip
        _check_formats(jobs)
        check_targets(jobs, Path(output))
        if report:
            if str(report) == STDIN:
                raise UsageError("--report takes a file, not -")
            others = [path for _, path in files_of(jobs, companions, steps)]
            others += [folder / NAME for folder in (Path(output), Path(output).parent)]
            if identity(report) in map(identity, others):
                raise UsageError(f"{report} would be written twice; give the report another name")
            check_report(report)
        jobs = jobs if shard is None else take_shard(jobs, output, shard)
        options = replace(options, confidence=files.confidence or report is not None or masked)
        if (files.confidence or files.save_steps or masked) and options.steps == 0:
            raise UsageError(NO_STEPS)
        streams = [] if sys.stdout.isatty() or pipes.to_pipe else [sys.stdout]
        up = model.load(compile=compile) if jobs else None
        if up:
            up.check(options)  # what is refused leaves no folder and no report behind
            files = replace(files, trusted_above=trust.thresholds(up, options, jobs))
        written = stack.enter_context(Report(report, append=resume, streams=streams))
        if not up:
            note(f"no picture falls to shard {shard}")
            return 0
        manifest = _manifest(stack, jobs, Path(output), companions, resume)
        settings = settings_of(up.model.info.sha256, up.computed_in(options), options, files)
        past = Past(manifest, settings, resume)
        signals = stack.enter_context(stop_signals())
        with Screen(len(jobs)) as screen:
            stopped = BatchLoop(up, options, files, past, written, screen, signals, pipes.spoken).run(jobs)
        made = [job.target for job, one in zip(jobs, written.records, strict=False) if one.status != "failed"]
        images = {job.target for job in jobs} | (manifest.targets() if manifest else set())
        if left := left_beside(made, files, images):
            note(left)
        return _conclude(written, len(jobs), stopped, signals) or pipes.deliver()


def _manifest(
    stack: ExitStack, jobs: list[FileJob], output: Path, companions: list[str], resume: bool
) -> Manifest | None:
    """The output folder's manifest, in the folder tidied up. A single output file has one only with --resume."""
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
    if empty := [record.source for record in report.records if record.trusted == 0]:
        which = empty[0] if len(empty) == 1 else f"{len(empty)} of {done} images"
        note(f"the mask of trust is empty, nothing is promised: {which}; docs/trust.md says what to do")
    if report.mute:
        error(report.mute)
    return 128 + signals[0] if signals and stopped else 1 if failed or stopped or report.mute else 0


def _check_formats(jobs: list[FileJob]) -> None:
    from realsrt.io.image import output_format

    for job in {job.target.suffix: job for job in jobs}.values():
        try:
            output_format(job.target)
        except ImageError as problem:
            raise UsageError(str(problem)) from problem
