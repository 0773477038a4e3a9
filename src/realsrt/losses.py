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


class SqueezeLoss(nn.Module):
    """`squeeze_distance` of two images (B,3,H,W), (B,), over some layers of a frozen SqueezeNet."""

    def __init__(self, path: str | Path, taps: Sequence[str] = TAPS) -> None:
        """Raises UsageError for a layer that does not exist, CheckpointError for a bad feature file."""
        super().__init__()
        if unknown := [tap for tap in taps if tap not in TAPS]:
            raise UsageError(f"no such feature tap: {unknown[0]!r}; choose from {', '.join(TAPS)}")
        self.features, self.taps = load_squeeze_features(path), tuple(taps)

    def forward(self, x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
        return squeeze_distance(self.features, x_BCHW, y_BCHW, self.taps)
