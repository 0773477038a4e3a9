"""The metrics by name: which way is better, what each needs, and the files and packages behind them.

Shape suffixes: B batch, C channels, H W pixels, F features.
"""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsrt.checkpoint.published import load_squeeze_features
from realsrt.errors import CheckpointError, UsageError, installing, why
from realsrt.evaluation import metrics
from realsrt.evaluation.lite import lite_distance, load_lite
from realsrt.evaluation.niqe import FEATURES, NiqeModel, gaussian_window, niqe
from realsrt.models.features import TAPS, check_taps, squeeze_distance

TRAINED_TAPS = ("conv1", "fire3", "fire5")
"""SqueezeNet layers in the training loss of the shipped weights; `squeeze_held_out` measures on the others."""

NIQE = Path(__file__).with_name("niqe.npz")
"""Parameters fitted to openly licensed photographs by recipes/niqe.py."""

Measure = Callable[[Tensor, Tensor | None], float]


@dataclass(frozen=True)
class Metric:
    """One number of an image (1,3,H,W) in [0,1], and of its target where `needs_target`. `up`: more is better."""

    name: str
    up: bool
    needs_target: bool
    digits: int
    measure: Measure

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is better than `b`."""
        return a > b if self.up else a < b


@dataclass(frozen=True)
class _Kind:
    up: bool
    needs_target: bool
    digits: int = 4
    pyiqa: str = ""


KNOWN = {
    "psnr": _Kind(True, True, 2),
    "psnr_y": _Kind(True, True, 2),
    "ssim": _Kind(True, True),
    "ms_ssim": _Kind(True, True),
    "squeeze": _Kind(False, True),
    "squeeze_held_out": _Kind(False, True),
    "lite": _Kind(False, True),
    "niqe": _Kind(False, False, 3),
    "lpips": _Kind(False, True, pyiqa="lpips"),
    "dists": _Kind(False, True, pyiqa="dists"),
    "pyiqa_niqe": _Kind(False, False, 3, pyiqa="niqe"),
    "musiq": _Kind(True, False, 2, pyiqa="musiq"),
    "clipiqa": _Kind(True, False, pyiqa="clipiqa"),
    "maniqa": _Kind(True, False, pyiqa="maniqa"),
}
"""Every metric by name. Those with a `pyiqa` name are computed by that package."""


def parse_names(text: str | Sequence[str]) -> list[str]:
    """Names from "psnr,ms-ssim" or a list of such, each once. Raises UsageError for none and for unknown ones."""
    parts = [text] if isinstance(text, str) else text
    names = [name.strip().lower().replace("-", "_") for part in parts for name in part.split(",")]
    names = list(dict.fromkeys(name for name in names if name))
    if unknown := [name for name in names if name not in KNOWN]:
        raise UsageError(f"no such metric: '{unknown[0]}'; choose from {', '.join(KNOWN)}")
    if not names:
        raise UsageError(f"no metric is named; choose from {', '.join(KNOWN)}")
    return names


def build(
    names: Sequence[str],
    *,
    features: Path | None = None,
    trained_taps: Sequence[str] = TRAINED_TAPS,
    niqe_model: NiqeModel | None = None,
    device: str | torch.device = "cpu",
) -> list[Metric]:
    """Metrics ready to measure. `features`: the SqueezeNet file; None looks in a checkout's recipes.

    Metrics that are networks run on `device`, all else on the CPU. Raises UsageError when something that a metric needs
    is missing, CheckpointError for a bad file.
    """
    simple = {"psnr": metrics.psnr, "psnr_y": metrics.psnr_y, "ssim": metrics.ssim, "ms_ssim": metrics.ms_ssim}
    check_taps(trained_taps)
    held_out = tuple(tap for tap in TAPS if tap not in trained_taps)
    squeezenet = None
    if any(name.startswith("squeeze") for name in names):
        squeezenet = load_squeeze_features(features or checkout_features()).to(device)
    made = []
    for name in names:
        kind = KNOWN[name]
        if kind.pyiqa:
            measure = _by_pyiqa(name, kind.pyiqa, device)
        elif squeezenet is not None and name.startswith("squeeze"):
            if not (taps := TAPS if name == "squeeze" else held_out):
                raise UsageError("squeeze_held_out has no layer left: all of them are named as trained")
            measure = _measure(lambda x, y, taps=taps, net=squeezenet: squeeze_distance(net, x, y, taps), device)
        elif name == "lite":
            measure = _measure(partial(lite_distance, load_lite().to(device)), device)
        elif name == "niqe":
            model = niqe_model or load_niqe(NIQE)
            measure = _measure(lambda x, _, model=model: niqe(x, model), "cpu")
        else:
            measure = _measure(simple[name], "cpu")
        made.append(Metric(name, kind.up, kind.needs_target, kind.digits, measure))
    return made


def _measure(function: Callable[[Any, Any], Tensor], device: str | torch.device) -> Measure:
    def measure(x_BCHW: Tensor, y_BCHW: Tensor | None) -> float:
        with torch.inference_mode():
            return float(function(x_BCHW.to(device), None if y_BCHW is None else y_BCHW.to(device)))

    return measure


def checkout_features() -> Path:
    """The SqueezeNet feature file of the checkout this runs from. Raises UsageError where there is none."""
    path = Path(__file__).parents[3] / "recipes" / "features" / "squeezenet1_1.safetensors"
    if not path.is_file():
        raise UsageError(
            "the squeeze distance needs a SqueezeNet feature file: give --features FILE "
            "(recipes/features/squeezenet1_1.safetensors in the source repository)"
        )
    return path


def _by_pyiqa(name: str, known: str, device: str | torch.device) -> Measure:
    """A metric of pyiqa. Raises UsageError, one line, when the package or the metric's weights are missing."""
    try:
        import pyiqa  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision built for another torch
        raise UsageError(f"{name} is measured by pyiqa, which is not usable ({error}): {installing('iqa')}") from (
            error
        )
    try:
        network = pyiqa.create_metric(known, device=torch.device(device))
    except Exception as error:  # whatever a download or an unpickling may raise
        raise UsageError(
            f"{name}: pyiqa could not load it ({type(error).__name__}: {error}); its weights are downloaded on first "
            "use, so try once with a connection, or leave this metric out"
        ) from error
    if KNOWN[name].needs_target:
        return _measure(lambda x, y: network(x, y), device)
    return _measure(lambda x, _: network(x), device)


def load_niqe(path: str | Path) -> NiqeModel:
    """NIQE's parameters from an .npz with mu_pris_param, cov_pris_param and gaussian_window.

    Without a window in the file the usual one is taken. Raises CheckpointError.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, AttributeError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        reason = why(error)
        raise CheckpointError(f"{path}: cannot read NIQE parameters ({reason})") from error
    found = {key.replace("_", "").lower(): value for key, value in arrays.items()}
    shapes = {"muprisparam": (FEATURES,), "covprisparam": (FEATURES, FEATURES)}
    parts = []
    for key, shape in shapes.items():
        value = np.asarray(found.get(key, ()))
        if value.dtype.kind not in "fiu" or value.size != np.prod(shape) or not np.isfinite(value).all():
            raise CheckpointError(
                f"{path}: not NIQE parameters: needs mu_pris_param of 36 numbers and cov_pris_param of 36x36"
            )
        parts.append(torch.from_numpy(value.astype(np.float64).reshape(shape)))
    window = np.asarray(found.get("gaussianwindow", gaussian_window().numpy()))
    if window.ndim != 2 or window.shape[0] != window.shape[1] or window.shape[0] % 2 == 0 or window.dtype.kind != "f":
        raise CheckpointError(f"{path}: not NIQE parameters: gaussian_window must be a square of an odd side")
    return NiqeModel(parts[0], parts[1], torch.from_numpy(window.astype(np.float64)))
