"""The options that decide how one picture is made, for commands that show or change it; `upscale` has them and more."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from realsrt.batch.plan import Job, plan_batch
from realsrt.cli.options import Device, ModelPath, Precision, option
from realsrt.errors import UsageError

if TYPE_CHECKING:
    from realsrt.inference.upscaler import Upscaler


@Parameter(name="*")
@dataclass(frozen=True)
class Making:
    """The model, and how it upscales."""

    model_name: Annotated[
        str,
        option("--model-name", "--model", "-n", help='An embedded model, or "hf:org/repo[@revision]".'),
    ] = "small"
    model_path: ModelPath = None
    outscale: Annotated[float | None, option("--outscale", "-s", help="Final scale.  [default: 4]")] = None
    resize: Annotated[str | None, option("--resize", "-r", help="Final size in pixels, WxH, in place of a scale.")] = (
        None
    )
    tile: Annotated[int, option("--tile", "-t", help="Side of a window in input pixels; 0 = the model's own.")] = 0
    stride: Annotated[int | None, option(help="Input pixels from window to window.")] = None
    steps: Annotated[
        int | None, option("--steps", "--timesteps", help="Generation steps; the model's own if not given.")
    ] = None
    refine: Annotated[Literal["sparse", "dense"] | None, option(help="As for upscale; the model's own.")] = None
    max_minibatch: Annotated[int | None, option(help="Windows computed at a time on a GPU.")] = None
    device: Device = "auto"
    precision: Precision = "auto"
    fp32: Annotated[bool, option(help="The same as --precision fp32.")] = False
    fidelity: Annotated[float, option(help="How closely to follow the input, 0 to 1.")] = 1.0
    color_fix: Annotated[Literal["adain", "wavelet", "none"] | None, option(help="The model's own if not given.")] = (
        None
    )
    max_pixels: Annotated[int, option(help="Refuse larger inputs before decoding them.")] = 500_000_000

    def options(self) -> dict[str, Any]:
        """Of `Upscaler.upscale`. Raises UsageError."""
        from realsrt.cli.upscale import final_size

        return {
            "steps": self.steps, "stride": self.stride, "tile": self.tile or None, "max_minibatch": self.max_minibatch,
            "fidelity": self.fidelity, "color_fix": self.color_fix, "refine": self.refine,
            "size": final_size(self.resize, self.outscale),
            "outscale": 4.0 if self.outscale is None else self.outscale,
        }  # fmt: skip

    def upscaler(self) -> "Upscaler":
        """The model, loaded. Raises UsageError, CheckpointError."""
        from realsrt.cli.upscale import chosen_precision
        from realsrt.inference.upscaler import Upscaler

        precision = chosen_precision(self.precision, self.fp32)
        return Upscaler.from_pretrained(self.model_path or self.model_name, device=self.device, precision=precision)

    def out_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the result of a picture."""
        from realsrt.io.picture import out_size

        made = self.options()
        return out_size(width, height, made["outscale"], made["size"])


def one_picture(input: str, output: str, companions: list[str], command: str) -> Job:
    """The one picture of a command that takes one, and its target. Raises UsageError."""
    jobs = plan_batch([input], output, companions=companions)
    if len(jobs) != 1 or Path(input).is_dir():
        raise UsageError(f"{command} takes one picture, and {input} is {len(jobs)}; give a file")
    return jobs[0]
