import numpy as np
import pytest
import pyvips
import torch
from PIL import Image

from realsrt import presets
from realsrt.errors import ImageError
from realsrt.inference.upscaler import Upscaler
from realsrt.io import image as imageio
from realsrt.io.metadata.colour import of_code
from realsrt.io.picture import Picture
from realsrt.models.trunk import CHOICES, Way, choose
from support.fakes import make, noise


def inputs(tmp_path):
    pixels = (noise(20, 30, 3) * 255).astype(np.uint8)
    imageio.write(tmp_path / "in.png", pixels)
    return {
        "path": tmp_path / "in.png", "picture": Picture.from_array(pixels), "array": pixels,
        "pil": Image.fromarray(pixels),
        "floats": noise(20, 30, 3), "tensor": torch.from_numpy(noise(1, 3, 20, 30)), "gray": pixels[..., 0],
        "bfloat16": torch.from_numpy(noise(1, 3, 20, 30)).bfloat16(),
        "big-endian": (pixels * np.uint16(257)).astype(">u2"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["path", "picture", "array", "pil", "floats", "tensor", "gray", "bfloat16", "big-endian"]
)
def test_saving_and_showing_whatever_went_in(tmp_path, kind):
    out = make().upscale(inputs(tmp_path)[kind])
    notices = out.save(tmp_path / "out.png")
    assert bool(notices) == (kind in ("floats", "tensor", "bfloat16"))  # rounded to 16 bits
    saved = imageio.read(tmp_path / "out.png").pixels
    assert saved.shape == (80, 120, 1 if kind == "gray" else 3)
    if kind in ("array", "big-endian"):
        assert (saved == out.image).all()
    line = repr(out)
    assert "\n" not in line
    assert len(line) < 120
    assert "step 2 of 2" in line or f"of {out.num_steps}" in line
    shown = out._repr_png_()
    assert shown is not None
    assert shown.startswith(b"\x89PNG")


def test_the_colours_of_a_pil_image_are_saved_and_shown(tmp_path):
    """A red of Display P3: written with its profile, shown as it looks in sRGB."""
    image = Image.fromarray(np.full((20, 30, 3), (200, 80, 60), np.uint8))
    image.info["icc_profile"] = of_code(12, 13).icc
    out = make().upscale(image, steps=1)
    out.save(tmp_path / "out.png")
    saved = imageio.read(tmp_path / "out.png")
    assert saved.icc == image.info["icc_profile"]
    shown = pyvips.Image.new_from_buffer(out._repr_png_(), "").numpy()
    plain = pyvips.Image.new_from_file(str(tmp_path / "out.png")).icc_transform("srgb", embedded=True).numpy()
    assert np.abs(shown.astype(int) - plain).max() <= 1
    assert np.abs(shown.astype(int) - saved.pixels).max() > 10


def test_what_cannot_be_saved_says_so(tmp_path):
    batch = make().upscale(torch.from_numpy(noise(2, 3, 20, 20)))
    with pytest.raises(ImageError, match="batch of 2"):
        batch.save(tmp_path / "out.png")
    assert batch._repr_png_() is None
    with pytest.raises(ImageError, match="is not a picture: give"):
        imageio.write(tmp_path / "out.png", np.zeros((3, 4, 5, 6), np.uint8))
    rows = make().upscale(noise(20, 20, 3), rows=lambda first, planes: None)
    assert "rows given away" in repr(rows)
    assert not (tmp_path / "out.png").exists()


def test_a_result_tells_how_the_trunk_restored_it():
    up, pixels = Upscaler(presets.build("tiny", 0), "cpu"), (noise(20, 30, 3) * 255).astype(np.uint8)
    trunk = up.model.trunk
    with torch.no_grad():
        trunk.estimator.net[-1].bias.unflatten(0, CHOICES)[Way.REDUCED] -= 100
    own = choose(trunk.costs(torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None])[0])
    out = up.upscale(pixels)
    assert out.restored == (("reduced", own.denoise, pytest.approx(own.share, abs=1e-4)),)
    assert up.upscale(pixels, steps=0, denoise=0.25).restored[0][:2] == ("reduced", 0.25)
    others = [*up.stream(pixels), *up.upscale(pixels, keep_steps=True).steps, up.regenerate(out, (0, 0, 8, 8))]
    others.append(up.upscale(pixels, rows=lambda first, planes: None))
    assert {other.restored for other in others} == {out.restored}
    assert make().upscale(pixels).restored == ()


def test_large_images_are_shown_small():
    shown = make().upscale(np.zeros((8, 600, 3), np.uint8))._repr_png_()
    assert shown is not None
    assert int.from_bytes(shown[16:20], "big") == 1600
