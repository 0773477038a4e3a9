"""The authors' checkpoint: read as it is (weights-only unpickling), and written back bit for bit.

Their file is a pickled dict whose ``params_ema`` is a state dict. Both state dicts list the same tensors in the same
order; only names differ, two tensors have leading axes of size one, and theirs stores the layer norms' zero shifts.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realsrt import presets
from realsrt.checkpoint.weights import OTHERS, check_state, from_state
from realsrt.errors import CheckpointError, first_line
from realsrt.io.files import file_sha256
from realsrt.model import CheckpointInfo, RealSRT

_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # top level, ours → theirs
        (r"^tokenizer\.(encoder|decoder)\.layers\.", r"vae.\1.model."),
        (r"^control\.encoder\.layers\.", "trainable_copy_encoder.model."),
        (r"^tokenizer\.quantizer\.", "vae.quantizer.codebooks.0."),
        (r"^tokenizer\.", "vae."),
        (r"^control\.fuse_in\.", "fuse_res1."),
        (r"^control\.fuse_out\.", "fuse_res2."),
        (r"^control\.fuse_attn\.norm\.", "fuse_attn.norm.gn."),
        (r"^control\.", ""),
        (r"^critic\.to_logit\.", "critic.to_logits."),
        # convolutional blocks
        (r"\.norm1\.", ".block.0.gn."),
        (r"\.conv1\.", ".block.2."),
        (r"\.norm2\.", ".block.3.gn."),
        (r"\.conv2\.", ".block.5."),
        (r"\.shortcut\.", ".channel_up."),
        (r"(vae\.encoder|vae\.decoder|trainable_copy_encoder)\.model\.14\.(weight|bias)$", r"\1.model.14.gn.\2"),
        # transformer
        (r"\.backbone\.position$", ".pos_emb"),
        (r"\.backbone\.token_embedding$", ".token_emb.weight"),
        (r"\.backbone\.embed_condition\.", ".enc_in."),
        (r"\.backbone\.embed\.", ".dec_in."),
        (r"\.backbone\.condition_norm\.", ".enc_norm."),
        (r"\.backbone\.norm\.", ".dec_norm."),
        (r"\.backbone\.condition_blocks\.(\d+)\.self_attn\.", r".enc_blocks.\1.0."),
        (r"\.backbone\.condition_blocks\.(\d+)\.feed_forward\.", r".enc_blocks.\1.1."),
        (r"\.backbone\.blocks\.(\d+)\.self_attn\.", r".dec_blocks.\1.0."),
        (r"\.backbone\.blocks\.(\d+)\.cross_attn\.", r".dec_blocks.\1.1."),
        (r"\.backbone\.blocks\.(\d+)\.feed_forward\.", r".dec_blocks.\1.2."),
        (r"\.backbone\.", "."),
        (r"\.norm_in\.", ".0."),
        (r"\.expand\.", ".1."),
        (r"\.norm_mid\.", ".3."),
        (r"\.contract\.", ".4."),
    )
)
PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
_SIGNS_OF_CODE = ("GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "instantiate")  # in the weights-only reader's refusals
_LEADING_AXES = {"generator.mask_token": 2, "generator.pos_emb": 1, "critic.pos_emb": 1}


def official_name(key: str) -> str:
    """The authors' name of one of our keys."""
    for pattern, replacement in _RULES:
        key = pattern.sub(replacement, key)
    return key


def official_shapes() -> dict[str, tuple[int, ...]]:
    """Every key of the authors' state dict with its shape, in their order."""
    return {k: tuple(v.shape) for k, v in to_official(_blank_state()).items()}


def _blank_state() -> dict[str, Tensor]:
    with torch.device("meta"):
        return RealSRT(presets.base()).state_dict()


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict of preset ``base`` as theirs: keys, shapes and order."""
    official: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = official_name(key)
        official[name] = tensor.reshape((1,) * _LEADING_AXES.get(name, 0) + tuple(tensor.shape))
        if name.endswith(".gamma"):
            official[name.removesuffix("gamma") + "beta"] = torch.zeros_like(tensor)
    return official


def from_official(official: Mapping[str, Tensor], where: str = "the state dict") -> dict[str, Tensor]:
    """Their state dict as ours. Raises CheckpointError naming the first key that does not fit, or a nonzero beta."""
    check_state(official, official_shapes(), where)
    for name, tensor in official.items():
        if name.endswith(".beta") and bool(tensor.any()):
            raise CheckpointError(f"{where}: {name!r} should be zero (the paper's layer norms have no shift)")
    return {key: official[official_name(key)].reshape(blank.shape) for key, blank in _blank_state().items()}


def load_official(path: Path) -> RealSRT:
    """A model from the authors' ``.pth``; runs no code from it. Raises CheckpointError."""
    official = read_pickle(path)
    if not official.keys() & official_shapes().keys():
        raise CheckpointError(f"{path} holds no tensor of the authors' network{OTHERS}")
    state = from_official(official, str(path))
    info = CheckpointInfo(str(path), file_sha256(path), {"converted_from": path.name})
    return from_state(lambda: RealSRT(presets.base(), info), state, str(path))


def read_pickle(path: Path, names: tuple[str, ...] = ("params_ema",)) -> dict[str, Tensor]:
    """The first there is of ``names`` in a pickled checkpoint. Raises CheckpointError."""
    content = unpickle(path)
    found = [content[name] for name in names if name in content] if isinstance(content, dict) else []
    params = found[0] if found else None
    if not isinstance(params, dict) or not params or not all(isinstance(value, Tensor) for value in params.values()):
        other = "" if "params" in names else OTHERS
        named = " or ".join(map(repr, names))
        raise CheckpointError(f"{path} has no {named} that is a state dict; is it the authors' file?{other}")
    check_stored(params, path)
    return params


def check_stored(params: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError if a tensor stands for more numbers than the file holds, or all of them together do."""
    for name, value in params.items():
        if isinstance(value, Tensor) and not _is_stored(value):
            raise CheckpointError(f"{path}: {name!r} stands for more numbers than the file holds")
    if sum(value.nbytes for value in params.values() if isinstance(value, Tensor)) > path.stat().st_size:
        raise CheckpointError(f"{path}: its tensors, which share their numbers, stand for more than the file holds")


def unpickle(path: Path) -> Any:
    """What a pickled file holds, by torch's weights-only reader: no code in it is run. Raises CheckpointError."""
    try:
        _refuse_inflating(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickles of other protocols: what matters is raised
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except CheckpointError:
        raise
    except Exception as error:  # torch raises nearly anything on damaged files
        reason = first_line(error)[:120] if str(error) else "it ends too early"
        if isinstance(error, pickle.UnpicklingError):
            if any(sign in str(error) for sign in _SIGNS_OF_CODE):
                raise CheckpointError(
                    f"{path} holds more than weights; none of its code was run. Get it elsewhere"
                ) from None
            reason = "neither a torch archive nor pickled tensors"
        raise CheckpointError(f"{path} is not a readable checkpoint ({reason}); download it again") from None


def _refuse_inflating(path: Path) -> None:
    """Raise CheckpointError for an archive that holds more than its own size: torch compresses nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        if any(entry.compress_type for entry in entries) or sum(e.file_size for e in entries) > path.stat().st_size:
            raise CheckpointError(f"{path} is compressed, as no checkpoint of torch is; download it again")


def _is_stored(tensor: Tensor) -> bool:
    """Whether every number of a tensor is one of its own: not sparse, without data, or the same over and over."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
