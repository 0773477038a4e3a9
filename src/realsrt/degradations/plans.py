"""What may happen to a sample, and the draw of what does: plain numbers, no images.

Source of the pipeline and its numbers: Real-ESRGAN (arXiv:2107.10833), training options of x4plus.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from realsrt.errors import UsageError
from realsrt.imaging.blur import KERNEL_SIZE
from realsrt.imaging.resize import Mode

Range = tuple[float, float]

_FINAL_SIZES = range(7, KERNEL_SIZE + 1, 2)
KERNEL_KINDS = ("iso", "aniso", "generalised_iso", "generalised_aniso", "plateau_iso", "plateau_aniso")


@dataclass(frozen=True)
class OrderConfig:
    """One round of blur, resize, noise, JPEG. Defaults: the first round of Real-ESRGAN x4plus.

    `blur`, `sinc`, `noise`, `gaussian`, `gray`, `jpeg` are probabilities (`sinc`: of a blur; `gaussian`: of a noise,
    else Poisson); `kernel_kinds` those of KERNEL_KINDS; `resize_ways` those of up, down, keep.
    """

    blur: float = 1.0
    kernel_kinds: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    kernel_sizes: tuple[int, ...] = tuple(range(7, KERNEL_SIZE + 1, 2))
    sinc: float = 0.1
    sigma: Range = (0.2, 3.0)
    beta_generalised: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)
    resize_ways: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: Range = (0.15, 1.5)
    noise: float = 1.0
    gaussian: float = 0.5
    gaussian_sigma: Range = (1.0, 30.0)
    poisson_scale: Range = (0.05, 3.0)
    gray: float = 0.4
    jpeg: float = 1.0
    jpeg_quality: Range = (30.0, 95.0)


@dataclass(frozen=True)
class DegradationConfig:
    """Rounds one after another, then the resize to the low-quality size. Defaults: Real-ESRGAN x4plus.

    A round's resize multiplies the size it finds, but the last round's multiplies the low-quality size. The last
    round's JPEG comes after the final resize and sinc filter, or with probability `jpeg_first` before them.
    `antialias`: shrink with a filter that widens (Real-ESRGAN does not).
    """

    orders: tuple[OrderConfig, ...] = (
        OrderConfig(),
        OrderConfig(
            blur=0.8,
            sigma=(0.2, 1.5),
            resize_ways=(0.3, 0.4, 0.3),
            resize_range=(0.3, 1.2),
            gaussian_sigma=(1.0, 25.0),
            poisson_scale=(0.05, 2.5),
        ),
    )
    filters: tuple[Mode, ...] = ("area", "bilinear", "bicubic")
    final_sinc: float = 0.8
    jpeg_first: float = 0.5
    antialias: bool = False


@dataclass(frozen=True)
class Mixture:
    """Every sample is degraded by one of `parts`, drawn with the given weights."""

    parts: tuple[tuple[float, DegradationConfig], ...]


REALESRGAN = DegradationConfig()
BICUBIC = DegradationConfig(orders=(), filters=("bicubic",), final_sinc=0.0, antialias=True)
# Our own choice: the faults of a decent camera or a web image, at most one of each.
LIGHT = DegradationConfig(
    orders=(
        OrderConfig(
            blur=0.6,
            sinc=0.0,
            sigma=(0.2, 2.0),
            resize_ways=(0.1, 0.3, 0.6),
            resize_range=(0.6, 1.2),
            noise=0.6,
            gaussian_sigma=(1.0, 6.0),
            poisson_scale=(0.05, 0.4),
            jpeg=0.6,
            jpeg_quality=(60.0, 95.0),
        ),
    ),
    final_sinc=0.2,
    antialias=True,
)
# Our own choice: what is left of a good photograph after a web site has stored it.
STORED = DegradationConfig(
    orders=(
        OrderConfig(
            blur=0.0,
            resize_ways=(0.0, 0.0, 1.0),
            noise=0.3,
            gaussian=1.0,
            gaussian_sigma=(0.5, 2.5),
            jpeg_quality=(75.0, 97.0),
        ),
    ),
    filters=("bicubic",),
    final_sinc=0.0,
    jpeg_first=0.0,
    antialias=True,
)
# Our own choice: wide ranges for every sample teach a model to smooth clean inputs too, so some stay clean.
MIXED = Mixture(((0.30, BICUBIC), (0.25, LIGHT), (0.45, REALESRGAN)))
# The same, with more of what people have.
EVERYDAY = Mixture(((0.20, BICUBIC), (0.15, STORED), (0.30, LIGHT), (0.35, REALESRGAN)))

PROTOCOLS: dict[str, DegradationConfig | Mixture] = {
    "bicubic": BICUBIC,
    "stored": STORED,
    "light": LIGHT,
    "realesrgan": REALESRGAN,
    "mixed": MIXED,
    "everyday": EVERYDAY,
}


def protocol(name: str) -> DegradationConfig | Mixture:
    """The degradation of that name in PROTOCOLS. Raises UsageError when there is none."""
    if name not in PROTOCOLS:
        raise UsageError(f"no such degradation: {name!r}; choose from {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True)
class BlurPlan:
    """One kernel: `kind` one of KERNEL_KINDS or "sinc"; size and sigma in px, angle in radians, cutoff per px."""

    kind: str
    size: int
    sigma_x: float = 1.0
    sigma_y: float = 1.0
    angle: float = 0.0
    beta: float = 1.0
    cutoff: float = 1.0


@dataclass(frozen=True)
class NoisePlan:
    """`strength` is a sigma in 8-bit levels for "gaussian", a scale for "poisson"."""

    kind: Literal["gaussian", "poisson"]
    strength: float
    gray: bool


@dataclass(frozen=True)
class OrderPlan:
    blur: BlurPlan | None
    factor: float
    filter: Mode
    noise: NoisePlan | None
    quality: float | None


@dataclass(frozen=True)
class Plan:
    """Everything that will happen to one sample, but for the noise itself."""

    orders: tuple[OrderPlan, ...]
    final_filter: Mode
    final_sinc: BlurPlan | None
    jpeg_first: bool
    antialias: bool


def draw_plan(config: DegradationConfig | Mixture, dice: random.Random) -> Plan:
    """Draw one sample's parameters."""
    if isinstance(config, Mixture):
        weights, configs = zip(*config.parts, strict=True)
        config = cast(DegradationConfig, dice.choices(configs, weights)[0])
    return Plan(
        orders=tuple(_draw_order(order, config.filters, dice) for order in config.orders),
        final_filter=dice.choice(config.filters),
        final_sinc=BlurPlan("sinc", dice.choice(_FINAL_SIZES), cutoff=dice.uniform(math.pi / 3, math.pi))
        if dice.random() < config.final_sinc
        else None,
        jpeg_first=dice.random() < config.jpeg_first,
        antialias=config.antialias,
    )


def _draw_order(config: OrderConfig, filters: Sequence[Mode], dice: random.Random) -> OrderPlan:
    low, high = config.resize_range
    way = dice.choices(("up", "down", "keep"), config.resize_ways)[0]
    factor = {"up": dice.uniform(1, high), "down": dice.uniform(low, 1), "keep": 1.0}[way]
    return OrderPlan(
        blur=_draw_blur(config, dice) if dice.random() < config.blur else None,
        factor=factor,
        filter=dice.choice(filters),
        noise=_draw_noise(config, dice) if dice.random() < config.noise else None,
        quality=dice.uniform(*config.jpeg_quality) if dice.random() < config.jpeg else None,
    )


def _draw_blur(config: OrderConfig, dice: random.Random) -> BlurPlan:
    size = dice.choice(config.kernel_sizes)
    if dice.random() < config.sinc:
        return BlurPlan("sinc", size, cutoff=dice.uniform(math.pi / 3 if size < 13 else math.pi / 5, math.pi))
    kind = dice.choices(KERNEL_KINDS, config.kernel_kinds)[0]
    sigma_x, sigma_y = dice.uniform(*config.sigma), dice.uniform(*config.sigma)
    angle = dice.uniform(-math.pi, math.pi)
    if kind.endswith("_iso") or kind == "iso":
        sigma_y, angle = sigma_x, 0.0
    beta = 1.0
    if kind.startswith("generalised"):
        beta = _draw_beta(config.beta_generalised, dice)
    elif kind.startswith("plateau"):
        beta = _draw_beta(config.beta_plateau, dice)
    return BlurPlan(kind, size, sigma_x, sigma_y, angle, beta)


def _draw_beta(bounds: Range, dice: random.Random) -> float:
    """Half the time below 1, half the time above: the two sides are perceived as equally wide."""
    return dice.uniform(bounds[0], 1.0) if dice.random() < 0.5 else dice.uniform(1.0, bounds[1])


def _draw_noise(config: OrderConfig, dice: random.Random) -> NoisePlan:
    gray = dice.random() < config.gray
    if dice.random() < config.gaussian:
        return NoisePlan("gaussian", dice.uniform(*config.gaussian_sigma), gray)
    return NoisePlan("poisson", dice.uniform(*config.poisson_scale), gray)
