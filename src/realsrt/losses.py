"""Training losses. Each returns a scalar tensor, the mean over its inputs, unless it says otherwise.

Shape suffixes: B batch, C channels, H W pixels. Images are RGB in [0,1].
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from realsrt.errors import CheckpointError, UsageError
from realsrt.models.features import TAPS, SqueezeFeatures, squeeze_distance


def charbonnier(x_BCHW: Tensor, y_BCHW: Tensor, *, eps: float = 1e-3) -> Tensor:
    """Smooth L1 a sample (B,), mean of sqrt((x-y)^2 + eps^2); `eps` when equal (Charbonnier et al., ICIP 1994)."""
    return torch.sqrt((x_BCHW - y_BCHW).float().square() + eps**2).mean((1, 2, 3))


def hinge_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Discriminator's hinge loss, half of mean(relu(1-real)) + mean(relu(1+fake)); logits of any shape."""
    return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())


def hinge_g_loss(fake_logits: Tensor) -> Tensor:
    """Generator's part of the hinge loss: -mean(fake)."""
    return -fake_logits.mean()


def commitment_loss(z: Tensor, e: Tensor) -> Tensor:
    """mean((z - sg(e))^2): pulls the encoder's output to its code (VQ-VAE, arXiv:1711.00937); no gradient to `e`."""
    return F.mse_loss(z, e.detach())


def adaptive_weight(nll_grad: Tensor, gan_grad: Tensor, *, max: float = 1e4) -> Tensor:
    """Weight of the adversarial loss: |nll_grad| / (|gan_grad| + 1e-4), clamped to [0, max], detached.

    Both gradients are those of one weight, the last the losses share (VQGAN, arXiv:2012.09841, equation 7).
    """
    ratio = nll_grad.detach().float().norm() / (gan_grad.detach().float().norm() + 1e-4)
    return ratio.clamp(0, max)


def load_squeeze_features(path: str | Path) -> SqueezeFeatures:
    """SqueezeNet 1.1 features from a safetensors file. Raises CheckpointError when it cannot be read or is another."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot read SqueezeNet features ({error})") from error
    return SqueezeFeatures.from_state(state, str(path))


class PerceptualLoss(nn.Module):
    """Distance of two images (B,3,H,W) in a frozen network's features, (B,); made by `build_perceptual`.

    This class itself has no network and is always zero.
    """

    def forward(self, x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
        return x_BCHW.new_zeros(len(x_BCHW))


class _SqueezeLoss(PerceptualLoss):
    def __init__(self, features: SqueezeFeatures, taps: Sequence[str]) -> None:
        super().__init__()
        self.features, self.taps = features, tuple(taps)

    def forward(self, x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
        return squeeze_distance(self.features, x_BCHW, y_BCHW, self.taps)


# conv1_2, conv2_2, conv3_4, conv4_4, conv5_4 before their ReLU, with Real-ESRGAN's weights
_VGG_WEIGHTS = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}


class _VggLoss(PerceptualLoss):
    mean: Tensor
    std: Tensor

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        # new ReLUs: VGG's work in place and would change the tapped activations
        kept = list(layers.children())[: max(_VGG_WEIGHTS) + 1]
        self.layers = nn.ModuleList(nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in kept)
        self.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
        x, y = (x_BCHW - self.mean) / self.std, (y_BCHW - self.mean) / self.std
        loss = x_BCHW.new_zeros(len(x_BCHW), dtype=torch.float32)
        for number, layer in enumerate(self.layers.children()):
            x, y = layer(x), layer(y)
            if number in _VGG_WEIGHTS:
                loss = loss + _VGG_WEIGHTS[number] * (x.float() - y.float()).abs().mean((1, 2, 3))
        return loss


def build_perceptual(spec: str | Path | None, *, taps: Sequence[str] = TAPS) -> PerceptualLoss:
    """The perceptual loss that `spec` names: None or "none" (zero), "vgg", or the path of a SqueezeNet feature file.

    "vgg" needs torchvision and its VGG19 weights, in torch's cache or to be fetched by it. `taps` are the layers of the
    SqueezeNet. Raises UsageError for unknown taps or when torchvision or its weights are missing, CheckpointError for
    a bad file.
    """
    if spec is None or str(spec) == "none":
        return PerceptualLoss()
    if unknown := [tap for tap in taps if tap not in TAPS]:
        raise UsageError(f"no such feature tap: {unknown[0]!r}; choose from {', '.join(TAPS)}")
    if str(spec) != "vgg":
        return _SqueezeLoss(load_squeeze_features(spec), taps)
    advice = 'install torchvision, or give the path of a SqueezeNet feature file, or "none"'
    try:
        from torchvision.models import VGG19_Weights, vgg19  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision built for another torch
        raise UsageError(f"the VGG perceptual loss needs a working torchvision ({error}): {advice}") from error
    try:
        return _VggLoss(vgg19(weights=VGG19_Weights.IMAGENET1K_V1).features)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"torchvision's VGG19 weights could not be loaded ({error}): {advice}") from error
