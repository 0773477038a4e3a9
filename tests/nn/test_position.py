import pytest
import torch

from realsrt.nn.position import rope_2d, rotate, sincos_2d


def test_sincos_table_of_a_small_grid():
    table = sincos_2d(2, 3, 8)
    assert table.shape == (6, 8)
    # raster order, column in the first half, sines before cosines; position (row 1, column 2)
    angle = torch.tensor([1.0, 0.01])
    column, row = 2 * angle, 1 * angle
    torch.testing.assert_close(table[5], torch.cat([column.sin(), column.cos(), row.sin(), row.cos()]))


def test_rotation_keeps_norms_and_depends_on_differences_only():
    angles = rope_2d(4, 4, 16)
    rng = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=rng)
    q, k = (rotate(x.expand(1, 1, 16, 16), angles)[0, 0] for x in (q, k))
    torch.testing.assert_close(q.norm(dim=-1), q.norm(dim=-1)[:1].expand(16))
    logits = q @ k.T
    torch.testing.assert_close(logits[0, 5], logits[10, 15])  # both are one row and one column apart
    assert (logits[0, 5] - logits[0, 1]).abs() > 1e-3


@pytest.mark.parametrize("make", [sincos_2d, rope_2d])
def test_channel_count_is_checked(make):
    with pytest.raises(ValueError, match="multiple of 4"):
        make(2, 2, 6)
