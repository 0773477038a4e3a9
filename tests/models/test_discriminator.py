import pytest
import torch

from realsrt.models.discriminator import DiscriminatorConfig


@pytest.mark.parametrize("kind", ["patch", "patch_sn", "unet"])
def test_every_kind_learns_to_tell_noise_from_ramps(kind):
    torch.manual_seed(0)
    net = DiscriminatorConfig(kind, 8, 2).build().train()
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
