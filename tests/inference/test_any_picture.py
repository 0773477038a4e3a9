"""Properties of whole pictures, by hypothesis: files of any kind through the pipeline and back into files.

The model is a stub (bicubic), which is indifferent to flips; what is tested is everything around it.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realsrt.imaging import tiling
from realsrt.inference.upscaler import Upscaler
from realsrt.io import image as imageio
from realsrt.io.formats import FORMATS
from realsrt.io.picture import Picture
from support.fakes import Fake

DTYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}
WRITABLE = [f for f in FORMATS if f.name in imageio.supported_formats()["write"]]
quick = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def picture(height: int, width: int, bands: int, depth: int, seed: int) -> Picture:
    values = np.random.default_rng(seed).random((height, width, bands), np.float32)
    peak = 1 if depth == 32 else 2**depth - 1
    return Picture.from_array((values * peak).astype(DTYPES[depth]))


def bicubic() -> Upscaler:
    class Bicubic(Fake):
        def decode(self, ids, guide, *, fidelity):
            return F.interpolate(guide, scale_factor=4, mode="bicubic")

    return Upscaler(Bicubic(), "cpu", "fp32")


@pytest.mark.parametrize("format", WRITABLE, ids=lambda f: f.name)
@pytest.mark.slow
@settings(quick, max_examples=40)
@given(data=st.data())
def test_size_depth_and_bands(tmp_path, format, data):
    width, height = data.draw(st.integers(1, 40), "width"), data.draw(st.integers(1, 40), "height")
    bands = data.draw(st.sampled_from([1, 2, 3, 4] if format.alpha else [1, 3]), "bands")
    depth = data.draw(st.sampled_from([d for d in format.depths if d in DTYPES]), "depth")
    source, target = (tmp_path / f"{name}{format.suffixes[0]}" for name in ("in", "out"))
    imageio.write(source, picture(height, width, bands, depth, width * 41 + height))
    read = imageio.read(source)
    assert (read.width, read.height, read.depth) == (width, height, depth)
    outscale = data.draw(st.sampled_from([4.0, 1.0, 2.5]), "outscale")
    result = bicubic().upscale(read, steps=1, outscale=outscale).image
    imageio.write(target, result)
    back = imageio.read(target)
    assert (back.width, back.height) == (max(1, round(width * outscale)), max(1, round(height * outscale)))
    assert back.depth == depth
    grays_as_colour = format.name in ("WebP", "AVIF")  # they know no gray
    assert back.pixels.shape[2] == (bands + 2 if grays_as_colour and bands < 3 else bands)


@quick
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([4, 8, 12, 16]), st.floats(0, 1, width=32))
def test_constant_windows_blend_to_a_constant(height, width, stride, value):
    tiles = tiling.plan(height, width, 16, stride)
    out = torch.cat([*tiling.blend((torch.full((3, 32, 32), value) for _ in range(len(tiles))), tiles, 32)], 1)
    assert out.shape == (3, 2 * height, 2 * width)
    assert float((out - value).abs().max()) <= 1e-6


@settings(quick, max_examples=10)
@given(st.integers(0, 3), st.integers(0, 3), st.sampled_from([(0,), (1,), (0, 1)]))
def test_flips_commute_where_the_border_is_even(rows, columns, flip):
    """The border's odd pixel comes after the picture, so only even borders are symmetrical: sides of window + n
    strides, or any whose remainder is even."""
    before = picture(16 + 2 * rows, 16 + 2 * columns, 3, 32, rows * 4 + columns).pixels
    out = bicubic().upscale(before, steps=1).image
    flipped = bicubic().upscale(np.ascontiguousarray(np.flip(before, flip)), steps=1).image
    np.testing.assert_allclose(np.flip(out, flip), flipped, atol=2e-6)


def test_an_odd_border_is_why_other_flips_do_not():
    before = picture(17, 16, 3, 32, 0).pixels
    out = bicubic().upscale(before, steps=1).image
    flipped = bicubic().upscale(np.ascontiguousarray(before[::-1]), steps=1).image
    difference = np.abs(out[::-1] - flipped)
    assert difference.max() > 1e-4
    assert tiling.plan(17, 16, 16, 8).bottom - tiling.plan(17, 16, 16, 8).top == 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_ramps_keep_their_levels(tmp_path, suffix):
    ramp = np.linspace(20_000, 23_000, 24 * 32).astype(np.uint16).reshape(24, 32, 1)
    imageio.write(tmp_path / f"ramp.{suffix}", Picture.from_array(ramp))
    result = bicubic().upscale(imageio.read(tmp_path / f"ramp.{suffix}"), steps=1).image
    imageio.write(tmp_path / f"out.{suffix}", result)
    out = imageio.read(tmp_path / f"out.{suffix}").pixels
    assert len(np.unique(out)) > 1024  # the ramp spans 12 levels of 8 bit
    assert np.abs(out.astype(int)[::4, ::4].mean() - ramp.mean()) < 150


@pytest.mark.slow
def test_16_bit_ramps_keep_their_levels_through_the_shipped_model():
    ramp = np.broadcast_to(np.linspace(20_000, 40_000, 48).astype(np.uint16)[None, :, None], (16, 48, 3))
    out = Upscaler.from_pretrained("small", device="cpu").upscale(np.ascontiguousarray(ramp)).image
    assert out.dtype == np.uint16
    assert len(np.unique(out)) > 256
