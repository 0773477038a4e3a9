"""Options that several commands share."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter


def option(*names: str, help: str = "", **more: Any) -> Parameter:
    """An option of a command without a --no- form."""
    return Parameter(name=list(names) or None, help=help, negative=(), **more)


ModelName = Annotated[
    str, option("--model-name", "-n", help='An embedded model, or "hf:org/repo[@revision]"; see realsrt models.')
]
ModelPath = Annotated[str | None, option(help="A weight file: ours, or the authors' .pth as it is.")]
Device = Annotated[str, option("--device", "-g", help="auto, cpu, cuda:0, mps.")]
Precision = Annotated[Literal["auto", "fp32", "bf16", "fp16"], option(help="auto: bf16 on GPUs that have it.")]
Quality = Annotated[int | None, option(help="1 to 100, for JPEG, WebP and AVIF.")]
Strip = Annotated[bool, option(help="Leave all metadata but the ICC profile and density out of the output.")]
NoProvenance = Annotated[bool, option(help="Do not note software, model and settings in the output's XMP.")]
