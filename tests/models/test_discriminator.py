import pytest
import torch

from realsrt.models.discriminator import DiscriminatorConfig
from realsrt.models.features import SqueezeFeatures


@pytest.mark.parametrize("kind", ["patch", "patch_sn", "unet", "projected"])
def test_every_kind_learns_to_tell_noise_from_ramps(kind):
    features = SqueezeFeatures()
    torch.manual_seed(0)
    net = DiscriminatorConfig(kind, 8, 2).build(features).train()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    ramp = torch.linspace(0, 1, 32).expand(4, 3, 32, 32)
    for _ in range(40):
        real, fake = net(torch.cat([ramp, torch.rand(4, 3, 32, 32)])).chunk(2)
        loss = torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1.0


def test_the_papers_patchgan_has_batchnorm_and_a_receptive_field_of_patches():
    net = DiscriminatorConfig().build()
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules()) == 3
    assert net(torch.rand(2, 3, 256, 256)).shape == (2, 1, 30, 30)
    assert DiscriminatorConfig("unet", 8).build()(torch.rand(1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_a_projected_one_stands_on_frozen_features_and_judges_where():
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="features"):
        DiscriminatorConfig("projected", 8).build()
    net = DiscriminatorConfig("projected", 8).build(SqueezeFeatures()).eval()
    assert not any(p.requires_grad for p in net.features.parameters())
    assert all(p.requires_grad for p in net.heads.parameters())
    image = torch.rand(1, 3, 64, 96, requires_grad=True)
    logits = net(image)
    assert logits.shape == (1, 4, 31, 47)
    # The shallow head speaks of the pixels around: those of the other corner have a part in its scale alone.
    (slope,) = torch.autograd.grad(logits[0, 0, 0, 0], image)
    near, far = slope[..., :24, :24].abs().mean(), slope[..., 40:, 72:].abs().mean()
    assert near > 0
    assert far < near / 100
