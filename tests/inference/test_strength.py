import numpy as np
import pytest
import torch
from PIL import Image

from realsrt import Upscaler, presets
from realsrt.checkpoint import save_model
from realsrt.cli import main
from realsrt.errors import UsageError
from realsrt.inference.strength import weaken
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from support.fakes import make, noise

SIZES = [{}, {"outscale": 2.3}, {"outscale": 0.6}]


def pictures():
    rng = np.random.default_rng(0)
    for shape, dtype in [
        ((37, 50, 3), "uint8"),
        ((37, 50, 1), "uint8"),
        ((30, 41, 4), "uint16"),
        ((20, 33, 2), "uint8"),
    ]:
        yield Picture.from_array(rng.integers(0, np.iinfo(dtype).max, shape, dtype))


@pytest.mark.parametrize("more", SIZES)
@pytest.mark.parametrize("picture", list(pictures()), ids=lambda p: f"{p.pixels.shape[2]}-{p.depth}")
def test_at_once_and_afterwards_give_the_same_bytes(picture, more):
    up = make()
    whole = up.upscale(picture, **more)
    half = up.upscale(picture, strength=0.4, **more)
    later = weaken(whole, 0.4)
    assert half.image.pixels.dtype == picture.pixels.dtype
    assert (half.image.pixels == later.image.pixels).all()
    assert (half.image.pixels != whole.image.pixels).any()
    assert weaken(whole, 1.0) is whole
    rows = []
    up.upscale(picture, strength=0.4, rows=lambda first, planes: rows.append((first, planes)), **more)
    assert rows[0][0] == 0
    rgb = torch.cat([planes.rgb for _, planes in rows], 1).permute(1, 2, 0).numpy()
    alpha = None if rows[0][1].alpha is None else torch.cat([p.alpha for _, p in rows], 1)[0].numpy()
    assert (picture.with_pixels(rgb, alpha).pixels == half.image.pixels).all()


def test_none_of_it_is_the_plain_enlargement():
    array = noise(24, 31, 3)
    out = make().upscale(array, strength=0, outscale=3).image
    plain = torch.nn.functional.interpolate(
        torch.from_numpy(array).permute(2, 0, 1)[None], (72, 93), mode="bicubic", antialias=True
    )
    np.testing.assert_allclose(out, plain[0].permute(1, 2, 0).clamp(0, 1).numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["pil", "tensor", "model-alpha"])
def test_every_kind_of_input(kind):
    up = make()
    if kind == "tensor":
        tensor = torch.from_numpy(noise(2, 3, 20, 24))
        out, whole = up.upscale(tensor, strength=0.5).image, up.upscale(tensor).image
        plain = up.upscale(tensor, strength=0).image
        torch.testing.assert_close(out, (whole + plain) / 2)
    elif kind == "pil":
        image = Image.fromarray((noise(20, 24, 3) * 255).astype(np.uint8))
        assert up.upscale(image, strength=0.5).image.tobytes() != up.upscale(image).image.tobytes()
    else:
        rgba = Picture.from_array((noise(20, 24, 4) * 255).astype(np.uint8))
        whole = up.upscale(rgba, alpha="model")
        half = up.upscale(rgba, alpha="model", strength=0.5)
        assert (half.image.pixels[..., 3] == whole.image.pixels[..., 3]).all()
        assert (half.image.pixels == weaken(whole, 0.5).image.pixels).all()


def test_a_regenerated_part_is_as_strong_as_the_rest():
    up = Upscaler(presets.build("tiny", 0), "cpu")
    array = noise(40, 40, 3)
    none = up.upscale(array, strength=0)
    again = up.regenerate(none, (40, 40, 100, 100), temperature=2.0, seed=1)
    np.testing.assert_allclose(again.image, none.image, atol=1e-6)
    full = up.upscale(array)
    assert (up.regenerate(full, (40, 40, 100, 100), temperature=2.0, seed=1).image != full.image).any()


def test_out_of_range_is_refused():
    with pytest.raises(UsageError, match="strength goes from 0 to 1"):
        make().upscale(noise(8, 8, 3), strength=1.5)


def test_the_command_has_it(tmp_path):
    save_model(presets.build("tiny", 0), tmp_path / "tiny.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    imageio.write(tmp_path / "a.png", Picture.from_array(pixels))
    argv = ["upscale", str(tmp_path / "a.png"), "-g", "cpu", "--model-path", str(tmp_path / "tiny.safetensors"), "-o"]
    assert main([*argv, str(tmp_path / "all.png")]) == 0
    assert main([*argv, str(tmp_path / "half.png"), "--strength", "0.5"]) == 0
    assert main([*argv, str(tmp_path / "none.png"), "--strength", "0"]) == 0
    full, half, none = (imageio.read(tmp_path / f"{n}.png").pixels.astype(int) for n in ("all", "half", "none"))
    assert (full != none).any()
    assert np.abs(half * 2 - full - none).max() <= 2
