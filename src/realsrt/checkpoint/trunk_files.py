"""The trunk's network as the files that other upscalers read: an SRVGGNetCompact of the Real-ESRGAN project.

* .pth (``params``) and .safetensors: what spandrel and what stands on it take as it is
* .param with .bin beside it: ncnn, blobs ``data`` and ``output`` (3,H,W), RGB in [0,1]. Needs the extra ``ncnn``

The file holds the network of one denoising strength. The model's own base image is a share of this network's image over
the bicubic enlargement, which an estimator finds for each image, in the coarse colours of the input; the file has
neither.
"""

import re
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import save as serialize
from torch import Tensor

from realsrt.checkpoint.weights import write_file, write_torch
from realsrt.errors import RealSRTError, UsageError, needs
from realsrt.model import RealSRT
from realsrt.models.srvgg import SRVGGNetCompact

TOLERANCE = 1e-2  # of ncnn's values, between it and PyTorch: it may store and compute in half precision


def export_trunk(model: RealSRT, path: Path, *, denoise: float = 0.5) -> list[Path]:
    """Write the trunk's network; returns the files.

    Args:
        model: A model with a trunk.
        path: Its suffix says what is written: .pth, .safetensors or .param.
        denoise: The network's strength, 0 (mild) to 1 (strong).

    Raises:
        UsageError: For a model without a trunk, another suffix, or without the extra ``ncnn``.
        RealSRTError: If ncnn computes something else.
        CheckpointError: When a file can't be written.

    >>> import tempfile
    >>> from realsrt import presets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.name for file in export_trunk(presets.build("tiny"), Path(folder) / "trunk.pth")]
    ['trunk.pth']
    """
    if model.trunk is None:
        raise UsageError(f"the preset {model.config.preset!r} has no trunk: only parts can be written of it")
    network = model.trunk.network(denoise)
    state = {key: value.detach().cpu().float().contiguous() for key, value in network.state_dict().items()}
    suffix = path.suffix.lower()
    if suffix == ".pth":
        write_torch(path, {"params": state})
        return [path]
    if suffix == ".safetensors":
        files = {path: serialize(state, {"format": "pt"})}
    elif suffix == ".param":
        param, weights = _to_ncnn(network.config.build().eval(), state)
        files = {path.with_suffix(".bin"): weights, path: param.encode()}
    else:
        raise UsageError(f"{path.name}: the trunk is written as .pth, .safetensors or .param")
    for file, content in files.items():
        write_file(file, content)
    return list(files)


def _to_ncnn(network: SRVGGNetCompact, state: dict[str, Tensor]) -> tuple[str, bytes]:
    """The text of .param and the bytes of .bin, by pnnx, for any height and width."""
    with needs("ncnn", "a file of ncnn"):
        import ncnn  # noqa: F401
        import pnnx
    network.load_state_dict(state)
    sizes = "inputshape=[1,3,32,32]", "inputshape2=[1,3,24,40]"  # two, so that neither is taken for the only one
    with tempfile.TemporaryDirectory() as folder:
        traced, converted = Path(folder, "net.pt"), Path(folder, "net.ncnn.param")
        with warnings.catch_warnings():  # pnnx reads TorchScript, which torch calls deprecated
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.trace(network, torch.zeros(1, 3, 32, 32)).save(traced)  # pyright: ignore
        done = subprocess.run([pnnx.EXEC_PATH, "net.pt", *sizes], cwd=folder, capture_output=True, text=True)
        if done.returncode or not converted.is_file():
            raise RealSRTError(f"pnnx could not convert the trunk: {done.stderr.strip()[-200:] or done.returncode}")
        # the names by which Upscayl's engine asks
        param = re.sub(r"\bin0\b", "data", re.sub(r"\bout0\b", "output", converted.read_text("utf-8")))
        converted.write_text(param, "utf-8")
        _compare(network, converted)
        return param, converted.with_suffix(".bin").read_bytes()


@torch.inference_mode()
def _compare(network: SRVGGNetCompact, param: Path) -> None:
    lq = torch.rand(1, 3, 19, 27, generator=torch.Generator().manual_seed(0))
    got, want = run_ncnn(param, lq[0]), network(lq)[0]
    if got.shape != want.shape or not torch.allclose(got, want, atol=TOLERANCE):
        raise RealSRTError("ncnn does not compute what PyTorch does; please report this with the versions")


def run_ncnn(param: Path, lq_CHW: Tensor) -> Tensor:
    """The image (3,sH,sW) that ncnn makes of (3,H,W) with a .param and the .bin beside it."""
    import ncnn
    import numpy as np

    net = ncnn.Net()  # pyright: ignore[reportAttributeAccessIssue]
    net.load_param(str(param))
    net.load_model(str(param.with_suffix(".bin")))
    run, pixels = net.create_extractor(), lq_CHW.contiguous().numpy()  # ncnn.Mat does not keep what it shows alive
    run.input("data", ncnn.Mat(pixels))  # pyright: ignore[reportAttributeAccessIssue]
    _, out = run.extract("output")
    return torch.from_numpy(np.array(out))
