"""What stages share: their shape, the image losses with a discriminator, and drawing masks.

Shapes: B batch, N tokens, H W target pixels.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.checkpoint.published import load_squeeze_features
from realsrt.errors import UsageError
from realsrt.imaging.resize import resize, upscale_bicubic
from realsrt.losses import adaptive_weight, charbonnier, hinge_d_loss, hinge_g_loss
from realsrt.model import RealSRT
from realsrt.models.discriminator import DiscriminatorConfig
from realsrt.models.features import LEAST_SIDE, SqueezeFeatures, check_taps, squeeze_distance
from realsrt.models.guide import Guide
from realsrt.nn.device import to_device
from realsrt.training.config import TrainConfig
from realsrt.training.data import derive_seed
from realsrt.training.pair_pool import Batch, PairPool


class Outcome(NamedTuple):
    """Loss to minimise, figures to log, and the (real, fake) images the discriminator learns from, if any."""

    loss: Tensor
    figures: dict[str, Tensor]
    images: tuple[Tensor, Tensor] | None = None


@dataclass
class Stage:
    """``main(batch, step) → Outcome`` trains what requires a gradient; ``adversary`` the discriminator. ``prepare``
    is called before the first step, of a resumed run, too."""

    main: nn.Module
    adversary: "Adversary | None" = None
    prepare: Callable[[PairPool], None] | None = None


class Adversary(nn.Module):
    """A discriminator with its own hinge loss. A projected one sees both images as the perceptual loss does: shifted,
    and in random views, so that no weave is learned that only its features like. Raises UsageError for one without a
    feature file."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.projected = config.discriminator == "projected"
        features = squeeze_features(config, "a projected discriminator needs") if self.projected else None
        self.net = DiscriminatorConfig(config.discriminator, config.discriminator_width).build(features)
        self._learning = [parameter for parameter in self.net.parameters() if parameter.requires_grad]

    def hold(self, still: bool) -> None:
        """Whether gradients pass through without reaching the discriminator's own weights."""
        for parameter in self._learning:
            parameter.requires_grad_(not still)

    def forward(self, real_BCHW: Tensor, fake_BCHW: Tensor) -> Outcome:
        """Hinge loss on real and generated images; no gradient goes to either."""
        real, fake = self.net(torch.cat([real_BCHW, fake_BCHW]).detach()).chunk(2)
        loss = hinge_d_loss(real, fake)
        return Outcome(loss, {"d_loss": loss.detach(), "d_real": real.detach().mean(), "d_fake": fake.detach().mean()})


def squeeze_features(config: TrainConfig, who: str) -> SqueezeFeatures:
    """The network of ``perceptual_file``; ``who`` needs it ("the strength stage measures images by"). Raises UsageError
    where none is given, CheckpointError for a bad file."""
    if config.perceptual_file is None:
        raise UsageError(f"{who} a feature file: give --perceptual-file")
    return load_squeeze_features(config.perceptual_file)


class ImageLoss(nn.Module):
    """Pixel + perceptual + adversarial loss; the adversarial weight adapts to the gradients at ``last_layer``. Raises
    UsageError for a layer that can't be compared, CheckpointError for a bad feature file."""

    def __init__(self, config: TrainConfig, adversary: Adversary | None) -> None:
        super().__init__()
        self.config = config
        check_taps(config.perceptual_taps)
        self.features = load_squeeze_features(config.perceptual_file) if config.perceptual_file else None
        self._adversary = [adversary]  # in a list: it is trained by its own optimizer, not as part of this module

    def _shift(self, step: int) -> tuple[int, int]:
        """Rows and columns left out of the perceptual loss in this step."""
        rng = torch.Generator().manual_seed(derive_seed(self.config.seed, 6, step))
        top, left = torch.randint(self.config.perceptual_shift + 1, (2,), generator=rng).tolist()
        return top, left

    def _seen(self, image_BCHW: Tensor, gt_BCHW: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Both images as a network of frozen features is shown them in this step."""
        top, left = self._shift(step)
        both = torch.cat([image_BCHW, gt_BCHW])[:, :, top:, left:]
        if self.config.perceptual_views:
            both = random_view(both, random.Random(derive_seed(self.config.seed, 16, step)))
        image_BCHW, gt_BCHW = both.chunk(2)
        return image_BCHW, gt_BCHW

    def forward(self, image_BCHW: Tensor, gt_BCHW: Tensor, lq_BCHW: Tensor, last_layer: Tensor, step: int) -> Outcome:
        """Loss of generated images against their targets; perceptual and adversarial parts weigh less, and the pixel
        part more, where the low-quality input lost little (``clean_share``, ``clean_pixel``)."""
        cfg = self.config
        square_B = (image_BCHW - gt_BCHW).square().mean((1, 2, 3))
        pixel_B = charbonnier(image_BCHW, gt_BCHW) if cfg.pixel_loss == "charbonnier" else square_B
        figures = {"pixel": pixel_B.detach().mean(), "mse": square_B.detach().mean()}
        severity_B = severity(lq_BCHW, gt_BCHW)
        figures["severity"] = severity_B.mean()
        share_B = cfg.clean_share + (1 - cfg.clean_share) * severity_B
        pixel_B = pixel_B * (cfg.clean_pixel + (1 - cfg.clean_pixel) * severity_B)
        loss = cfg.pixel * pixel_B.mean()
        seen = image_BCHW, gt_BCHW
        if self.features is not None:
            seen = self._seen(image_BCHW, gt_BCHW, step)
            perceptual_B = squeeze_distance(self.features, *seen, cfg.perceptual_taps)
            figures["perceptual"] = perceptual_B.detach().mean()
            loss = loss + cfg.perceptual * (share_B * perceptual_B).mean()
        adversary = self._adversary[0]
        if adversary is None or step < cfg.gan_start:
            return Outcome(loss, figures)
        fake_BCHW, real_BCHW = seen if adversary.projected else (image_BCHW, gt_BCHW)
        adversary.hold(True)
        logits = adversary.net(fake_BCHW)
        gan = hinge_g_loss(logits * share_B.view(-1, *[1] * (logits.ndim - 1)))
        adversary.hold(False)
        figures["gan"] = gan.detach()
        images = (real_BCHW, fake_BCHW)
        if not torch.is_grad_enabled():
            return Outcome(loss, figures, images)
        # The gradients at the image serve both the adaptive weight and, once weighed, everything below the image.
        # Both parts may have seen the same view of the image.
        slopes = [torch.autograd.grad(part, image_BCHW, retain_graph=part is loss)[0] for part in (loss, gan)]
        at_last = [torch.autograd.grad(image_BCHW, last_layer, s, retain_graph=True)[0] for s in slopes]
        weight = adaptive_weight(*(mean_over_ranks(g) for g in at_last)) * cfg.gan
        figures["gan_weight"] = weight
        pull = (image_BCHW * (slopes[0] + weight * slopes[1])).sum()
        value = loss.detach() + weight * gan.detach()
        return Outcome(value + (pull - pull.detach()), figures, images)


def random_view(images_BCHW: Tensor, rng: random.Random) -> Tensor:
    """The same images seen otherwise: flipped, transposed, channels swapped, contrast and brightness changed, or
    resampled; one change for all of them."""
    for dims in ((2,), (3,)):
        if rng.random() < 0.5:
            images_BCHW = images_BCHW.flip(dims)
    if rng.random() < 0.5:
        images_BCHW = images_BCHW.transpose(2, 3)
    if rng.random() < 0.75:
        images_BCHW = images_BCHW[:, rng.sample(range(3), 3)]
    contrast_C = images_BCHW.new_tensor([rng.uniform(0.6, 1.1) for _ in range(3)])
    images_BCHW = (images_BCHW - 0.5) * contrast_C[:, None, None] + 0.5 + rng.uniform(-0.1, 0.1)
    if rng.random() < 0.4:
        factor = rng.uniform(0.6, 1.5)
        size = [max(LEAST_SIDE, round(side * factor)) for side in images_BCHW.shape[-2:]]
        images_BCHW = F.interpolate(images_BCHW, size, mode="bilinear", antialias=True)
    return images_BCHW


def target_of(batch: Batch, config: TrainConfig) -> Tensor:
    """What the model is to make of ``batch.lq``, (B,3,H,W): the photograph, or the teacher's image where there is one
    and the input has lost at least ``teacher_above`` (see :func:`severity`)."""
    if config.teacher_above > 1:
        return batch.gt
    lost_B = severity(batch.lq, batch.gt) >= config.teacher_above
    return torch.where((lost_B & batch.has_teacher)[:, None, None, None], batch.teacher, batch.gt)


@torch.no_grad()
def severity(lq_BCHW: Tensor, gt_BCHW: Tensor) -> Tensor:
    """How much more an input has lost than plain bicubic shrinking loses, per sample (B,): 0 for no more, 1 from four
    times its squared error on."""
    scale = gt_BCHW.shape[-1] // lq_BCHW.shape[-1]
    clean = resize(gt_BCHW, (lq_BCHW.shape[-2], lq_BCHW.shape[-1]), "bicubic", antialias=True)
    lost_B, least_B = (
        (upscale_bicubic(small, scale) - gt_BCHW).square().mean((1, 2, 3)) + 1e-5 for small in (lq_BCHW, clean)
    )
    return ((lost_B / least_B).log2() / 2).clamp(0, 1)


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of a tensor over all processes; itself when training is not distributed."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        x = x.clone()
        dist.all_reduce(x)
        x /= dist.get_world_size()
    return x


def weight_of_part(count: Tensor, usual: Tensor) -> Tensor:
    """What a mean over ``count`` items is multiplied by so that the mean over processes and parts of a step is that of
    all items. ``usual``: this process's mean count of a part."""
    return count / mean_over_ranks(usual.float())


def usual_count(batch: Batch, tokens: int, sampling: str) -> Tensor:
    """Masked positions of all samples that this process learns from in the step, per part, as :func:`draw_masks` draws
    them. On the CPU."""
    seeds = batch.whole or batch.seeds
    return draw_masks(seeds, tokens, sampling).sum() * len(batch.seeds) / len(seeds)


def freeze_all_but(module: nn.Module, learning: Iterable[nn.Module | None]) -> None:
    """Let exactly these parts of a module learn."""
    module.requires_grad_(False)
    for part in learning:
        if part is not None:
            part.requires_grad_(True)


def masked_target(model: RealSRT, batch: Batch, config: TrainConfig) -> tuple[Guide, Tensor, Tensor]:
    """What generator and critic learn from: the guide, the target's token ids (B, N), and a random mask (B, N)."""
    guide = model.guide(batch.lq)
    with torch.no_grad():
        ids_BN = model.tokenizer.encode(target_of(batch, config), guide).flatten(1)
    return guide, ids_BN, to_device(draw_masks(batch.seeds, ids_BN.shape[1], config.mask_sampling), ids_BN.device)


def masked_cross_entropy(logits_BNV: Tensor, target_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """Mean over the masked positions, without asking the device how many they are."""
    wanted_M = torch.where(mask_BN, target_BN, -100).flatten()
    return F.cross_entropy(logits_BNV.float().flatten(0, 1), wanted_M, ignore_index=-100)


def masked_accuracy(logits_BNV: Tensor, target_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """Share of the masked positions whose likeliest code is the target's."""
    return ((logits_BNV.argmax(-1) == target_BN) & mask_BN).sum() / mask_BN.sum()


def shares(seeds: Sequence[int]) -> Tensor:
    """A number of U(0,1) for each sample (B,), on the CPU."""
    return torch.cat([torch.rand(1, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def draw_masks(seeds: Sequence[int], tokens: int, sampling: str) -> Tensor:
    """Masks (B, N), one seed a sample: ratio 1 − sqrt(u), u ~ U(0,1), at least one token (paper); with
    "quarter_full" a quarter of the samples are masked completely, as the first step of generation is; with "full" all
    are."""
    if sampling == "full":
        return torch.ones(len(seeds), tokens, dtype=torch.bool)
    masks = torch.zeros(len(seeds), tokens, dtype=torch.bool)
    for mask_N, seed in zip(masks, seeds, strict=True):
        rng = torch.Generator().manual_seed(seed)
        full = sampling == "quarter_full" and float(torch.rand(1, generator=rng)) < 0.25
        ratio = 1.0 if full else 1.0 - sqrt(float(torch.rand(1, generator=rng)))
        count = max(1, min(tokens, round(tokens * ratio)))
        mask_N[torch.randperm(tokens, generator=rng)[:count]] = True
    return masks
