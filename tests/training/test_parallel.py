from copy import deepcopy

import pytest
import torch

pytest.importorskip("accelerate")

from realsrt.training.parallel import laid_out, learning, load_optimizer


def test_a_loaded_optimizer_has_the_layout_of_its_parameters():
    """Fused steps walk through memory: a moment of another layout would belong to other weights."""

    def layer(memory_format):
        conv = torch.nn.Conv2d(3, 5, 3)
        torch.nn.init.constant_(conv.weight, 1.0)
        torch.nn.init.constant_(conv.bias, 0.0)
        return conv.to(memory_format=memory_format)

    def optimizer(conv):
        return torch.optim.AdamW(conv.parameters(), lr=1e-2, fused=True)

    def step(conv, optim, seed):
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        conv(x).square().sum().backward()
        optim.step()
        optim.zero_grad()

    first = layer(torch.contiguous_format)
    saved_by = optimizer(first)
    step(first, saved_by, 0)
    second = layer(torch.channels_last)
    second.load_state_dict(first.state_dict())
    goes_on = optimizer(second)
    load_optimizer(goes_on, deepcopy(saved_by.state_dict()))
    for seed in (1, 2):
        step(first, saved_by, seed)
        step(second, goes_on, seed)
    torch.testing.assert_close(second.weight, first.weight, rtol=1e-4, atol=1e-6)


def test_it_is_a_copy_of_that_layout():
    like = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    whole = torch.randn(2, 3, 4, 4)
    made = laid_out(whole, like)
    assert torch.equal(made, whole)
    assert made.stride() == like.stride()
    assert made.data_ptr() != whole.data_ptr()


def test_learning_is_what_is_not_frozen():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    net[0].requires_grad_(False)
    assert learning(net) == list(net[1].parameters())
