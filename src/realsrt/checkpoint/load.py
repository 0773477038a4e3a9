"""Find a model by name, file or hub repository, and load it."""

import os
from importlib.resources import as_file, files
from pathlib import Path

import torch

from realsrt.checkpoint.hub import fetch
from realsrt.checkpoint.official import PICKLE_SUFFIXES, load_official
from realsrt.checkpoint.weights import load_file
from realsrt.errors import NoModelError
from realsrt.model import RealSRT
from realsrt.presets import PRESETS


def embedded() -> list[str]:
    """Names of the models inside the package.

    Returns:
        What `load_model` takes as names.

    >>> embedded()
    ['small']
    """
    return sorted(
        f.name.removesuffix(".safetensors")
        for f in files("realsrt.weights").iterdir()
        if f.name.endswith(".safetensors")
    )


def load_model(source: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> RealSRT:
    """Load a model.

    Args:
        source: An embedded name ("small"), a ``.safetensors`` path, the authors' ``.pth``, or "hf:org/repo[@revision]"
            (a file named realsrt.safetensors there).
        device: Where its weights go.

    Returns:
        The model in eval mode, float32. Its ``info.source`` names the commit that was fetched.

    Raises:
        CheckpointError: One line on what is wrong: missing, truncated, of another kind, wrong key or shape.

    >>> load_model("small").config.preset
    'small'
    """
    name = os.fspath(source)
    if name.startswith("hf:"):
        path = fetch(name)
        shown = f"{name.partition('@')[0]}@{path.parent.name}"  # the cache's folder is named by the commit
    elif name in embedded():
        with as_file(files("realsrt.weights") / f"{name}.safetensors") as path:
            return load_file(path, name).to(device)
    else:
        path, shown = Path(name), name
    if not path.is_file():
        if name in PRESETS:
            raise NoModelError(f"no weights of {name!r} are in this package: give a file that has some (--model-path)")
        known = ", ".join(embedded()) or "none"
        hub = "; a repository of the hub is written hf:org/repo" if name.count("/") == 1 else ""
        raise NoModelError(f"no model {shown!r}: neither a file nor one of the embedded models ({known}){hub}")
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return load_official(path).to(device)
    return load_file(path, shown).to(device)
