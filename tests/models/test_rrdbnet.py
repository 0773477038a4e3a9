"""The large network in bands: the numbers of the whole."""

import torch

from realsrt.models.rrdbnet import RRDBConfig


def test_bands_of_rows_give_what_the_whole_gives():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = RRDBConfig(8, 2, 4).build().requires_grad_(False)
    for parameter in network.parameters():
        parameter.mul_(2)  # or what is far away would matter less than the last bit
    source = torch.rand(1, 3, 150, 20, generator=torch.Generator().manual_seed(0))
    whole = network(source)  # where gradients are recorded, nothing is cut
    with torch.inference_mode():
        torch.testing.assert_close(network(source), whole, rtol=0, atol=1e-5)
