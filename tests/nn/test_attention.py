import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from realsrt.nn.attention import LOGIT_SCALE, Attention, FeedForward, LayerNorm
from realsrt.nn.position import rope_2d

SDPA = F.scaled_dot_product_attention


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    rng = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=rng) * 0.3 + (1 if p.ndim == 1 else 0)
    return module.double()


def written_out(layer: Attention, x: Tensor, context: Tensor) -> Tensor:
    """The same attention with every step spelled out and a softmax of its own."""
    queries = layer.to_q(layer.norm(x))
    keys, values = layer.to_kv(context).chunk(2, dim=-1)
    outs = []
    for h in range(layer.heads):
        part = slice(h * layer.head_dim, (h + 1) * layer.head_dim)
        k = torch.cat([layer.null_kv[0, h].expand(len(x), -1, -1), keys[..., part]], dim=1)
        v = torch.cat([layer.null_kv[1, h].expand(len(x), -1, -1), values[..., part]], dim=1)
        q = queries[..., part] / queries[..., part].norm(dim=-1, keepdim=True) * layer.q_scale
        k = k / k.norm(dim=-1, keepdim=True) * layer.k_scale
        outs.append(torch.softmax(8.0 * q @ k.transpose(1, 2), dim=-1) @ v)
    return layer.to_out(torch.cat(outs, dim=-1))


def test_cross_attention_is_the_written_out_formula():
    layer = randomised(Attention(24, heads=3, head_dim=8))
    x, context = torch.randn(2, 5, 24).double(), torch.randn(2, 7, 24).double()
    torch.testing.assert_close(layer(x, layer.project(context)), written_out(layer, x, context))


def test_self_attention_reads_the_normed_stream():
    layer = randomised(Attention(24, heads=3, head_dim=8), seed=1)
    x = torch.randn(2, 5, 24).double()
    torch.testing.assert_close(layer(x), written_out(layer, x, layer.norm(x)))


def test_the_null_pair_takes_part():
    layer = randomised(Attention(16, heads=2, head_dim=8))
    x = torch.randn(1, 4, 16).double()
    before = layer(x)
    layer.null_kv.data[1] += 1.0
    assert (layer(x) - before).abs().max() > 1e-3
    assert LOGIT_SCALE == 8.0


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_attention_in_bfloat16_is_the_same_to_its_accuracy(monkeypatch, gain):
    """Also where the gains let logits grow past what an exponential bears (4·4·8)."""
    monkeypatch.setattr("realsrt.nn.attention.cpu_multiplies_bf16", lambda: True)
    usual = []
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *given, scale: usual.append(1) or SDPA(*given, scale=scale)
    )
    layer = randomised(Attention(32, heads=2, head_dim=16)).float()
    layer.q_scale.data.fill_(gain)
    layer.k_scale.data.fill_(gain)
    x = torch.randn(2, 50, 32)
    with torch.inference_mode():
        exact = layer(x)
        assert len(usual) == 1
        with torch.autocast("cpu", torch.bfloat16):
            made = layer(x)
    assert len(usual) == (1 if gain == 1 else 2)
    assert made.isfinite().all()
    assert (made.float() - exact).abs().mean() < 0.02 * exact.abs().mean()


def test_attention_in_bfloat16_compiles_as_one_piece(monkeypatch):
    monkeypatch.setattr("realsrt.nn.attention.cpu_multiplies_bf16", lambda: True)
    layer, x = randomised(Attention(32, heads=2, head_dim=16)).float(), torch.randn(2, 50, 32)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")  # fullgraph: raises where it would be cut
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(x), layer(x), rtol=0.05, atol=0.05)


def test_rotated_attention_sees_only_relative_positions():
    layer = randomised(Attention(16, heads=2, head_dim=8))
    x = torch.randn(1, 9, 16).double()
    angles = rope_2d(3, 3, 8).double()
    torch.testing.assert_close(layer(x, angles_Nd=angles), layer(x, angles_Nd=angles + 0.7))
    assert (layer(x, angles_Nd=angles) - layer(x)).abs().max() > 1e-4


def test_layer_norm_has_a_gain_and_no_shift():
    norm = LayerNorm(8)
    assert [name for name, _ in norm.named_parameters()] == ["gamma"]
    norm.gamma.data.fill_(3.0)
    out = norm(torch.randn(4, 8))
    torch.testing.assert_close(out.mean(-1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.square().mean(-1), torch.full((4,), 9.0), rtol=1e-3, atol=0)


def test_feed_forward_gates_with_the_second_half():
    layer = randomised(FeedForward(512, 4.0))
    assert layer.contract.weight.shape == (512, 1365)
    x = torch.randn(1, 2, 512).double()
    value, gate = layer.expand(layer.norm_in(x)).split(1365, dim=-1)
    torch.testing.assert_close(layer(x), layer.contract(layer.norm_mid(gate * F.gelu(value))))
