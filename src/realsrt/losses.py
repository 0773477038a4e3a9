"""Training losses. Each returns a scalar tensor, the mean over its inputs, unless it says otherwise.

Shape suffixes: B batch, C channels, H W pixels. Images are RGB in [0,1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor


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
