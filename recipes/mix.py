"""Weights between those that a stage started from and those that it ended with, every tensor for itself (WiSE-FT,
arXiv:2109.01903). A short stage moves weights by what it learned and by the noise of its batches: a share of the way is
often better than either end.

    python recipes/mix.py START END SHARE OUT

START: weights, or the published network that the deep stage started from. SHARE: of END, 0 to 1.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

import realsrt
from realsrt.checkpoint.published import load_published
from realsrt.errors import CheckpointError, RealSRTError, UsageError


def start_tensors(path: Path) -> Mapping[str, Tensor]:
    """Of weights, or of a published network as the deep one of a trunk. Raises CheckpointError."""
    try:
        return realsrt.load_model(path).state_dict()
    except CheckpointError:
        return {f"trunk.deep.{key}": value for key, value in load_published(path).state_dict().items()}


def mix(start: Path, end: Path, share: float) -> realsrt.RealSRT:
    """The model of ``end`` with all that it learned scaled by ``share``. Raises UsageError, CheckpointError."""
    if not 0 <= share <= 1:
        raise UsageError(f"a share is between 0 and 1, not {share:g}")
    model, known = realsrt.load_model(end), start_tensors(start)
    own = dict(model.named_parameters())
    both = {key: value for key, value in own.items() if key in known and known[key].shape == value.shape}
    if not both:
        raise UsageError(f"{start} and {end} have no tensor in common")
    with torch.no_grad():
        for key, value in both.items():
            value.copy_(torch.lerp(known[key].float(), value.float(), share))
    return model


def main() -> int:
    try:
        start, end, text, out = sys.argv[1:]
        share = float(text)
    except ValueError:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        realsrt.save_model(mix(Path(start), Path(end), share), Path(out))
    except RealSRTError as error:
        print(f"recipes/mix.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
