import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from realsrt.imaging import tiling


def split(picture, tiles, index):
    """Window `index` of a picture (C,H,W)."""
    rows, columns = tiling.window_at(tiles, index)
    return picture[:, rows[:, None], columns]


def test_the_authors_layout():
    tiles = tiling.plan(80, 88, 64, 32)
    assert (tiles.top, tiles.bottom, tiles.left, tiles.right) == (8, 8, 4, 4)
    assert tiles.ys == tiles.xs == (0, 32)
    assert len(tiles) == 4
    assert [tiles.position(index) for index in range(4)] == [(0, 0), (0, 32), (32, 0), (32, 32)]


def test_an_odd_pixel_of_border_goes_after():
    tiles = tiling.plan(61, 65, 64, 32)
    assert (tiles.top, tiles.bottom, tiles.left, tiles.right) == (1, 2, 15, 16)


@given(st.integers(1, 300), st.sampled_from([(64, 32), (64, 48), (64, 64), (16, 6)]))
def test_the_border_is_the_smallest_that_fits(size, layout):
    window, stride = layout
    tiles = tiling.plan(size, 1, window, stride)
    padded = size + tiles.top + tiles.bottom
    assert padded >= window
    assert (padded - window) % stride == 0
    assert padded - stride < max(size, window)
    assert tiles.ys[-1] + window == padded
    assert tiles.bottom - tiles.top in (0, 1)


@pytest.mark.parametrize("arguments", [(0, 5, 64, 32), (5, 0, 64, 32), (5, 5, 64, 0), (5, 5, 64, 65)])
def test_impossible_plans_are_refused(arguments):
    with pytest.raises(ValueError, match=r"at least one pixel|stride"):
        tiling.plan(*arguments)


@pytest.mark.parametrize(("size", "before", "after"), [(5, 4, 4), (64, 0, 0), (33, 31, 32), (2, 1, 1)])
def test_mirroring_equals_torch_reflect_where_that_is_defined(size, before, after):
    x = torch.arange(float(size))
    expected = F.pad(x[None, None], (before, after), mode="reflect")[0, 0]
    assert torch.equal(x[tiling.mirror_index(-before, size + after, size)], expected)


def test_mirroring_goes_on_as_a_triangular_wave():
    wave = [abs((i + 2) % 4 - 2) for i in range(-9, 12)]
    assert tiling.mirror_index(-9, 12, 3).tolist() == wave
    assert tiling.mirror_index(-4, 5, 1).tolist() == [0] * 9


def test_a_window_shows_what_padding_the_whole_picture_would():
    picture = torch.rand(3, 77, 101)
    tiles = tiling.plan(77, 101, 64, 32)
    padded = F.pad(picture[None], (tiles.left, tiles.right, tiles.top, tiles.bottom), mode="reflect")[0]
    for index in range(len(tiles)):
        y, x = tiles.position(index)
        assert torch.equal(split(picture, tiles, index), padded[:, y : y + 64, x : x + 64])


def test_gaussian_weight_is_the_papers():
    weight = tiling.gaussian_weight(256)
    assert weight[0].item() == pytest.approx(torch.tensor(-((127.5 / 256) ** 2) / 0.1).exp().item(), rel=1e-6)
    assert torch.equal(weight, weight.flip(0))
    assert weight.argmax() in (127, 128)


def blend(picture, tiles, scale, **options):
    """Every window enlarged by repetition, and blended."""
    windows = (
        split(picture, tiles, index).repeat_interleave(scale, -1).repeat_interleave(scale, -2)
        for index in range(len(tiles))
    )
    return torch.cat([*tiling.blend(windows, tiles, tiles.window * scale, **options)], 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(1, 60), st.sampled_from([(16, 8), (16, 12), (16, 16), (16, 6)]))
def test_windows_that_agree_blend_to_the_picture(height, width, layout):
    picture = torch.rand(2, height, width)
    blended = blend(picture, tiling.plan(height, width, *layout), 2)
    expected = picture.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(blended, expected, rtol=0, atol=1e-6)


def test_blending_weighs_as_the_whole_canvas_would():
    tiles = tiling.plan(70, 90, 64, 32)
    n = 128
    windows = torch.rand(len(tiles), 1, n, n)
    weight = tiling.gaussian_weight(n)[:, None] * tiling.gaussian_weight(n)
    total, norm = torch.zeros(2, 1, 192, 192)
    for index, window in enumerate(windows):
        y, x = (2 * p for p in tiles.position(index))
        total[:, y : y + n, x : x + n] += window * weight
        norm[:, y : y + n, x : x + n] += weight
    expected = (total / norm)[:, 2 * tiles.top :, 2 * tiles.left :][:, :140, :180]
    torch.testing.assert_close(torch.cat([*tiling.blend(windows, tiles, n)], 1), expected, rtol=0, atol=1e-6)


def test_rows_are_let_go_as_soon_as_they_are_done():
    picture = torch.rand(1, 100, 40)
    tiles = tiling.plan(100, 40, 32, 16)
    taken = []

    def windows():
        for index in range(len(tiles)):
            taken.append(index)
            yield split(picture, tiles, index)

    rows = tiling.blend(windows(), tiles, 32)
    first = next(rows)
    assert first.shape == (1, 16 - tiles.top, 40)
    assert len(taken) == len(tiles.xs)
    torch.testing.assert_close(torch.cat([first, *rows], 1), picture)


def test_misuse_of_blending():
    tiles = tiling.plan(20, 40, 16, 8)
    with pytest.raises(ValueError, match="do not fall on the grid"):
        list(tiling.blend([], tiling.plan(20, 40, 16, 7), 8, crop=False))
    with pytest.raises(ValueError, match="expected a window"):
        list(tiling.blend([torch.zeros(1, 8, 8)], tiles, 16))
    with pytest.raises(ValueError, match=f"1 windows came, the plan has {len(tiles)}"):
        list(tiling.blend([torch.zeros(1, 16, 16)], tiles, 16))


@pytest.mark.parametrize("size", [64, 62, 60, 96, 1, 2, 3, 61, 63])
def test_tokens_keep_their_place(size):
    """A map that is linear in x stays so on the picture's own grid, whether or not the border is whole tokens."""
    tiles = tiling.plan(1, size, 64, 32)
    padded = size + tiles.left + tiles.right
    centres = torch.arange(padded // 2) * 2 + 0.5 - tiles.left  # of the tokens, in the picture's pixels
    cropped = tiling.crop_tokens(centres.expand(1, 32, -1), tiles, 2)
    cells = -(-size // 2)
    assert cropped.shape == (1, 1, cells)
    inside = size // 2
    torch.testing.assert_close(cropped[0, 0, :inside], torch.arange(inside) * 2 + 0.5)


@pytest.mark.parametrize("overlap", [0, 8, 32])
def test_tapered_weights_come_in_smoothly(overlap):
    weight = tiling.tapered_weight(64, overlap)
    assert torch.equal(weight, weight.flip(0))
    assert float(weight.min()) > 0
    steps = torch.cat([weight[:1], weight.diff()]).abs()
    if overlap:
        assert float(steps.max()) < 3 / overlap
        assert float(weight[0]) < 0.02
    else:
        assert torch.equal(weight, tiling.gaussian_weight(64))


@pytest.mark.parametrize("taper", [True, False])
def test_a_blend_of_constant_windows_is_constant_and_a_taper_has_no_step_at_their_borders(taper):
    tiles = tiling.plan(16, 28, 16, 12)  # 16 samples of overlap, from the 48th
    rows = []
    for values in ((1.0, 1.0), (0.0, 1.0)):
        windows = (torch.full((1, 64, 64), value) for value in values)
        rows.append(torch.cat([*tiling.blend(windows, tiles, 64, taper=taper)], 1)[0, 32])
    torch.testing.assert_close(rows[0], torch.ones_like(rows[0]))
    step = float(rows[1][48] - rows[1][47])
    assert (step < 0.01) == taper
    assert float(rows[1][-1]) == pytest.approx(1.0, abs=1e-6)
