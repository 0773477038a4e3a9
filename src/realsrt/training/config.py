"""Everything a training run depends on, in one frozen dataclass, and the defaults of each stage."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from realsrt.errors import UsageError

StageName = Literal["deep", "strength", "tokenizer", "generator", "critic", "control"]
STAGES: tuple[StageName, ...] = get_args(StageName)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What the samples are. Sizes are in pixels of the high-quality target.

    Every step ``refresh`` new tiles are degraded into a pool of ``pool`` pairs (rounded up to a multiple of the global
    batch, which is ``batch`` times ``accumulate`` times the processes), from which the crops are drawn, so that
    degradations mix within a batch and cost little.
    """

    data: tuple[Path, ...] = ()
    """Folders of photographs, tars and single images."""
    data_weight: float = 1.0
    """How often a training pair is a degraded photograph, in proportion to the weights of the recorded pairs."""
    pairs: tuple[str, ...] = ()
    """Folders and tars of recorded pairs (NAME.lq.png, NAME.gt.png, NAME.teacher.png), each with its weight if that is
    not 1: --pairs cameras/ taught.tar=2."""
    teacher_above: float = 2.0
    """Where a sample has a teacher's image and its input has lost at least so much (0: no more than plain shrinking
    takes, 1: ruined), that image is the target in place of the photograph. Above 1: never."""
    teacher: Path | None = None
    """A published network file (RRDBNet or SRVGGNetCompact for x4): its image of every new pair goes with the pair."""
    seed: int = 0
    """Decides about all that is random."""
    batch: int = 16
    """Samples that a process computes at once."""
    accumulate: int = 1
    """So many batches are computed one after the other, and their gradients added up, before the weights move."""
    global_batch: int | None = None
    """Samples a step of all processes together. It takes the place of accumulate, and batch becomes the most that a
    process computes at once: the run is then the same on any number of processes."""
    crop: int | None = None
    """Side of a training crop; by default 256 where positions are fixed to a grid, else 128."""
    tile: int = 256
    """Side of a tile that is degraded as a whole."""
    pool: int = 180
    """Degraded pairs in memory, of all processes together."""
    refresh: int = 2
    """New pairs in the pool at each step, of all processes together."""
    degradation: str = "mixed"
    """How photographs are degraded: bicubic, stored, light, realesrgan, mixed or everyday."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What decoded images learn from."""

    pixel: float = 1.0
    """Weight of the pixel loss."""
    pixel_loss: Literal["charbonnier", "mse"] = "charbonnier"
    """The paper takes the squared error."""
    perceptual: float = 0.02
    """Weight of the perceptual loss."""
    perceptual_file: Path | None = None
    """Feature file for the perceptual loss; without one that loss is left out."""
    perceptual_taps: tuple[str, ...] = ("conv1", "fire3", "fire5")
    """Layers that the perceptual loss compares."""
    perceptual_shift: int = 7
    """Both images lose up to so many rows and columns at random before the perceptual loss, so that its strides do
    not always meet the same pixels: without it the decoder learns a weave that only those strides like."""
    perceptual_views: bool = False
    """Before the perceptual loss both images are flipped, their channels swapped and scaled, and they are resampled to
    0.6 to 1.5 times their size, all at random (E-LPIPS, arXiv:1906.03973): less is learned that its network
    alone sees."""
    clean_share: float = 1.0
    """Perceptual and adversarial weight for an input that is no worse than bicubic shrinking makes it, as a share of
    that for a badly degraded one; below 1, clean images stay close to their input."""
    clean_pixel: float = 1.0
    """Pixel weight for such an input, in multiples of that for a badly degraded one."""
    commitment: float = 0.25
    """Weight of the commitment of encoder outputs to their codes."""
    gan: float = 0.0
    """Weight of the adversarial loss, on top of the adaptive factor; 0 trains without a discriminator."""
    gan_start: int = 0
    """Step at which the adversarial loss begins."""
    gan_warmup: int = 0
    """For so many steps from there on the discriminator learns alone, while the model waits: a young discriminator adds
    grit."""
    discriminator: Literal["patch", "patch_sn", "unet", "projected"] = "patch_sn"
    """Network of the adversarial loss; sn: with spectral normalisation; projected: heads on the features of the
    perceptual loss, which need the fewest steps to become of use."""
    discriminator_width: int = 32
    """Channels of its first layer."""
    discriminator_lr: float = 4e-4
    """Its learning rate."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What single stages learn, and how."""

    reduced_share: float = 0.3
    """Share of the steps in which the deep network learns from badly degraded inputs alone, seen reduced."""
    token_drop: float = 0.1
    """Share of samples decoded without tokens while the tokenizer learns (conditional tokenizers only)."""

    mask_sampling: Literal["paper", "quarter_full", "full"] = "quarter_full"
    """Share of tokens that are masked: 1 − √u (paper); the same, but a quarter of the samples full; or always full, so
    that a critic meets predicted tokens only, as it does when it is used."""
    critic_labels: Literal["predicted", "wrong", "far"] = "predicted"
    """What the critic tells from real tokens: all predicted ones, or the wrong ones; "far": how far from the target the
    decoded image is at each token, a rank between 0 and 1, whatever its token."""
    critic_balance: bool = False
    """Weigh both classes equally: a confidence of one half then stands for the average token, however few are right."""
    critic_temperatures: tuple[float, float] = (1.0, 4.0)
    """Masked positions are filled at a temperature drawn from this range, a sample each. "0 0" is the paper's argmax;
    above 1 the critic meets tokens less likely than real ones, and learns how likely a token is."""
    critic_init: Literal["generator", "random"] = "generator"
    """Whether the critic starts from the generator's weights, where both have the same parts."""
    sampler_steps: tuple[int, ...] = (4,)
    """Steps of generation; of several numbers one is drawn for every training step."""
    tune_decoder: bool = False
    """Let the control stage fine-tune the decoder on the sampler's own tokens (the paper freezes it)."""
    control_drop: float = 0.1
    """Share of samples decoded at fidelity 0 while the decoder is tuned."""


@dataclass(frozen=True)
class TrainConfig(StageConfig, LossConfig, DataConfig):
    """One run. It ends, its learning rate decayed, at ``max_steps`` or ``max_minutes``, whichever comes first."""

    stage: StageName
    _: KW_ONLY
    out: str | Path = Path("runs/train")
    """A folder that all machines of the run see, or a URL: s3://bucket/run, or whatever else fsspec knows."""
    preset: str | None = None
    """Architecture; by default that of the initial weights, else small. Where it differs from that of the initial
    weights, what has the same name and shape is taken over, and the rest starts anew."""
    init: Path | None = None
    """Weights to start from; every stage but the first needs those of the stage before."""
    trunk: tuple[Path, ...] = ()
    """Published files that the trunk starts from, ``.pth`` or safetensors: two SRVGGNetCompact, the mild and the strong
    denoiser (realesr-general-wdn-x4v3, realesr-general-x4v3), and, for a trunk with a deep network, an RRDBNet
    (RealESRGAN_x4plus)."""
    max_steps: int | None = None
    """Steps in all, those before a resume included."""
    max_minutes: float | None = None
    """Minutes in all, those before a resume included."""
    resume: bool = False
    """Go on from the state in ``out``, if there is one."""
    overwrite: bool = False
    """Start anew where ``out`` holds a run, which is lost."""

    lr: float = 1e-4
    """Learning rate."""
    lr_end: float = 0.05
    """Final learning rate as a share of ``lr``."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Of AdamW."""
    weight_decay: float = 0.0
    """Of AdamW."""
    warmup: int = 50
    """Steps in which the learning rate rises."""
    clip: float = 1.0
    """Largest norm of the gradients."""
    ema: float = 0.999
    """Decay of the averaged weights."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """no: float32."""

    log_every: int = 20
    """Steps between lines of the log on the screen."""
    save_minutes: float = 5.0
    """Minutes between saves."""
    save_steps: int | None = None
    """Steps between saves, besides."""
    compile: bool = False
    """Compile the networks (torch.compile): for GPUs, where the first steps then take minutes and the others less."""
    profile_flops: bool = True
    """Measure the machine's peak at the start, count one step's work, and log the share of peak."""

    @property
    def begins(self) -> bool:
        """Whether the run needs no weights of a stage before."""
        return self.stage == "tokenizer" or (self.stage in ("deep", "strength") and bool(self.trunk))


_STAGE_DEFAULTS: dict[str, dict[str, Any]] = {
    "deep": {"batch": 1, "crop": 256, "lr": 2e-5, "perceptual": 0.06, "perceptual_views": True, "clean_pixel": 2.0},
    "strength": {"lr": 2e-3, "weight_decay": 0.3, "batch": 32, "crop": 256, "pool": 640, "refresh": 0},
    "tokenizer": {"lr": 4e-4},
    "generator": {"lr": 4e-4, "betas": (0.9, 0.96), "weight_decay": 0.03},
    "critic": {"mask_sampling": "paper", "lr": 4e-4, "betas": (0.9, 0.96), "weight_decay": 0.03},
    "control": {"lr": 2e-4, "gan": 0.2, "tune_decoder": True, "batch": 8},
}

_BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {  # nan is within none
    "max_steps max_minutes batch accumulate global_batch tile pool log_every save_steps data_weight lr clip "
    "discriminator_width discriminator_lr": (lambda x: x > 0, "be more than zero"),
    "refresh perceptual_shift gan_start gan_warmup warmup weight_decay save_minutes pixel perceptual commitment "
    "gan clean_pixel clean_share": (lambda x: x >= 0, "not be negative"),
    "seed": (lambda x: 0 <= x < 2**63, "be from 0 to 2**63 - 1"),
    "lr_end ema reduced_share token_drop control_drop": (lambda x: 0 <= x <= 1, "be from 0 to 1"),
    "betas": (lambda pair: all(0 <= x < 1 for x in pair), "be from 0 to less than 1"),
}


def make_config(stage: str, **options: Any) -> TrainConfig:
    """The config of a stage: its defaults, overridden by the options that are not None. Raises UsageError."""
    if stage not in STAGES:
        raise UsageError(f"no stage is named {stage!r}; there are {', '.join(STAGES)}")
    config = TrainConfig(stage, **_STAGE_DEFAULTS[stage])  # pyright: ignore[reportArgumentType]
    config = replace(config, **{k: v for k, v in options.items() if v is not None})
    if "://" not in str(config.out):
        config = replace(config, out=Path(config.out))
    if config.max_steps is None and config.max_minutes is None:
        raise UsageError("give --max-steps or --max-minutes")
    for names, (fits, words) in _BOUNDS.items():
        for name in names.split():
            if (value := getattr(config, name)) is not None and not fits(value):
                raise UsageError(f"--{name.replace('_', '-')} must {words}, not {value}")
    for text in config.pairs:
        pair_source(text)
    if not config.sampler_steps or min(config.sampler_steps) < 1:
        raise UsageError("--sampler-steps must be more than zero")
    if config.gan_warmup and config.gan <= 0:
        raise UsageError("--gan-warmup needs a discriminator: give --gan")
    if len(config.trunk) not in (0, 2, 3):
        raise UsageError(
            "--trunk takes two files, the mild and the strong denoiser, or three, for a deep network the third, not "
            f"{len(config.trunk)}"
        )
    if config.resume and config.overwrite:
        raise UsageError("give --resume or --overwrite, not both")
    if not config.begins and config.init is None and not config.resume:
        raise UsageError(f"the {stage} stage builds on the one before: give its weights with --init")
    if config.crop is not None and (config.crop % 32 or not 0 < config.crop <= config.tile):
        raise UsageError(f"--crop must be a multiple of 32 and at most --tile, not {config.crop}")
    return config


def pair_source(text: str) -> tuple[Path, float]:
    """The path and the weight of ``cameras/`` (weight 1) or ``taught.tar=2``. Raises UsageError."""
    path, equals, number = text.rpartition("=")
    if not equals or Path(text).exists():
        return Path(text), 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not path or not 0 < weight < math.inf:
        raise UsageError(f"--pairs takes a folder or tar, and perhaps a weight above zero (taught.tar=2), not {text}")
    return Path(path), weight


def stage_defaults() -> dict[str, TrainConfig]:
    """What each stage takes where nothing is said."""
    return {stage: make_config(stage, max_steps=1, init=Path()) for stage in STAGES}


def shared_out(config: TrainConfig, processes: int) -> TrainConfig:
    """The config with ``batch`` and ``accumulate`` of one of so many processes.

    Raises UsageError where ``global_batch`` can't be dealt out evenly."""
    if config.global_batch is None:
        return config
    if config.accumulate != 1:
        raise UsageError("give --accumulate or --global-batch, not both: the one follows from the other")
    own, rest = divmod(config.global_batch, processes)
    if rest or not own:
        raise UsageError(f"--global-batch {config.global_batch} can't be dealt out evenly to {processes} processes")
    parts = next(n for n in range(-(-own // config.batch), own + 1) if own % n == 0)
    return replace(config, batch=own // parts, accumulate=parts)
