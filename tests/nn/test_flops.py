import pytest
import torch
import torch.nn.functional as F
from torch import nn

from realsrt.nn.flops import FlopSum


def test_forward_and_backward_of_a_product_and_a_convolution():
    linear, conv = nn.Linear(8, 16, bias=False), nn.Conv2d(3, 4, 3, padding=1)
    with FlopSum() as once:
        linear(torch.zeros(5, 8))
    assert once.total == 2 * 5 * 8 * 16
    with FlopSum() as both:
        out = conv(torch.zeros(2, 3, 10, 10, requires_grad=True))
        torch.autograd.grad(out.sum(), conv.weight, retain_graph=True)
        one_way = both.total
        out.sum().backward()
    assert one_way == 2 * (2 * 2 * 100 * 4 * 27)  # forward, and the gradient of the weight
    assert both.total == one_way + 2 * (2 * 2 * 100 * 4 * 27)


@pytest.mark.parametrize("grad", [False, True])
def test_fused_attention_counts(grad):
    query = torch.rand(1, 2, 16, 8, requires_grad=grad)
    with FlopSum() as counter:
        out = F.scaled_dot_product_attention(query, query, query)
        forward = counter.total
        if grad:
            out.sum().backward()
    assert forward == 2 * (2 * 2 * 16 * 16 * 8)
    assert counter.total == (2.5 + 1) * forward if grad else forward


def test_watching_changes_no_number():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 3, 3))
    x = torch.rand(2, 3, 12, 12)
    plain = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    with FlopSum():
        watched = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
