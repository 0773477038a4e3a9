"""Models on the Hugging Face hub: one weight file, ``realsrt.safetensors``, beside a model card."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import torch

from realsrt.checkpoint.packed import pack, unpack
from realsrt.checkpoint.weights import LARGE, save_model
from realsrt.errors import CheckpointError, first_line
from realsrt.model import RealSRT

HUB_FILE = "realsrt.safetensors"
METADATA = {
    "library_name": "realsrt",
    "pipeline_tag": "image-to-image",
    "tags": ["super-resolution", "image-restoration"],
}
_BARE = "---\nlibrary_name: realsrt\n---\n"
_LOCAL_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!#|https?:)[^)]*\)")
_CARD = """\
# {repo}

A RealSRT model of preset `{preset}`, {parameters:.1f} M parameters, for upscaling photographs {scale} times.

```python
import realsrt

up = realsrt.Upscaler.from_pretrained("hf:{repo}")
up.upscale("photo.jpg").save("photo_x{scale}.png")
```

Or `realsrt upscale photo.jpg -o photo_x{scale}.png -n hf:{repo}`.

How the weights were made, as far as the file says:

```json
{provenance}
```
"""


def fetch(name: str) -> Path:
    """The weight file of "hf:org/repo[@revision]", through huggingface_hub's cache, in a folder named by the commit."""
    repo, _, revision = name.removeprefix("hf:").partition("@")
    if repo.count("/") != 1:
        raise CheckpointError(f"{name!r} is not of the form hf:org/repo[@revision]")
    from huggingface_hub import hf_hub_download

    with _told(f"can't fetch {HUB_FILE} of {name}"):
        return Path(hf_hub_download(repo, HUB_FILE, revision=revision or None))


def push_to_hub(
    model: RealSRT,
    repo: str,
    *,
    card: Path | None = None,
    licence: str | None = None,
    private: bool = False,
    message: str = "Upload a RealSRT model",
    token: str | None = None,
) -> str:
    """Upload a model in one commit, making the repository if there is none.

    Args:
        model: The model.
        repo: "org/repo"; it is loaded again as "hf:org/repo".
        card: A model card, in Markdown; what its metadata leaves out of library, task and tags is filled in, and links
            to files that are not uploaded become plain text. By default a short one that says how to use the model.
        licence: The hub's name of one, such as "mit", where the card has none.
        private: Whether a new repository is.
        message: Of the commit.
        token: Of the hub; by default that of `hf auth login` or HF_TOKEN.

    Returns:
        The commit's address.

    Raises:
        CheckpointError: One line on what is wrong, as a missing login.

    >>> from realsrt import load_model, push_to_hub
    >>> push_to_hub(load_model("small"), "you/realsrt-small", licence="other")  # doctest: +SKIP
    """
    text = model_card(model, repo, card, licence)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder, HUB_FILE), dtype=torch.float16 if _halves(model) else torch.float32)
        Path(folder, "README.md").write_text(text, encoding="utf-8")
        if model.trunk is not None:  # made from networks whose licence wants it
            Path(folder, "NOTICE").write_bytes((files("realsrt.weights") / "NOTICE").read_bytes())
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with _told(f"can't upload to {repo}"):
            api.create_repo(repo, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message).commit_url)


def model_card(model: RealSRT, repo: str, card: Path | None = None, licence: str | None = None) -> str:
    """The text of README.md on the hub, which begins with the metadata that the hub reads. See `push_to_hub`. Raises
    CheckpointError for a file that cannot be read or whose metadata cannot."""
    from huggingface_hub import ModelCard

    if card is None:
        text = _CARD.format(
            repo=repo, preset=model.config.preset, parameters=model.parameter_count / 1e6, scale=model.config.scale,
            provenance=json.dumps(model.info.provenance, indent=1, sort_keys=True),
        )  # fmt: skip
    else:
        try:
            text = card.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{card}: the model card cannot be read: {first_line(error)}") from None
    with _told(f"{card}: the model card's metadata cannot be read"):
        made = ModelCard((_BARE if not text.startswith("---\n") else "") + _LOCAL_LINK.sub(r"\1", text))
        for name, value in (METADATA | ({"license": licence} if licence else {})).items():
            if made.data.get(name) is None:
                made.data[name] = value
        return str(made)


def _halves(model: RealSRT) -> bool:
    """Whether half precision holds every number, as it does of a file that was stored so: it stays the same file."""
    state = model.state_dict()
    stored = unpack(pack(state, LARGE))
    return all(torch.equal(value, value.half().float()) and torch.equal(value, stored[k]) for k, value in state.items())


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Inside, what the hub, its HTTP library or the file system raise becomes a CheckpointError: `what`, and why."""
    from huggingface_hub import errors

    reasons = {
        errors.LocalEntryNotFoundError: "the hub can't be reached, and the file is not in the cache",
        errors.RepositoryNotFoundError: "there is no such repository, or it needs a login",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.EntryNotFoundError: "the repository has no such file",
    }
    try:
        yield
    except Exception as error:
        reason = next((text for kind, text in reasons.items() if isinstance(error, kind)), "")
        if not reason and isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
            reason = "the hub wants a login that may write: hf auth login, or HF_TOKEN"
        raise CheckpointError(f"{what}: {reason or str(error) or type(error).__name__}") from None
