"""`realsrt degrade`: the degradation that models are trained on, to files."""

import hashlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from realsrt.batch import Job, Record, Report, plan_batch
from realsrt.cli.show import Screen, about, error
from realsrt.errors import ImageError, UsageError

if TYPE_CHECKING:
    import torch


def degrade(
    hr_dir: Annotated[str, Parameter(help="A folder (or file, or glob) of good pictures.")],
    lq_dir: Annotated[str, Parameter(help="The folder for the low-quality ones.")],
    /,
    *,
    seed: Annotated[int, Parameter(help="Together with a picture's name decides all that is random.")] = 0,
    protocol: Annotated[
        str, Parameter(help="bicubic, light, realesrgan (second order), or mixed: a random one of these a picture.")
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
    jobs = plan_batch([hr_dir], lq_dir, ext="png", recursive=recursive)
    root = Path(hr_dir) if Path(hr_dir).is_dir() else None
    with Report(streams=[] if sys.stdout.isatty() else [sys.stdout]) as report, Screen(len(jobs)) as screen:
        for job in jobs:
            screen.begin(job.source.name)
            try:
                name = (job.source.relative_to(root) if root else Path(job.source.name)).with_suffix("").as_posix()
                record = _one(job, config, generator(seed, name), scale)
            except UsageError:
                raise
            except Exception as problem:
                reason = about(job.source, problem)
                error(reason)
                record = Record(str(job.source), str(job.target), "failed", reason)
            report.add(record)
            screen.end(record)
        return 1 if report.count("failed") else 0


def generator(seed: int, name: str) -> "torch.Generator":
    """The random numbers of one file: decided by the seed and the name alone."""
    import torch

    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _one(job: Job, config: object, rng: "torch.Generator", scale: int) -> Record:
    import torch

    from realsrt import degradations, imageio
    from realsrt.picture import Picture

    started = time.perf_counter()
    picture = imageio.read(job.source)
    height, width = picture.height // scale * scale, picture.width // scale * scale
    if not (height and width):
        raise ImageError(f"{job.source}: {picture.width}x{picture.height} is too small to shrink {scale} times")
    gt_BCHW = torch.from_numpy(picture.rgb_float()[:height, :width]).permute(2, 0, 1)[None].contiguous()
    lq_BCHW = degradations.degrade(gt_BCHW, config=config, rng=rng, scale=scale)  # pyright: ignore[reportArgumentType]
    job.target.parent.mkdir(parents=True, exist_ok=True)
    pixels = (lq_BCHW[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    imageio.write(job.target, Picture.from_array(pixels))
    return Record(
        str(job.source),
        str(job.target),
        "done",
        width=picture.width,
        height=picture.height,
        out_width=pixels.shape[1],
        out_height=pixels.shape[0],
        seconds=round(time.perf_counter() - started, 3),
    )
