"""What a run starts from: its initial weights, its crops, its devices and optimizers."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from realsrt import presets
from realsrt.checkpoint import load_model
from realsrt.checkpoint.published import load_published
from realsrt.errors import UsageError, first_line
from realsrt.model import RealSRT
from realsrt.models.features import LEAST_SIDE
from realsrt.training.config import TrainConfig


def initial_model(config: TrainConfig, saved: dict[str, Any] | None) -> RealSRT:
    """The initial weights, of the preset that is asked for, if any. Raises UsageError or CheckpointError."""
    if config.init is not None:
        model = load_model(config.init)
        if config.preset is not None and presets.get(config.preset) != model.config:
            model = _rebuilt(config, model)
    else:
        name = config.preset or (saved["preset"] if saved else "small")
        if config.preset is None and name not in presets.PRESETS:  # no code is run because a file names it
            raise UsageError(f"the run in {config.out} is of preset {name!r}: give it with --preset FILE.py:{name}")
        model = presets.build(name, config.seed)
    if config.trunk:
        _start_trunk(model, config)
    if saved is not None and saved["preset"] != model.config.preset:
        raise UsageError(f"the run in {config.out} is of preset {saved['preset']!r}, not {model.config.preset!r}")
    return model


def _start_trunk(model: RealSRT, config: TrainConfig) -> None:
    """Give the trunk's networks the weights of published ones. Raises UsageError, CheckpointError."""
    trunk = model.trunk
    if trunk is None:
        raise UsageError(f"preset {model.config.preset!r} has no trunk to start")
    given: dict[str, Tensor] = {}
    for name, path in zip(("mild", "strong", "deep"), config.trunk, strict=False):
        network, own = load_published(path), trunk.config.deep if name == "deep" else trunk.config.network
        if network.config != own:
            raise UsageError(f"{path} holds {network.config}, but the trunk of {model.config.preset!r} takes {own}")
        given |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
    trunk.load_state_dict(given, strict=False)


def _rebuilt(config: TrainConfig, source: RealSRT) -> RealSRT:
    """A model of ``config.preset`` with every tensor of ``source`` that has its name and shape, so that a model can
    grow or a part be changed. Raises UsageError where nothing fits."""
    assert config.preset is not None
    model = presets.build(config.preset, config.seed)
    model.info = source.info
    known, own = source.state_dict(), model.state_dict()
    fitting = {key: value for key, value in known.items() if key in own and own[key].shape == value.shape}
    if not any(key.startswith("tokenizer.decoder") for key in fitting):
        raise UsageError(f"{config.init} (preset {source.config.preset!r}) has nothing that {config.preset!r} can use")
    model.load_state_dict(fitting, strict=False)
    if new := sorted({".".join(key.split(".")[:2]) for key in own.keys() - fitting.keys()}):
        print(f"starting anew: {', '.join(new)}")
    return model


def crop_side(config: TrainConfig, model: RealSRT) -> int:
    """Side of a crop. Raises UsageError where it does not suit the model or the tiles."""
    transformer = model.config.generator
    grid = transformer.grid * model.config.token_size if transformer.position == "sincos" else None
    crop = config.crop or grid or 128
    if grid and crop != grid and config.stage != "tokenizer":
        raise UsageError(f"preset {model.config.preset!r} takes crops of {grid} px only, not {crop}")
    if config.tile % model.config.scale:
        raise UsageError(f"--tile must be a multiple of {model.config.scale}, the model's scale, not {config.tile}")
    if config.perceptual_file and crop - config.perceptual_shift < LEAST_SIDE:
        raise UsageError(f"--perceptual-shift {config.perceptual_shift} leaves too little of crops of {crop} px")
    if crop > config.tile:
        raise UsageError(f"crops of {crop} px need a --tile of at least that, not {config.tile}")
    return crop


def make_accelerator(config: TrainConfig, folder: Path) -> Accelerator:
    """Device, processes, precision and trackers; makes ``folder``. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"can't make the folder {folder}: {error.strerror}") from None
    try:
        accelerator = Accelerator(
            mixed_precision=config.precision,
            log_with="tensorboard",
            project_dir=folder,
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)],
        )
    except ValueError as error:
        raise UsageError(f"--precision {config.precision} does not work here: {first_line(error)}") from None
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        raise UsageError("--precision fp16 needs a GPU; take bf16 or no")
    accelerator.init_trackers("tensorboard")
    return accelerator


def set_rate(optimizer: Any, lr: float) -> float:
    """Set and give the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr
