"""`realsrt degrade`: the degradation that models are trained on, to files."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from realsrt.batch.plan import FileJob, plan_batch
from realsrt.batch.report import Record, Report, about
from realsrt.cli.options import check_targets
from realsrt.cli.show import Screen, error, note
from realsrt.errors import ImageError, UsageError
from realsrt.io.suffixes import is_image

if TYPE_CHECKING:
    from realsrt.degradations import DegradationConfig, Mixture


def degrade(
    hr_dir: Annotated[str, Parameter(help="A folder (or file, or glob) of good pictures.")],
    lq_dir: Annotated[str, Parameter(help="The folder for the low-quality ones.")],
    /,
    *,
    seed: Annotated[int, Parameter(help="Together with a picture's name decides all that is random.")] = 0,
    protocol: Annotated[
        str,
        Parameter(help="bicubic, stored, light, realesrgan (second order), mixed or everyday (random ones of these)."),
    ] = "realesrgan",
    scale: Annotated[int, Parameter(help="How many times smaller; sides are cropped to a multiple of it.")] = 4,
    recursive: Annotated[bool, Parameter(help="Folders inside folders too.", negative=())] = False,
) -> int:
    """Degrade pictures as in training, and save them as 8-bit PNG under the same names.

    A picture's result depends on its name (without extension), its content and the seed: not on the other files.
    """
    from realsrt import degradations

    config = degradations.protocol(protocol)
    if scale < 1:
        raise UsageError(f"--scale must be at least 1, got {scale}")
    means_folder = lq_dir.endswith(("/", os.sep)) or Path(lq_dir).is_dir()
    if not means_folder and is_image(Path(lq_dir)) and Path(lq_dir).suffix.lower() != ".png":
        raise UsageError(f"{lq_dir}: low-quality images are written as PNG, which loses nothing; give a name in .png")
    jobs = plan_batch([hr_dir], lq_dir, ext="png", recursive=recursive, tell=note)
    check_targets(jobs, Path(lq_dir))
    root = Path(hr_dir) if Path(hr_dir).is_dir() else None
    with Report(streams=[] if sys.stdout.isatty() else [sys.stdout]) as report, Screen(len(jobs)) as screen:
        for job in jobs:
            screen.begin(job.source.name)
            try:
                name = (job.source.relative_to(root) if root else Path(job.source.name)).with_suffix("").as_posix()
                record = _one(job, config, name, seed, scale)
            except UsageError:
                raise
            except Exception as problem:
                reason = about(job.source, problem)
                error(reason)
                record = Record(str(job.source), str(job.target), "failed", reason)
            report.add(record)
            screen.end(record)
        if report.mute:
            error(report.mute)
        return 1 if report.count("failed") or report.mute else 0


def _one(job: FileJob, config: "DegradationConfig | Mixture", name: str, seed: int, scale: int) -> Record:
    import torch

    from realsrt import degradations
    from realsrt.io import image as imageio
    from realsrt.io.picture import Picture

    started = time.perf_counter()
    if job.problem:
        raise ImageError(job.problem)
    picture = imageio.read(job.source)
    try:
        lq_HWC = degradations.degrade_named(
            torch.from_numpy(picture.rgb_float()), name, config=config, seed=seed, scale=scale
        )
    except ValueError as error:
        raise ImageError(f"{job.source}: {error}") from error
    job.target.parent.mkdir(parents=True, exist_ok=True)
    imageio.write(job.target, Picture.from_array(lq_HWC.numpy()))
    return Record(
        str(job.source),
        str(job.target),
        "done",
        width=picture.width,
        height=picture.height,
        out_width=lq_HWC.shape[1],
        out_height=lq_HWC.shape[0],
        seconds=round(time.perf_counter() - started, 3),
    )
