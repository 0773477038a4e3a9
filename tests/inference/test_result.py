import numpy as np
import pytest
import torch
from PIL import Image

from realsrt.errors import ImageError
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from support.fakes import make, noise


def inputs(tmp_path):
    pixels = (noise(20, 30, 3) * 255).astype(np.uint8)
    imageio.write(tmp_path / "in.png", pixels)
    return {
        "path": tmp_path / "in.png", "picture": Picture.from_array(pixels), "array": pixels,
        "pil": Image.fromarray(pixels),
        "floats": noise(20, 30, 3), "tensor": torch.from_numpy(noise(1, 3, 20, 30)), "gray": pixels[..., 0],
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["path", "picture", "array", "pil", "floats", "tensor", "gray"])
def test_saving_and_showing_whatever_went_in(tmp_path, kind):
    out = make().upscale(inputs(tmp_path)[kind])
    notices = out.save(tmp_path / "out.png")
    assert bool(notices) == (kind in ("floats", "tensor"))  # rounded to 16 bits
    saved = imageio.read(tmp_path / "out.png").pixels
    assert saved.shape == (80, 120, 1 if kind == "gray" else 3)
    if kind == "array":
        assert (saved == out.image).all()
    line = repr(out)
    assert "\n" not in line
    assert len(line) < 120
    assert "step 2 of 2" in line or f"of {out.num_steps}" in line
    shown = out._repr_png_()
    assert shown is not None
    assert shown.startswith(b"\x89PNG")


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


def test_large_images_are_shown_small():
    shown = make().upscale(np.zeros((8, 600, 3), np.uint8))._repr_png_()
    assert shown is not None
    assert int.from_bytes(shown[16:20], "big") == 1600
