"""Options that several commands share."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from realsrt.batch.outputs import Files
from realsrt.batch.plan import FileJob, identity
from realsrt.batch.resume import NAME
from realsrt.errors import ImageError, UsageError
from realsrt.inference.options import UpscaleOptions
from realsrt.io.files import check_writable

if TYPE_CHECKING:
    from realsrt.inference.upscaler import Upscaler


def option(*names: str, **more: Any) -> Parameter:
    """An option of a command without a --no- form; without `help`, the docstring of the field is shown."""
    return Parameter(name=list(names) or None, negative=(), **more)


def flag(name: str) -> str:
    """The option that gives a field of `UpscaleArgs`."""
    return "--resize" if name == "size" else "--" + name.replace("_", "-")


def _size(_: Any, tokens: Any) -> tuple[int, int]:
    text = tokens[0].value
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"--resize takes a width and a height such as 1920x1080, not '{text}'")
    return int(width), int(height)


def check_outputs(*paths: Path | None) -> None:
    """Raises UsageError for a file that could not be written at the end, or one that is asked for twice; `make_folders`
    makes what is missing."""
    known: set[str] = set()
    for path in filter(None, paths):
        if (own := identity(path)) in known:
            raise UsageError(f"{path} would be written twice; give each its own name")
        known.add(own)
        try:
            check_writable(path)
        except ImageError as problem:
            raise UsageError(str(problem)) from problem


def check_not_read(read: Iterable[str | os.PathLike[str] | None], *paths: Path | None) -> None:
    """Raises UsageError for a file to be written that is one of those that are read."""
    known = {identity(Path(path)) for path in read if path}
    for path in paths:
        if path is not None and identity(path) in known:
            raise UsageError(f"{path} is an input too and would be overwritten; give another name")


def check_targets(jobs: Sequence[FileJob], output: Path) -> None:
    """Raises UsageError where `output`, the one file or the folder of all, could not be written."""
    check_outputs(output if [job.target for job in jobs] == [output] else output / NAME)


def make_folders(*paths: Path | None) -> None:
    """Make the folders of files that are about to be written."""
    for path in paths:
        if path is not None:
            path.absolute().parent.mkdir(parents=True, exist_ok=True)


def parse_box(text: str, option: str = "--box") -> tuple[int, int, int, int]:
    """ "1,2,3,4" → (1, 2, 3, 4). Raises UsageError naming the option."""
    parts = text.replace(" ", "").split(",")
    try:
        x0, y0, x1, y1 = (int(part) for part in parts)
    except ValueError:
        raise UsageError(f"{option} takes X0,Y0,X1,Y1 in output pixels such as 100,80,228,208, not '{text}'") from None
    return x0, y0, x1, y1


NO_STEPS = "0 steps give the base image alone, no confidence map, mask of trust or step to show: give --steps 1 or more"


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class UpscaleArgs(UpscaleOptions):
    """The options of upscaling, where the command line writes them differently."""

    outscale: Annotated[float, option("--outscale", "-s")] = 4.0
    size: Annotated[
        tuple[int, int] | None,
        option("--resize", "-r", help="Final size in pixels, in place of a scale.", metavar="WxH", n_tokens=1,
               converter=_size),
    ] = None  # fmt: skip
    tile: Annotated[int | None, option("--tile", "-t")] = None
    steps: Annotated[int | None, option("--steps", "--timesteps")] = None
    confidence: Annotated[bool, Parameter(parse=False)] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None and self.outscale != UpscaleOptions.outscale:
            raise UsageError("give --outscale or --resize, not both")
        if idle := ", ".join(map(flag, self.without_effect())):
            raise UsageError(f"0 steps give the base image, on which {idle} would have no effect: leave that out")


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class SteppedArgs(UpscaleArgs):
    """The options of upscaling where there must be steps."""

    steps: Annotated[int | None, option("--steps", "--timesteps")] = None
    """Generation steps, at least 1. The model's own if not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps == 0:
            raise UsageError(NO_STEPS)


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class ModelArgs:
    """Which model, and where it computes."""

    model_name: Annotated[str, option("--model-name", "--model", "-n")] = "small"
    """An embedded model, or "hf:org/repo[@revision]"; see realsrt models."""
    model_path: str | None = None
    """A weight file: ours, or the authors' .pth as it is."""
    device: Annotated[str, option("--device", "-g")] = "auto"
    """auto, cpu, cuda:0, mps."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 on GPUs that have it; of a model on a trunk all but 0 steps on CPUs, too, that multiply it."""
    fp32: bool = False
    """The same as --precision fp32."""
    threads: int | None = None
    """CPU threads; by default as many as the machine has free at the start."""

    def __post_init__(self) -> None:
        if self.fp32 and self.precision not in ("auto", "fp32"):
            raise UsageError(f"--fp32 contradicts --precision {self.precision}")

    @property
    def weights(self) -> str:
        """Name or path of the model."""
        return self.model_path or self.model_name

    @property
    def chosen_precision(self) -> str:
        return "fp32" if self.fp32 else self.precision

    def settings(self) -> dict[str, Any]:
        """For a service, which loads the model itself."""
        return {
            "model": self.weights, "device": self.device, "precision": self.chosen_precision, "threads": self.threads,
        }  # fmt: skip

    def load(self, *, compile: bool = False) -> "Upscaler":
        """Raises UsageError, CheckpointError."""
        from realsrt.inference.threads import use_threads
        from realsrt.inference.upscaler import Upscaler
        from realsrt.nn.device import keep_freed_memory

        keep_freed_memory()
        use_threads(self.threads)
        return Upscaler.from_pretrained(
            self.weights, device=self.device, precision=self.chosen_precision, compile=compile
        )


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class OutputArgs(Files):
    """How files are read and written, without the steps."""

    provenance: Annotated[bool, Parameter(negative="--no-provenance")] = True
    save_steps: Annotated[bool, Parameter(parse=False)] = False
    trusted_above: Annotated[tuple[tuple[float, float], ...] | None, Parameter(parse=False)] = None


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class StepOutputArgs(OutputArgs):
    """How files are read and written."""

    save_steps: Annotated[bool, option()] = False
