import pytest
import torch

from realsrt import losses


@pytest.fixture
def x_BCHW() -> torch.Tensor:
    return torch.rand(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))


def test_charbonnier_is_eps_at_zero_and_l1_far_away(x_BCHW):
    assert losses.charbonnier(x_BCHW, x_BCHW, eps=1e-2).tolist() == pytest.approx([1e-2] * len(x_BCHW))
    assert losses.charbonnier(x_BCHW, x_BCHW + 3).tolist() == pytest.approx([3] * len(x_BCHW), abs=1e-4)


def test_charbonnier_pulls_towards_the_target(x_BCHW):
    loss = losses.charbonnier
    y_BCHW = x_BCHW.flip(3)
    moving = x_BCHW.clone().requires_grad_()
    before = loss(moving, y_BCHW).mean()
    before.backward()
    assert moving.grad is not None
    step = moving.grad / moving.grad.abs().max() * 1e-2
    assert loss(x_BCHW - step, y_BCHW).mean() < before
    assert moving.grad.isfinite().all()


def test_hinges():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert losses.hinge_d_loss(real, fake).item() == pytest.approx(0.5 * (0.25 + 1.0))
    assert losses.hinge_g_loss(fake).item() == pytest.approx(1.0)


def test_commitment_moves_only_the_encoder():
    z, e = torch.tensor([1.0, 3.0], requires_grad=True), torch.tensor([0.0, 1.0], requires_grad=True)
    loss = losses.commitment_loss(z, e)
    loss.backward()
    assert loss.item() == pytest.approx(2.5)
    assert z.grad is not None
    assert z.grad.tolist() == [1.0, 2.0]
    assert e.grad is None


def test_adaptive_weight_is_the_ratio_of_norms_clamped():
    nll = torch.tensor([3.0, 4.0], requires_grad=True)
    assert losses.adaptive_weight(nll, torch.tensor([0.0, 2.0])).item() == pytest.approx(2.5, rel=1e-3)
    assert losses.adaptive_weight(nll, torch.zeros(2)).item() == 1e4
    assert losses.adaptive_weight(nll, torch.zeros(2), max=10).item() == 10
    assert not losses.adaptive_weight(nll, nll).requires_grad
