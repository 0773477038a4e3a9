"""Find a model by name, file or hub repository, and load it."""

import os
from importlib.resources import as_file, files
from pathlib import Path

import torch

from realsrt.checkpoint.official import PICKLE_SUFFIXES, load_official
from realsrt.checkpoint.weights import load_file
from realsrt.errors import CheckpointError, NoModelError, first_line
from realsrt.model import RealSRT

HUB_FILE = "realsrt.safetensors"


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
        path = _from_hub(name)
        shown = f"{name.partition('@')[0]}@{path.parent.name}"  # the cache's folder is named by the commit
    elif name in embedded():
        with as_file(files("realsrt.weights") / f"{name}.safetensors") as path:
            return load_file(path, name).to(device)
    else:
        path, shown = Path(name), name
    if not path.is_file():
        raise NoModelError(
            f"no model {shown!r}: neither a file nor one of the embedded models ({', '.join(embedded()) or 'none'})"
        )
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return load_official(path).to(device)
    return load_file(path, shown).to(device)


def _from_hub(name: str) -> Path:
    """Fetch "hf:org/repo[@revision]" through huggingface_hub's cache."""
    repo, _, revision = name.removeprefix("hf:").partition("@")
    if repo.count("/") != 1:
        raise CheckpointError(f"{name!r} is not of the form hf:org/repo[@revision]")
    from huggingface_hub import errors, hf_hub_download

    reasons = {
        errors.LocalEntryNotFoundError: "the hub can't be reached, and the file is not in the cache",
        errors.RepositoryNotFoundError: "there is no such repository, or it needs a login",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.EntryNotFoundError: "the repository has no such file",
    }
    try:
        return Path(hf_hub_download(repo, HUB_FILE, revision=revision or None))
    except Exception as error:  # the hub's, its HTTP library's, or the file system's
        reason = next((text for kind, text in reasons.items() if isinstance(error, kind)), first_line(error))
        raise CheckpointError(f"can't fetch {HUB_FILE} of {name}: {reason}") from None
