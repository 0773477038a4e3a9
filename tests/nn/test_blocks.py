import torch
import torch.nn.functional as F

from realsrt.nn.blocks import Downsample, PlainResidualBlock, ResidualBlock, SpatialAttention, Upsample, group_norm


def test_group_norm_is_the_vqgan_one():
    norm = group_norm(64)
    assert (norm.num_groups, norm.eps) == (32, 1e-6)
    assert group_norm(16).num_groups == 16


def test_residual_block_uses_a_projection_only_where_widths_differ():
    x = torch.randn(1, 32, 6, 6)
    same, wider = ResidualBlock(32, 32), ResidualBlock(32, 64)
    same.conv2.weight.data.zero_()
    same.conv2.bias.data.zero_()
    torch.testing.assert_close(same(x), x)
    wider.conv2.weight.data.zero_()
    wider.conv2.bias.data.zero_()
    torch.testing.assert_close(wider(x), wider.shortcut(x))


def test_downsample_pads_bottom_and_right_only():
    down = Downsample(1)
    down.conv.weight.data.zero_()
    down.conv.weight.data[0, 0, 0, 0] = 1.0  # top-left tap: picks x[2i, 2j], which padding above would shift
    down.conv.bias.data.zero_()
    x = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(down(x), x[:, :, ::2, ::2])


def test_upsample_is_nearest_then_a_convolution():
    up = Upsample(1)
    x = torch.randn(1, 1, 3, 3)
    torch.testing.assert_close(up(x), up.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3)))


def test_spatial_attention_is_softmax_over_positions():
    block = SpatialAttention(32)
    x = torch.randn(2, 32, 3, 4)
    normed = block.norm(x)
    q, k, v = (f(normed).flatten(2) for f in (block.q, block.k, block.v))
    weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / 32**0.5, dim=-1)
    expected = x + block.proj_out(torch.einsum("bij,bcj->bci", weights, v).view_as(x))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_plain_block_is_local():
    block = PlainResidualBlock(8)
    x = torch.randn(1, 8, 12, 12)
    y = x.clone()
    y[..., 0, 0] += 1.0
    changed = (block(x) - block(y)).abs().sum(1)[0] > 0
    assert not changed[3:].any()
    assert not changed[:, 3:].any()
    assert changed[:3, :3].any()
    assert F.mse_loss(block(x), x) < 0.1
