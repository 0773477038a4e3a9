import torch

from realsrt.models.quantizer import QuantizerConfig


def cluster_batch(centres, count=64, seed=0):
    """Vectors scattered closely around centres, as a (1, D, count, V) map; column v belongs to centre v."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, *centres.shape, generator=rng) * 0.01
    return (centres + noise).permute(2, 0, 1)[None]


def test_nearest_code_by_euclidean_distance():
    quantizer = QuantizerConfig(codes=5, dim=3).build().eval()
    z = torch.randn(2, 3, 4, 4)
    distance = (z.permute(0, 2, 3, 1)[..., None, :] - quantizer.weight[:-1]).square().sum(-1)
    torch.testing.assert_close(quantizer.encode(z), distance.argmin(-1))


def test_straight_through_gradient_and_eval_leaves_the_codebook_alone():
    quantizer = QuantizerConfig(codes=5, dim=3).build().eval()
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    z = torch.randn(1, 3, 2, 2, requires_grad=True)
    out = quantizer(z)
    torch.testing.assert_close(out.z, quantizer.lookup(out.ids))
    out.z.sum().backward()
    torch.testing.assert_close(z.grad, torch.ones_like(z))
    for key, value in quantizer.state_dict().items():
        assert torch.equal(value, before[key])


def test_ema_is_the_formula_on_one_step():
    config = QuantizerConfig(codes=2, dim=1, decay=0.9, restart_below=0.0)
    quantizer = config.build().train()
    quantizer.weight.copy_(torch.tensor([[0.0], [10.0], [0.0]]))
    quantizer.embed_ema.copy_(quantizer.weight[:-1])
    quantizer(torch.tensor([1.0, 2.0, 9.0]).view(1, 1, 3, 1))
    sizes = torch.tensor([0.9 + 0.1 * 2, 0.9 + 0.1 * 1])
    sums = torch.tensor([0.9 * 0 + 0.1 * 3, 0.9 * 10 + 0.1 * 9])
    total = sizes.sum()
    smoothed = (sizes + 1e-5) / (total + 2e-5) * total
    torch.testing.assert_close(quantizer.cluster_size_ema, sizes)
    torch.testing.assert_close(quantizer.weight[:-1, 0], sums / smoothed)


def test_the_codebook_finds_clusters_and_restarts_dead_codes():
    centres = torch.randn(8, 4, generator=torch.Generator().manual_seed(3)) * 3
    quantizer = QuantizerConfig(codes=8, dim=4, decay=0.8).build().train()
    quantizer.weight[:-1] = 50.0  # all codes dead but one: nothing is nearest to the rest
    quantizer.embed_ema.fill_(50.0)
    rng = torch.Generator().manual_seed(0)
    for step in range(200):
        quantizer(cluster_batch(centres, seed=step), rng)
    quantizer.eval()
    ids = quantizer.encode(cluster_batch(centres, seed=999))
    error = (quantizer.lookup(ids) - cluster_batch(centres, seed=999)).square().mean()
    assert ids.unique().numel() >= 6
    assert error < 0.25 * centres.var()


def test_restart_is_drawn_from_the_given_generator():
    def learn(seed):
        quantizer = QuantizerConfig(codes=16, dim=2).build().train()
        quantizer.weight[:-1] = 100.0
        quantizer.embed_ema.fill_(100.0)
        quantizer(
            torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(5)), torch.Generator().manual_seed(seed)
        )
        return quantizer.weight.clone()

    torch.testing.assert_close(learn(1), learn(1))
    assert not torch.equal(learn(1), learn(2))


def test_normalised_codes_have_unit_length_and_compare_by_direction():
    quantizer = QuantizerConfig(codes=6, dim=4, normalize=True).build().train()
    z = torch.randn(1, 4, 6, 6)
    quantizer(z)
    torch.testing.assert_close(quantizer.weight[:-1].norm(dim=1), torch.ones(6))
    torch.testing.assert_close(quantizer.encode(z), quantizer.encode(z * 7))
    assert quantizer.weight[-1].abs().sum() == 0
