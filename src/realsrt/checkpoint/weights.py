"""Weight files: safetensors with a JSON header; strict loads, atomic writes, no code ever run from a file.

The header's ``realsrt`` entry is JSON: ``format`` (version), ``preset``, ``config`` and ``provenance``.
"""

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file as read_safetensors
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from realsrt.checkpoint.packed import pack, unpack
from realsrt.config import from_dict, to_dict
from realsrt.errors import CheckpointError, first_line, why
from realsrt.io.atomic import write_whole
from realsrt.io.files import file_sha256
from realsrt.model import CheckpointInfo, RealSRT

Network = TypeVar("Network", bound=nn.Module)
FORMAT_VERSION = 1
OPTIONAL = ("critic.knots",)
"""Tensors that a file may lack: the model has values of its own."""
OTHERS = "; networks of other projects are for realsrt compare"
_SIDES = ("window", "stride")
_LARGEST_SIDE = 256  # of a window: attention's memory grows with its fourth power
_MOST_PARAMETERS = 20_000  # tensors; the largest preset has about a thousand
LARGE = "trunk.deep."  # two thirds of the numbers of `small`
_LARGEST_TABLE = 4_000_000  # bytes of the list of tensors and the header


class ForeignFileError(CheckpointError):
    """A safetensors file that this package did not write."""


def read_header(path: Path) -> dict[str, Any]:
    """The ``realsrt`` header of a weight file. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            if _LARGEST_TABLE < int.from_bytes(file.read(8), "little") < path.stat().st_size:
                raise CheckpointError(
                    f"{path} has a header of more than {_LARGEST_TABLE:,} bytes: no model of ours has"
                )
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no weight file, or a damaged one ({why(error)}); give a safetensors file or download it again"
        ) from None
    if "realsrt" not in metadata:
        raise ForeignFileError(
            f"{path} is a safetensors file, but not of this package: its header has no 'realsrt' entry{OTHERS}"
        )
    try:
        header = json.loads(metadata["realsrt"])
        version = header["format"]
        header["config"]
        if not isinstance(version, int):
            raise ValueError("version")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{path} has a damaged 'realsrt' header; download it again") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path} has format {version}, this version reads {FORMAT_VERSION}; update realsrt")
    return header


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of any safetensors file, whoever wrote it. Raises CheckpointError."""
    try:
        return read_safetensors(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no weight file, or a damaged one ({why(error)}); give a safetensors file or download it again"
        ) from None


def load_file(path: Path, shown: str) -> RealSRT:
    header = read_header(path)
    try:
        config = from_dict(header["config"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: its header's {error}") from None
    state = read_tensors(path)
    _check_size(header["config"], len(state), str(path))
    info = CheckpointInfo(shown, file_sha256(path), header.get("provenance", {}))
    return from_state(lambda: RealSRT(config, info), unpack(state), str(path))


def _check_size(config: Mapping[str, Any], tensors: int, where: str) -> None:
    """Raise CheckpointError if a header describes more than its file can hold, before anything is built from it."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            _check_size(value, tensors, where)
            continue
        limit = tensors if name.endswith(("depth", "blocks", "convs")) else _LARGEST_SIDE if name in _SIDES else 65_536
        sizes = [len(value), *value] if isinstance(value, list) else [value]
        least = 1 if name in _SIDES else -65_536
        if any(isinstance(size, int) and not least <= size <= limit for size in sizes):
            raise CheckpointError(f"{where}: its header's {name} of {value!r:.40} is beyond what the file holds")


def from_state(build: Callable[[], Network], state: Mapping[str, Tensor], where: str) -> Network:
    """What ``build`` makes, holding exactly ``state`` (as float32), in eval mode. Raises CheckpointError naming the
    first key that is missing, unexpected or of the wrong shape."""
    try:
        with torch.device("meta"), bounded_building():
            network = build()
    except Exception as error:  # whatever a nonsensical size leads to
        raise CheckpointError(f"{where} describes a model that can't be built: {first_line(error)}") from None
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items() if k in state or k not in OPTIONAL}
    check_state(state, shapes, where)
    network.load_state_dict({k: v.float() for k, v in state.items()}, strict=True, assign=True)
    return network.eval()


@contextmanager
def bounded_building() -> Iterator[None]:
    """Inside, no more than 20,000 parameters are made, which take some seconds. Raises ValueError."""
    left = [_MOST_PARAMETERS]

    def counted(*_: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise ValueError(f"of more than {_MOST_PARAMETERS:,} tensors")

    hook = register_module_parameter_registration_hook(counted)
    try:
        yield
    finally:
        hook.remove()


def check_state(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise CheckpointError unless ``state`` has exactly these keys and shapes and only floating tensors."""
    if missing := [k for k in shapes if k not in state]:
        raise CheckpointError(f"{where} lacks {missing[0]!r} ({len(missing)} keys missing of {len(shapes)})")
    if extra := [k for k in state if k not in shapes]:
        raise CheckpointError(f"{where} holds {extra[0]!r}, which this model does not have ({len(extra)} such keys)")
    for key, shape in shapes.items():
        if state[key].layout != torch.strided or state[key].device.type != "cpu":
            raise CheckpointError(f"{where}: {key!r} is a sparse or an empty tensor, plain numbers were expected")
        if tuple(state[key].shape) != shape:
            raise CheckpointError(f"{where}: {key!r} has shape {tuple(state[key].shape)}, {shape} was expected")
        if not state[key].is_floating_point():
            raise CheckpointError(f"{where}: {key!r} holds {state[key].dtype}, floating point was expected")


def save_model(
    model: RealSRT,
    path: str | os.PathLike[str],
    *,
    provenance: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write weights, config and provenance atomically: afterwards the file is whole, or as it was.

    Args:
        model: The model.
        path: The file, ``.safetensors``.
        provenance: What to say of the weights' making, in plain JSON types; by default the model's own.
        state: Tensors to write in place of the model's, by their names.
        dtype: How numbers are stored; in half precision, the large network of a trunk takes 8 bits a number.

    Raises:
        CheckpointError: When it can't be written.

    >>> import tempfile
    >>> from realsrt import load_model, presets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(presets.build("tiny"), f"{folder}/tiny.safetensors")
    ...     load_model(f"{folder}/tiny.safetensors").config.preset
    'tiny'
    """
    provenance = model.info.provenance if provenance is None else dict(provenance)
    header = {
        "format": FORMAT_VERSION,
        "preset": model.config.preset,
        "config": to_dict(model.config),
        "provenance": provenance,
    }
    state = model.state_dict() if state is None else state
    if dtype == torch.float16:
        state = pack(state, LARGE)
    state = {
        k: v.detach().to("cpu", dtype if v.is_floating_point() else v.dtype).contiguous() for k, v in state.items()
    }
    write_file(Path(path), serialize(state, {"realsrt": json.dumps(header, sort_keys=True)}))


def write_torch(path: Path, content: object) -> None:
    """Write a file by torch.save, whole or not at all. Raises CheckpointError."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getbuffer())


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all. Raises CheckpointError."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise CheckpointError(f"can't write {path}: {why(error)}") from None
