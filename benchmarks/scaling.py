"""What an image and a training step cost here, and what that comes to on many GPUs:

    python benchmarks/scaling.py measure IMAGES -o stages.json [--model small] [--device auto] [--clock wall|cpu]
    python benchmarks/scaling.py extrapolate stages.json --gpus 1 10 100 1000 [--windows-per-second W] [--price DOLLARS]

`measure` times reading and decoding, computing (a window), encoding and writing, and noting results, each by itself;
then a whole run of `realsrt upscale` over the same images, start-up left out; and steps of training. `--clock cpu`
takes one thread and its processor time, which other work on the machine does not lengthen much. All that `extrapolate`
says of other machines is computed by fleet.py from these figures and from what is given to it.
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from fleet import Fleet, Stages, breaks_at, limit, limits, training_step

_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Watch:
    """Times calls by one of the clocks."""

    def __init__(self, clock: str) -> None:
        self.now = _CLOCKS[clock]

    def once(self, call: Callable[[], Any]) -> float:
        """Seconds of a call."""
        started = self.now()
        call()
        return self.now() - started

    def median(self, call: Callable[[], Any], repeats: int = 3) -> float:
        """The median of some calls."""
        return median(self.once(call) for _ in range(repeats))


def measure(watch: Watch, folder: Path, model: str, device: str, work: Path) -> dict[str, Any]:
    """Means over the images of a folder."""
    import torch

    from realsrt import Upscaler
    from realsrt.batch.plan import plan_batch
    from realsrt.imaging import tiling
    from realsrt.io import image as imageio

    up = Upscaler.from_pretrained(model, device=device)
    config = up.model.config
    jobs = plan_batch([str(folder)], work / "out", ext="png")
    rows = []
    for job in jobs:
        image = imageio.read(job.source)
        job.target.parent.mkdir(parents=True, exist_ok=True)
        windows = len(tiling.plan(image.height, image.width, config.window, config.stride))
        up.upscale(image) if not rows else None  # warm
        out = up.upscale(image)
        rows.append(
            {
                "megapixels_in": image.width * image.height / 1e6,
                "windows": windows,
                "decode": watch.median(lambda source=job.source: imageio.read(source)),
                "compute": watch.median(lambda image=image: up.upscale(image), repeats=2),
                "encode": watch.median(lambda job=job, out=out: imageio.write(job.target, out.image)),
                "bytes_in": job.source.stat().st_size,
                "bytes_out": job.target.stat().st_size,
            }
        )
    found: dict[str, Any] = {name: mean(row[name] for row in rows) for name in rows[0]}
    found |= {"images": len(rows), "seconds_per_window": found["compute"] / found["windows"]}
    found["driver"] = noting(watch, work)
    found |= {"model": model, "device": str(up.device), "threads": torch.get_num_threads()}
    found["whole_run"] = whole_run(watch, jobs, model, device, work)
    found["summed"] = 1 / stages_of(found).seconds
    return found


def noting(watch: Watch, work: Path, results: int = 300) -> float:
    """Seconds that one result costs whoever notes it: a line of the manifest and one of the report."""
    from realsrt.batch.plan import FileJob
    from realsrt.batch.report import Record, Report
    from realsrt.batch.resume import Manifest

    made = work / "noted" / "a.png"
    made.parent.mkdir()
    made.write_bytes(b"0")

    def note() -> None:
        for number in range(results):
            manifest.add(FileJob(made, made), "0" * 64, {"steps": 2, "tile": 64}, [made])
            report.add(Record(str(made), f"{made}{number}", "done", width=1, height=1, seconds=1.0))

    with Manifest(made.parent) as manifest, Report(work / "report.jsonl") as report:
        return watch.once(note) / results


def whole_run(watch: Watch, jobs: list[Any], model: str, device: str, work: Path) -> float:
    """Images a second of `realsrt upscale`: of all of them, less what a run with a tiny one takes."""
    from realsrt.cli import main
    from realsrt.io import image as imageio
    from realsrt.io.picture import Picture

    options = ["-o", str(work / "whole") + "/", "-n", model, "-g", device, "--ext", "png"]
    tiny = work / "tiny.png"
    imageio.write(tiny, Picture.from_array(np.zeros((16, 16, 3), np.uint8)))

    def run(*sources: Path) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["upscale", *map(str, sources), *options]) == 0

    run(tiny)
    besides = watch.once(lambda: run(tiny))
    return len(jobs) / (watch.once(lambda: run(*(job.source for job in jobs))) - besides)


def training(watch: Watch, folder: Path, preset: str, work: Path, steps: int = 4) -> dict[str, float]:
    """Samples a second of the generator stage, as the difference of two runs, and the bytes of what learns."""
    from realsrt import load_model, presets
    from realsrt.checkpoint import save_model
    from realsrt.training import train
    from realsrt.training.config import make_config

    init = work / "init.safetensors"
    model = presets.build(preset) if preset in presets.PRESETS and preset != "small" else load_model(preset)
    save_model(model, init)
    config = make_config(
        "generator", data=(folder,), init=init, out=work / "train", max_steps=1, batch=4, crop=128, tile=128, pool=16,
        profile_flops=False, warmup=1, overwrite=True,
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        train(config)
        short, long = (watch.once(lambda n=n: train(replace(config, max_steps=n))) for n in (1, 1 + steps))
    learns = sum(p.numel() for p in model.generator.parameters())
    return {"samples_per_second": 4 * steps / (long - short), "batch": 4, "crop": 128, "gradient_bytes": 4.0 * learns}


def stages_of(found: dict[str, Any], windows_per_second: float | None = None) -> Stages:
    """The measured image; with another GPU, only what it computes takes another time."""
    compute = found["compute"] if windows_per_second is None else found["windows"] / windows_per_second
    names = [known.name for known in fields(Stages) if known.name in found]
    return replace(Stages(**{name: found[name] for name in names}), compute=compute)


def extrapolate(stages: Stages, fleet: Fleet, gpus: list[int], price: float | None) -> list[str]:
    """A table in Markdown, then what breaks first, then what failures and slow workers take."""
    paid = "" if price is None else " dollars a million |"
    lines = [f"| GPUs | images/s | of ideal | images/GPU-hour | limit | in | out |{paid}"]
    lines.append("|---" * lines[0].count(" |") + "|")
    for number in gpus:
        name, rate = limit(stages, replace(fleet, gpus=number))
        lines.append(
            f"| {number} | {rate:.4g} | {rate * stages.compute / number:.0%} | {rate / number * 3600:.4g} | {name} | "
            f"{rate * stages.bytes_in / 1e6:.4g} MB/s | {rate * stages.bytes_out / 1e6:.4g} MB/s |"
        )
        if price is not None:
            lines[-1] += f" {1e6 * price * number / rate / 3600:,.0f} |"
    most = replace(fleet, gpus=max(gpus))
    lines += ["", f"At {most.gpus} GPUs each part by itself would allow, in images/s:"]
    lines += [f"* {name}: {rate:.4g}" for name, rate in sorted(limits(stages, most).items(), key=lambda item: item[1])]
    lines += ["", "More GPUs no longer help beyond:"]
    lines += [f"* {name}: {number:,.0f} GPUs" for name, number in breaks_at(stages, fleet).items()]
    cures = {"no failures": {"hours": 0.0}, "no slow workers": {"slow": 0.0}, "handing out": {"shards": False}}
    for name, cure in cures.items():
        if (better := replace(most, **cure)) != most:
            lines.append(f"* with {name}: {limit(stages, better)[1] / limit(stages, most)[1] - 1:+.1%}")
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("images", type=Path)
    one.add_argument("-o", "--out", type=Path, required=True)
    one.add_argument("--model", default="small")
    one.add_argument("--device", default="auto")
    one.add_argument("--clock", choices=list(_CLOCKS), default="wall")
    one.add_argument("--no-training", action="store_true")
    two = commands.add_parser("extrapolate")
    two.add_argument("stages", type=Path)
    two.add_argument("--gpus", type=int, nargs="+", default=[1, 10, 100, 1000])
    two.add_argument("--windows-per-second", type=float, help="of one GPU; by default what was measured")
    two.add_argument("--price", type=float, help="dollars of a GPU-hour")
    two.add_argument("--per-image", type=float, default=2.0, help="requests to the object store for one image")
    two.add_argument("--exchange", type=float, default=25e9, help="bytes/s of a GPU's link in training")
    for known in fields(Fleet):
        name = f"--{known.name}"
        if known.name == "shards":
            two.add_argument(name, action="store_true")
        elif known.name != "gpus":
            two.add_argument(name, type=type(known.default), default=known.default)
    args = parser.parse_args(argv)
    if args.command == "measure":
        import torch

        if args.clock == "cpu":
            torch.set_num_threads(1)
        watch = Watch(args.clock)
        with tempfile.TemporaryDirectory() as folder:
            found = measure(watch, args.images, args.model, args.device, Path(folder)) | {"clock": args.clock}
            if not args.no_training:
                found["training"] = training(watch, args.images, args.model, Path(folder))
        args.out.write_text(json.dumps(found, indent=1))
        print(json.dumps(found, indent=1))
        return
    found = json.loads(args.stages.read_text())
    fleet = Fleet(**{known.name: getattr(args, known.name) for known in fields(Fleet) if known.name != "gpus"})
    stages = replace(stages_of(found, args.windows_per_second), requests=args.per_image)
    print("\n".join(extrapolate(stages, fleet, args.gpus, args.price)))
    if "training" in found:
        step = found["training"]["batch"] / found["training"]["samples_per_second"]
        for number in args.gpus:
            took = training_step(step, found["training"]["gradient_bytes"], number, args.exchange)
            print(f"* training on {number}: {found['training']['batch'] * number / took:.4g} samples/s")


if __name__ == "__main__":
    main()
