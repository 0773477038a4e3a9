"""`realsrt calibrate`: what confidence is worth, on pairs of inputs and targets, for `upscale --trust`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from realsrt.cli.options import ModelArgs, SteppedArgs, check_not_read, check_outputs, make_folders, option
from realsrt.cli.show import Screen, note, table
from realsrt.errors import ImageError, UsageError, one_line

LEVELS = (0.8, 0.9, 0.95)


def calibrate(
    input: Annotated[Path, Parameter(help="A folder of inputs.")],
    target: Annotated[Path, Parameter(help="A folder of their targets, found by name.")],
    /,
    *,
    output: Annotated[Path, option("--output", "-o", help="The file to write, .json; for upscale --calibration.")],
    about: Annotated[str, option(help="What the pairs are, in a few words; upscale --trust repeats them.")] = "",
    options: SteppedArgs = SteppedArgs(),  # noqa: B008 - frozen
    model: ModelArgs = ModelArgs(),  # noqa: B008 - frozen
) -> int:
    """Calibrate a model's confidence on pairs, for the mask of upscale --trust. See docs/trust.md.

    The pairs should be like the images to come, not trained on, and of as many independent originals as can be had: n
    pairs can promise something for n in n + 1 images at most. Every pair counts; one that cannot be read ends it. What
    is calibrated holds for these weights and options only. From 80 pairs on there are groups by mean confidence, each
    with thresholds of its own for images like its. The table shows how much of an image of a group its masks take.
    """
    import numpy as np

    from realsrt.evaluation import pairing
    from realsrt.evaluation.trust import (
        BOUNDS,
        Calibration,
        calibrated_options,
        cell_errors,
        group_number,
        grouped,
        mean_confidence,
        pairs_of,
        scores,
        trust_mask,
    )
    from realsrt.io import image as imageio

    check_outputs(output)
    matched = pairing.match({"input": input, "target": target}, tell=note)
    if alone := [path for paths in matched.alone.values() for path in paths]:
        raise UsageError(f"{alone[0]} has no partner ({len(alone)} such files): every pair must count")
    read = [path for files in matched.groups.values() for path in files.values()]
    check_not_read([*read, model.model_path], output)
    up = model.load()
    up.check(options)
    found: list[list[float]] = []
    maps: list[np.ndarray] = []
    with Screen(len(matched.groups)) as screen:
        for name, files in matched.groups.items():
            screen.begin(name)
            out = up.upscale(imageio.read(files["input"]), options, on_progress=screen.windows)
            wanted, made = imageio.read(files["target"]).rgb_float(), out.image.rgb_float()
            if wanted.shape != made.shape:
                raise ImageError(
                    f"{files['target']}: is {wanted.shape[1]}x{wanted.shape[0]} px, but the input's result is "
                    f"{made.shape[1]}x{made.shape[0]}"
                )
            assert out.confidence is not None
            found.append(scores(out.confidence, *cell_errors(made, wanted), BOUNDS))
            maps.append(out.confidence)
            screen.advance()
    made_of = pairs_of(len(found)) + (f": {one_line(about)}" if about else "")
    means = [mean_confidence(one) for one in maps]
    calibration = Calibration(
        model_sha256=up.model.info.sha256,
        options=calibrated_options(options.pixel_options(), up.precision, up.window_precision, up.model.config),
        groups=grouped(means, found, BOUNDS),
        about=made_of,
    )
    make_folders(output)
    calibration.save(output)
    if said := calibration.beyond(LEVELS):
        note(f"{said}, whatever the error")
    levels = [level for level in LEVELS if not calibration.beyond([level])] or [calibration.most]
    rows, ends, low = [], [group.up_to for group in calibration.groups], ""
    for number, end in enumerate(ends):
        own = [one for one, mean in zip(maps, means, strict=True) if group_number(mean, ends) == number]
        high = f"up to {end:.3f}" * (end < 1)
        for level in levels:
            masks = ([trust_mask(one, calibration.threshold(level, bound, one)) for one in own] for bound in BOUNDS)
            shares = (f"{np.mean([mask.mean() for mask in each]):.0%}" for each in masks)
            rows.append([" ".join([low, high]).strip() or "any", len(own), f"{level:g}", *shares])
        low = f"above {end:.3f}"
    table(
        f"Share of an image in its mask, by its mean confidence ({made_of})",
        ["confidence", "pairs", "trust", *(f"error ≤ {bound:g}" for bound in BOUNDS)],
        rows,
    )
    return 0
