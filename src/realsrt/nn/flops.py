"""Counting floating-point operations (a multiply-add is two)."""

import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count, shape_wrapper

from realsrt.nn.linear import ONEDNN


def _attention(query: Any, key: Any, value: Any, *_args: Any, **_kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad_out: Any, query: Any, key: Any, value: Any, *_args: Any, **_kwargs: Any) -> int:
    return sdpa_backward_flop_count(grad_out, query, key, value)


def _linear(input: Any, weight: Any, *_args: Any, **_kwargs: Any) -> int:
    return 2 * math.prod(input) * weight[0]


_aten = torch.ops.aten
FOR_CPU = {  # what torch's own formulas lack: fused attention and oneDNN on the CPU
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
} | ({torch.ops.mkldnn._linear_pointwise: _linear} if ONEDNN else {})


class FlopSum(TorchDispatchMode):
    """Inside this context the FLOPs of all operations, backward passes included, add up in ``total``.

    By torch's own formulas. The operations themselves are run as they are, so nothing that is computed changes.
    Not for inference mode, where torch's linear layers escape it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self._formulas = flop_registry | {op: shape_wrapper(formula) for op, formula in FOR_CPU.items()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if (formula := self._formulas.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out
