"""recipes/gpu.sh run: checks, measures, and trains stage after stage within a quarter of an hour.

It stands on a folder that `recipes/gpu.sh pack` made; a start that fails does so in seconds, in one line."""

import gc
import json
import lzma
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
FEATURES = REPOSITORY / "recipes" / "features" / "squeezenet1_1.safetensors"
TAPS = ["conv1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9"]
START_SECONDS = float(os.environ.get("START_SECONDS", "20"))
MEASURE_SECONDS = 15.0
LARGEST = 15 * 2**20
"""Bytes of a file that can come back; a larger one comes in parts."""
STARTING = 20.0
"""Seconds that a stage needs before its first step and after its last."""
WARMUP = 0.3
"""The share of the control stage's steps in which the discriminator learns alone: they take half of a step's time."""
LEAST_STEPS = 1000
"""A batch is too large where a stage would take fewer steps."""
CROP = 256
"""Side of the crops that images are learned in: in smaller ones a network learns to live at an edge."""
DEEP_BATCH = 12
"""Of the deep stage, which takes several times the memory and time of the others."""
SMALLER = 4
"""Samples of a stage that learns tokens alone, in crops of half the side, in the place of one image."""
TRUNK = ("deep", "strength")
"""Stages of the trunk."""
STAGES = {
    "deep": f"--crop {CROP} --lr 5e-5 --pixel 0.2 --clean-pixel 7 --degradation everyday --gan 0.1 "
    "--discriminator projected --gan-warmup 300",
    "strength": "--crop 256 --degradation everyday",
    "control": f"--crop {CROP} --lr 2e-4 --perceptual 0.06 --perceptual-views --clean-pixel 6 --clean-share 0.5 "
    "--sampler-steps 1 2 2 4 --gan 0.1 --discriminator unet",
    "generator": "--crop 128",
    "critic": "--crop 128 --critic-labels far --critic-temperatures 0 1 --mask-sampling full",
}


class StartFailed(Exception):
    """Why a run can't begin, in one line."""


@dataclass
class Run:
    """What the start finds out and the stages use."""

    folder: Path
    out: Path
    runs: Path
    max_steps: int | None
    began: float
    doing: str = "checking the folder"
    device: str = "cpu"
    init: Path = Path()
    teacher: Path | None = None
    batch: int = 2
    compile: bool = True
    speed: float = 0.0
    """Steps of the control stage a second, uncompiled."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def say(self, line: str) -> None:
        text = f"[{self.seconds:5.1f} s] {line}"
        with self.lock, (self.out / "log.txt").open("a") as file:
            print(text, flush=True)
            print(text, file=file)


def prepare(run: Run) -> None:
    """Everything that can be missing, looked at before a second of training is spent. Raises StartFailed."""
    contents = json.loads((run.folder / "contents.json").read_text())
    for name, size in contents.items():
        path = run.folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise StartFailed(f"{path} is missing or cut off: pack again")
    run.doing = "importing torch"
    import torch

    run.doing = "importing realsrt.training"
    try:
        import realsrt
        from realsrt.cli.train import command

        command()
        import kornia.enhance  # imported by the degradations when they need it
        import pyvips
        from safetensors.torch import save_file
    except ImportError as error:
        raise StartFailed(f"a package is missing here: {error}") from None
    run.doing = "asking for the GPU"
    on_gpu = torch.cuda.is_available()
    if not on_gpu and run.max_steps is None:
        raise StartFailed("PyTorch finds no GPU here; --max-steps 3 rehearses without one")
    run.device = "cuda" if on_gpu else "cpu"
    name = torch.cuda.get_device_name() if on_gpu else "no GPU"
    run.say(
        f"Python {sys.version.split()[0]}, torch {torch.__version__}, CUDA {torch.version.cuda}, {name}, "
        f"kornia {kornia.__version__}, pyvips {pyvips.__version__}"
    )
    run.doing = "reading the weights"
    run.init = Path(os.environ["INIT"]) if os.environ.get("INIT") else unpacked_init(run)
    model = realsrt.load_model(run.init)
    if model.trunk is None:
        raise StartFailed(f"{run.init.name}: weights of preset {model.config.preset!r} without a trunk")
    if model.trunk.deep is not None:
        run.teacher = run.runs / "teacher.safetensors"
        save_file(dict(model.trunk.deep.state_dict()), run.teacher)
    if not any((run.folder / f"{kind}.tar").is_file() for kind in ("photos", "pairs")):
        raise StartFailed(f"{run.folder} holds neither photographs nor recorded pairs: pack again")


def unpacked_init(run: Run) -> Path:
    """The packed start weights, or the shipped ones."""
    packed, path = run.folder / "init.safetensors.xz", run.runs / "init.safetensors"
    if not packed.is_file():
        return REPOSITORY / "src" / "realsrt" / "weights" / "small.safetensors"
    path.write_bytes(lzma.decompress(packed.read_bytes()))
    return path


def measure(run: Run, batches: tuple[int, ...]) -> dict[int, float]:
    """Steps a second of the control stage with its discriminator at these batches, uncompiled; what does not fit into
    memory or time is left out."""
    import torch

    import realsrt
    from realsrt.training.config import make_config
    from realsrt.training.pair_pool import Batch
    from realsrt.training.stages import BUILDERS

    device, until = torch.device(run.device), time.monotonic() + MEASURE_SECONDS
    config = make_config(
        "control", init=run.init, max_steps=1, gan=0.1, discriminator="unet", sampler_steps=(2,), perceptual=0.06,
        perceptual_file=FEATURES, perceptual_taps=tuple(TAPS),
    )  # fmt: skip
    model = realsrt.load_model(run.init)
    model.sync_codebook()
    stage = BUILDERS["control"](model, config)
    adversary = stage.adversary
    assert adversary is not None
    stage.main.to(device).train()
    adversary.to(device).train()
    if run.device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    crop = CROP if run.device == "cuda" else 64
    found: dict[int, float] = {}
    for batch in batches:
        gt = torch.rand(batch, 3, crop, crop, device=device)
        lq = torch.nn.functional.avg_pool2d(gt, 4)
        sample = Batch(lq, gt, tuple(range(batch)), gt, torch.zeros(batch, dtype=torch.bool, device=device))

        def step(sample: Batch = sample) -> None:
            with torch.autocast(run.device, torch.bfloat16, enabled=run.device == "cuda"):
                outcome = stage.main(sample, 0)
                outcome.loss.backward()
                assert outcome.images is not None
                adversary(*outcome.images).loss.backward()
            if run.device == "cuda":
                torch.cuda.synchronize()

        try:
            step()
            if time.monotonic() > until:
                break
            started, count = time.monotonic(), 0
            while count < 1 or (time.monotonic() - started < 1.5 and run.device == "cuda"):
                step()
                count += 1
        except torch.cuda.OutOfMemoryError:
            break
        found[batch] = count / (time.monotonic() - started)
    return found


def release() -> None:
    """Give the GPU's memory back: from here on other processes train."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def choose_batch(speeds: Mapping[int, float], minutes: float, least_steps: int = LEAST_STEPS) -> int:
    """Of the batches that leave a stage of so many minutes enough steps, that with the most samples a second; where
    none does, the one with the most steps."""
    enough = {batch: speed for batch, speed in speeds.items() if speed * minutes * 60 >= least_steps}
    if not enough:
        return max(speeds, key=lambda batch: speeds[batch])
    return max(enough, key=lambda batch: batch * enough[batch])


def command_of(run: Run, name: str, number: int, minutes: float, init: Path) -> list[str]:
    """The command line of one stage."""
    words = [sys.executable, "-m", "realsrt", "train", name, "--init", str(init)]
    words += ["--out", str(run.runs / f"{number}-{name}"), *shlex.split(STAGES[name])]
    words += ["--perceptual-file", str(FEATURES), "--perceptual-taps", *TAPS]
    batch = {"deep": min(DEEP_BATCH, run.batch), "control": run.batch}.get(name, run.batch * SMALLER)
    words += ["--batch", str(batch)]
    if name not in TRUNK:  # the trunk learns from photographs alone: a teacher's images would be its own
        words += ["--teacher-above", "0.25"]
    photos, pairs = run.folder / "photos.tar", run.folder / "pairs.tar"
    if photos.is_file():
        words += ["--data", str(photos)]
    if pairs.is_file() and not (name in TRUNK and photos.is_file()):  # few, where new ones never end
        words += ["--pairs", f"{pairs}=0.25" if photos.is_file() else str(pairs)]
    if run.teacher is not None and name not in TRUNK:
        words += ["--teacher", str(run.teacher)]
    if run.max_steps is not None:
        words += ["--max-steps", str(run.max_steps), "--log-every", "1"]
    else:
        words += ["--max-minutes", f"{minutes:.2f}", "--save-minutes", "1", "--log-every", "100"]
    if run.device == "cuda":
        words += ["--precision", "bf16"]
        words += ["--pool", "1536"] if name == "strength" else ["--pool", "512", "--refresh", "8"]
        if run.compile and (minutes >= 2 or run.max_steps is not None):  # it would take a short stage's time
            words += ["--compile"]
    else:
        words += ["--pool", "4", "--tile", "128", *([] if name == "strength" else ["--refresh", "1"])]
        words[words.index("--crop") + 1] = "128"
    if name == "control":
        steps = run.max_steps or run.speed * minutes * 60
        words += ["--gan-warmup", str(max(1, round(WARMUP * steps)))]
    return words


def train_stage(run: Run, name: str, number: int, minutes: float, init: Path) -> tuple[Path | None, bool]:
    """One stage, its half-precision weights written to OUT whenever they are new. Gives the weights, if there are any,
    and whether it ended well."""
    made, shown = run.runs / f"{number}-{name}" / "model.safetensors", run.out / f"{number}-{name}.safetensors"
    old = seen = made.stat().st_mtime if made.is_file() else 0.0  # of an earlier run, perhaps what this one starts from
    command = command_of(run, name, number, minutes, init)
    run.say(f"{name}: {shlex.join(command[3:])}")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    reader = threading.Thread(target=lambda stream: [run.say(line.rstrip()) for line in stream], args=(process.stdout,))
    reader.start()
    end = None if run.max_steps is not None else run.seconds + minutes * 60 + 2 * STARTING
    while process.poll() is None:
        time.sleep(0.5)
        if end is not None and run.seconds > end:
            run.say(f"{name}: out of time, asked to save and stop")
            process.send_signal(signal.SIGTERM)
            end = run.seconds + STARTING
        if made.is_file() and (changed := made.stat().st_mtime) != seen:
            seen = changed
            export(run, made, shown)
    reader.join()
    if made.is_file() and made.stat().st_mtime != seen:
        export(run, made, shown)
    well = process.returncode in (0, 143)
    if not well:
        run.say(f"{name}: FAILED with status {process.returncode}")
    return made if made.is_file() and made.stat().st_mtime != old else None, well


def export(run: Run, made: Path, shown: Path) -> None:
    """The weights in half precision, each part whole at every moment, as NAME.1, NAME.2…: `cat NAME.?` is the file."""
    import torch

    import realsrt

    whole = made.with_name("half.safetensors")
    realsrt.save_model(realsrt.load_model(made), whole, dtype=torch.float16)
    content = whole.read_bytes()
    parts = {f"{shown.name}.{1 + first // LARGEST}": first for first in range(0, len(content), LARGEST)}
    for name, first in parts.items():
        (run.runs / name).write_bytes(content[first : first + LARGEST])
    for name in parts:
        shutil.move(run.runs / name, shown.with_name(name))
    for old in shown.parent.glob(f"{shown.name}.?"):
        if old.name not in parts:
            old.unlink()
    run.say(f"wrote {', '.join(parts)}: {len(content) / 2**20:.1f} MiB")


def start(run: Run, wished: list[float]) -> None:
    """All up to the first stage. Raises StartFailed, the time limit of the checks included."""

    def late(*_: Any) -> None:
        raise StartFailed(f"the start took more than {START_SECONDS:g} s; it was {run.doing}")

    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, START_SECONDS - run.seconds))
    try:
        prepare(run)
    except StartFailed:
        raise
    except Exception as error:
        if run.seconds > START_SECONDS:
            late()  # raised amid an import, it may have come out as an error of the interpreter
        raise StartFailed(f"{run.doing}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    run.say("the start is good")
    given = os.environ.get("BATCH")
    batches = (int(given),) if given else (4, 8, 16, 32) if run.device == "cuda" else (2,)
    speeds = measure(run, batches)
    release()
    if not speeds:
        raise StartFailed("not one step of the smallest batch fits into memory and time")
    run.batch = choose_batch(speeds, wished[0])
    run.speed = speeds[run.batch]
    table = ", ".join(f"{batch}: {speed:.2f} steps/s, {batch * speed:.1f} samples/s" for batch, speed in speeds.items())
    run.say(f"measured, uncompiled: {table}; batch {run.batch}")


def main() -> int:
    folder, out, *rest = sys.argv[1:]
    max_steps = int(rest[1]) if rest[:1] == ["--max-steps"] and len(rest) == 2 else None
    if rest and max_steps is None:
        print(f"recipes/gpu.sh run: {shlex.join(rest)} is not --max-steps N", file=sys.stderr)
        return 2
    names = os.environ.get("STAGES", "deep strength control critic").split()
    wished = [float(word) for word in os.environ.get("MINUTES", "4.5 0.3 1.8 0.6").split()]
    if len(names) != len(wished) or not set(names) <= STAGES.keys():
        print(f"recipes/gpu.sh run: STAGES of {', '.join(STAGES)}, and as many MINUTES", file=sys.stderr)
        return 2
    began = time.monotonic() - float(os.environ.get("BEGAN", "0"))
    run = Run(Path(folder), Path(out), Path(os.environ["RUNS"]), max_steps, began)
    for place in (run.out, run.runs):
        place.mkdir(parents=True, exist_ok=True)
    (run.out / "log.txt").unlink(missing_ok=True)
    try:
        start(run, wished)
    except StartFailed as problem:
        run.say(f"recipes/gpu.sh run: {problem}")
        return 2
    total, weights, good = float(os.environ.get("TOTAL", "9")) * 60, run.init, True
    for number, (name, wish) in enumerate(zip(names, wished, strict=True), 1):
        until = run.seconds + wish * 60
        while True:
            minutes = (min(until, total - STARTING) - run.seconds) / 60
            if max_steps is None and minutes < 0.2:
                run.say(f"{name}: no time is left")
                break
            made, well = train_stage(run, name, number, minutes, weights)
            good, weights = good and well, made or weights
            if made is not None or run.device != "cuda" or not run.compile:
                break
            run.compile = False
            run.say(f"{name}: once more, without --compile")
    run.say(f"done; the last weights are {weights}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
