"""A linear layer that on the CPU computes by oneDNN.

PyTorch's own goes to MKL, which on processors that are not Intel's leaves their widest instructions unused: on an
AMD EPYC (one thread) the generator's layers ran at 107 GFLOP/s, and by oneDNN, which convolutions use anyway, at 245.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """``nn.Linear``, the same to float32's accuracy."""

    def forward(self, input: Tensor) -> Tensor:
        """(…, D_in) → (…, D_out)."""
        if _by_onednn(input, self.weight):
            return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return F.linear(input, self.weight, self.bias)


def _by_onednn(input: Tensor, weight: Tensor) -> bool:
    """Whether this call can go there: plain float32 numbers on the CPU, nothing being recorded."""
    return (
        ONEDNN
        and torch.backends.mkldnn.enabled
        and input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
