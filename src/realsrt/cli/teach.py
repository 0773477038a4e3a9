"""`realsrt teach`: training pairs with a teacher's image, to a tar."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from realsrt.batch.plan import shard_numbers
from realsrt.cli.options import option
from realsrt.errors import UsageError, needs


def teach(
    *places: Annotated[Path, Parameter(help="Photographs (folders, tars, single files), and last the .tar to write.")],
    teacher: Annotated[
        Path, option(help="A published network for x4, RRDBNet or SRVGGNetCompact: .pth or .safetensors.")
    ],
    count: Annotated[int, option(help="How many pairs in all, with those that are there already.")],
    tile: Annotated[int, option(help="Side of a target in pixels.")] = 256,
    degradation: Annotated[
        str,
        option(help="bicubic, stored, light, realesrgan (second order), mixed or everyday (random ones of these)."),
    ] = "mixed",
    seed: Annotated[int, option(help="Together with a pair's number decides all that is random.")] = 0,
    quality: Annotated[int, option(help="WebP quality of the target and the teacher's image.")] = 95,
    lossless: Annotated[bool, option(help="Lossless WebP in its place.")] = False,
    shard: Annotated[
        str, option(help="i/n: every n-th pair from i on, into OUT-i.tar; for n processes or machines.")
    ] = "0/1",
    device: Annotated[str, option("--device", "-g", help="auto, cpu, cuda:0, mps.")] = "auto",
) -> int:
    """Record training pairs: tiles of photographs, degraded as in training, and a network's image of them.

    `realsrt train --pairs OUT.tar` reads them, also while this runs. An interrupted run is continued by the same
    command. See docs/training.md.
    """
    if len(places) < 2:
        raise UsageError("name photographs, and last the .tar to write: realsrt teach photos/ taught.tar --teacher …")
    with needs("train", "recording pairs"):
        from realsrt.training.teach import TeachConfig, teach
    from realsrt.inference.runner import pick_device

    *data, out = places
    config = TeachConfig(
        tuple(data),
        out,
        teacher,
        count,
        tile=tile,
        degradation=degradation,
        seed=seed,
        quality=None if lossless else quality,
        shard=shard_numbers(shard),
    )
    teach(config, device=pick_device(device), say=lambda line: print(line, flush=True))
    return 0
