import pytest
import torch
from torch import nn

pytest.importorskip("accelerate")

from realsrt.training.ema import EMA


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.learns = nn.Parameter(torch.zeros(3))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("table", torch.zeros(2))


def test_the_average_is_the_formula_and_its_decay_grows():
    net = Net()
    ema = EMA(net, 0.5)
    expected = torch.zeros(3)
    for update in range(1, 21):
        with torch.no_grad():
            net.learns.fill_(float(update))
        ema.update(net)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
    torch.testing.assert_close(ema.shadow["learns"], expected)
    assert decay == 0.5  # the first updates had less


def test_buffers_are_followed_and_frozen_weights_kept():
    net = Net()
    ema = EMA(net, 0.999)
    net.table.copy_(torch.tensor([4.0, 5.0]))
    ema.update(net)
    assert ema.shadow["table"].tolist() == [4.0, 5.0]
    assert ema.shadow["frozen"].tolist() == [1.0, 1.0]


def test_the_shadow_is_a_copy():
    net = Net()
    ema = EMA(net, 0.9)
    with torch.no_grad():
        net.learns.fill_(7)
    assert ema.shadow["learns"].tolist() == [0, 0, 0]


def test_going_on_from_a_saved_shadow_is_exact():
    def steps(ema, net, numbers):
        for number in numbers:
            with torch.no_grad():
                net.learns.copy_(torch.randn(3, generator=torch.Generator().manual_seed(number)))
            ema.update(net)

    net, other = Net(), Net()
    whole = EMA(net, 0.999)
    steps(whole, net, range(10))
    first = EMA(other, 0.999)
    steps(first, other, range(6))
    second = EMA(other, 0.999, {k: v.clone() for k, v in first.shadow.items()})
    before = first.shadow["learns"].clone()
    steps(second, other, range(6, 10))
    assert torch.equal(first.shadow["learns"], before)  # what was handed in is not moved
    for key, value in whole.shadow.items():
        assert torch.equal(second.shadow[key], value)


def test_a_shadow_from_before_a_buffer_was_there_goes_on_with_the_models():
    old = EMA(Net(), 0.5).shadow
    del old["table"]
    net = Net()
    net.table.fill_(3.0)
    shadow = EMA(net, 0.5, old).shadow
    assert shadow["table"].tolist() == [3, 3]
    assert torch.equal(shadow["learns"], old["learns"])
