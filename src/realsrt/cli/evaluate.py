"""`realsrt evaluate`: results measured, alone, against targets, or one folder against another."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from realsrt.batch.report import about
from realsrt.cli import scores
from realsrt.cli.options import check_not_read, check_outputs, make_folders, option
from realsrt.cli.show import Screen, error, note
from realsrt.errors import ImageError, UsageError

if TYPE_CHECKING:
    from realsrt.evaluation.contact_sheet import Crop
    from realsrt.evaluation.pairing import Matched
    from realsrt.evaluation.registry import Metric


@dataclass(frozen=True)
class _How:
    """How one picture is judged."""

    border: int
    multiple: int
    crops: int


def evaluate(
    results: Annotated[Path | None, Parameter(help="A folder of results, or one picture.")] = None,
    /,
    *,
    target: Annotated[Path | None, option(help="The folder of originals (or the one original).")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, option(help="Two result folders A B, in place of RESULTS: which is better?")
    ] = None,
    metrics: Annotated[
        str,
        option(
            help="Names with commas: psnr, psnr_y, ssim, ms_ssim, squeeze, squeeze_held_out, lite, niqe; by pyiqa: "
            "lpips, dists, pyiqa_niqe, musiq, clipiqa, maniqa."
        ),
    ] = "psnr,psnr_y,ssim",
    suffix: Annotated[str, option(help="What results have after the target's name: _x4 for a_x4.png and a.png.")] = "",
    recursive: Annotated[bool, option(help="Folders inside folders too, with the same structure.")] = False,
    crop_border: Annotated[int, option(help="Pixels left out on every side before measuring.")] = 0,
    mod_crop: Annotated[
        int, option(help="First crop targets at right and bottom to a multiple of this, as realsrt degrade does.")
    ] = 1,
    features: Annotated[Path | None, option(help="SqueezeNet feature file of the squeeze distances.")] = None,
    niqe_params: Annotated[Path | None, option(help="Other parameters for NIQE than ours, as .npz.")] = None,
    csv: Annotated[Path | None, option(help="Write a line a picture into this file.")] = None,
    json_: Annotated[Path | None, option("--json", help="Write everything into this file.")] = None,
    sheet: Annotated[Path | None, option(help="Write crops of where pictures differ most (.png or .html).")] = None,
    sheet_rows: Annotated[int, option(help="Crops on the sheet.")] = 12,
    input: Annotated[Path | None, option(help="The folder of low-quality inputs, for the sheet.")] = None,
    device: Annotated[str, option(help="For metrics that are networks: cpu, auto, cuda:0, mps.")] = "cpu",
) -> int:
    """Measure pictures against their targets, which are found by name, or alone where a metric needs none.

    Every mean comes with a bootstrap 95 % interval. --compare takes differences picture by picture, B - A. A bad file
    is named on stderr and the rest is done. Exit status: 0 all done, 1 some failed, 2 usage. Without a terminal, stdout
    gets one JSON line a picture and a last one with "status": "summary".
    """
    from realsrt.evaluation import contact_sheet, pairing, registry
    from realsrt.inference.runner import pick_device

    if crop_border < 0 or mod_crop < 1 or sheet_rows < 1:
        raise UsageError("--crop-border must be 0 or more, --mod-crop and --sheet-rows 1 or more")
    check_outputs(csv, json_, sheet)
    if sheet:
        contact_sheet.check(sheet)
    model = registry.load_niqe(niqe_params) if niqe_params else None
    judged = _judged(results, compare)
    names = registry.parse_names(metrics)
    if target is None and (lacking := [name for name in names if registry.KNOWN[name].needs_target]):
        raise UsageError(
            f"{', '.join(lacking)} needs the originals: give --target, or metrics that need none (niqe, …)"
        )
    roles = judged | ({"target": target} if target else {}) | ({"input": input} if input else {})
    if sheet and len(roles) < 2:
        raise UsageError("--sheet shows differences: give --target, --input or --compare as well")
    matched = pairing.match(
        roles, suffixes=dict.fromkeys(judged, suffix), recursive=recursive, optional=["input"] if input else [],
        tell=note,
    )  # fmt: skip
    read = [path for files in matched.groups.values() for path in files.values()]
    check_not_read([*read, features, niqe_params], csv, json_, sheet)
    _say_alone(matched)
    wanted = registry.build(names, features=features, niqe_model=model, device=pick_device(device))
    table = scores.Scores(wanted, tuple(judged), roles)
    found: list[Crop] = []
    streams = [] if sys.stdout.isatty() else [sys.stdout]
    with Screen(len(matched.groups)) as screen:
        for row, cuts in _rows(matched, wanted, tuple(judged), _How(crop_border, mod_crop, 2 if sheet else 0), screen):
            table.add(row, streams)
            found += cuts
    scores.show(table)
    if compare and 0 < len(table.done) < pairing.LEAST_PAIRS:
        note(
            f"{len(table.done)} pair(s) are too few for a verdict, which takes {pairing.LEAST_PAIRS}: with fewer, "
            "chance alone favours one side in every pair more than once in twenty times"
        )
    make_folders(csv, json_, sheet)
    if csv:
        scores.write_csv(table, csv)
    if json_:
        scores.write_json(table, json_)
    if sheet and found:
        title = ", ".join(f"{role}: {path}" for role, path in roles.items())
        contact_sheet.save(sheet, contact_sheet.choose(found, sheet_rows), title=title)
    return 1 if table.failed else 0


def _judged(results: Path | None, compare: tuple[Path, Path] | None) -> dict[str, Path]:
    if (results is None) == (compare is None):
        raise UsageError("give a folder of results, or two with --compare A B")
    return {"result": results} if results else dict(zip("AB", compare or (), strict=True))


def _say_alone(matched: "Matched") -> None:
    for role, paths in matched.alone.items():
        more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
        kind = "result" if role == "result" else f"of {role}"
        note(f"without a partner of the same name ({kind}): {', '.join(str(path) for path in paths[:5])}{more}")


def _rows(
    matched: "Matched", metrics: "list[Metric]", judged: tuple[str, ...], how: _How, screen: Screen
) -> "Iterator[tuple[scores.ScoreRow, list[Crop]]]":
    """Every picture, whatever happens to it."""
    for name, files in matched.groups.items():
        screen.begin(name)
        try:
            values, cuts = _one(name, files, metrics, judged, how)
            yield scores.ScoreRow(name, files, values), cuts
        except UsageError:
            raise
        except Exception as problem:
            reason = about(next((path for path in files.values() if str(path) in str(problem)), name), problem)
            error(reason)
            yield scores.ScoreRow(name, files, {}, reason), []
        screen.advance()


def _one(
    name: str, files: Any, metrics: "list[Metric]", judged: tuple[str, ...], how: _How
) -> "tuple[dict[str, dict[str, float]], list[Crop]]":
    """Values by role and metric, and the crops of the picture's worst places."""
    from realsrt.evaluation import contact_sheet, pairing
    from realsrt.imaging.resize import upscale_bicubic

    target = pairing.crop_multiple(pairing.load(files["target"]), how.multiple) if "target" in files else None
    if target is not None and not target.numel():
        raise ImageError(f"{files['target']}: nothing is left of it at --mod-crop {how.multiple}")
    pictures = {role: pairing.load(files[role]) for role in judged}
    values = {
        role: pairing.measure(metrics, pictures[role], target, source=files[role], border=how.border) for role in judged
    }
    if not how.crops or not (target is not None or "input" in files or len(judged) > 1):
        return values, []
    shown = {"input": pairing.load(files["input"])} if "input" in files else {}
    shown |= pictures | ({} if target is None else {"target": target})
    if len(judged) > 1:
        if pictures["A"].shape != pictures["B"].shape:
            raise ImageError(f"{files['A']}: is of another size than {files['B']}")
        return values, contact_sheet.crops(name, shown, ("A", "B"), count=how.crops)
    if target is None:
        result = pictures["result"]
        enlarged = upscale_bicubic(shown["input"], 4)
        if enlarged.shape != result.shape:
            raise ImageError(f"{files['result']}: is not four times as large as {files['input']}")
        return values, contact_sheet.crops(name, shown | {"bicubic": enlarged}, ("result", "bicubic"), count=how.crops)
    return values, contact_sheet.crops(name, shown, ("result", "target"), count=how.crops)
