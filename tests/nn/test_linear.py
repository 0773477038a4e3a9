"""The linear layer that computes by oneDNN."""

import pytest
import torch
from torch import nn

from realsrt.nn import linear
from realsrt.nn.flops import FlopSum

needs_onednn = pytest.mark.skipif(not linear.ONEDNN, reason="this PyTorch has no oneDNN")


def pair(bias=True):
    torch.manual_seed(0)
    ours, theirs = linear.Linear(24, 40, bias=bias), nn.Linear(24, 40, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (7, 24), (2, 5, 24), (2, 3, 4, 24), (0, 24)])
def test_it_is_pytorchs_to_float32s_accuracy(bias, shape):
    ours, theirs = pair(bias)
    x = torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
        part = torch.randn(*shape[:-1], 48)[..., ::2]  # not contiguous
        torch.testing.assert_close(ours(part), theirs(part), rtol=1e-5, atol=1e-6)


@needs_onednn
def test_only_inference_in_float32_goes_there(monkeypatch):
    ours, theirs = pair()
    calls = []
    real = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *args: calls.append(1) or real(*args))
    x = torch.randn(3, 24)
    with torch.inference_mode():
        ours(x)
        assert len(calls) == 1
        with torch.autocast("cpu", torch.bfloat16):
            assert ours(x).dtype == torch.bfloat16
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
        torch.testing.assert_close(ours(x), theirs(x))
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", True)
    with torch.no_grad():
        assert linear.Linear(24, 40).double()(x.double()).dtype == torch.float64
    ours(x).sum().backward()
    theirs(x).sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    assert len(calls) == 1


@needs_onednn
def test_its_operations_are_counted():
    ours, theirs = pair()
    counts = []
    for layer in (ours, theirs):
        with torch.no_grad(), FlopSum() as counter:
            layer(torch.randn(2, 5, 24))
        counts.append(counter.total)
    assert counts == [2 * 10 * 24 * 40] * 2
