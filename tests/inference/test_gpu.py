"""What only a GPU can show of whole pictures: the CPU's result, bf16 close to float32, a batch as large as fits."""

import numpy as np
import pytest
import torch

from realsrt import presets
from realsrt.checkpoint import load_model
from realsrt.inference.upscaler import Upscaler

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def picture(height, width):
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0].movedim(0, 2).numpy()


def psnr(one, other):
    return -10 * np.log10(np.square(np.float64(one) - other).mean())


@pytest.mark.parametrize("name", ["small", "base"])
def test_float32_is_the_cpus(name):
    lq = picture(80, 80)
    build = lambda: load_model(name) if name == "small" else presets.build(name, 0)  # noqa: E731
    cpu, gpu = (Upscaler(build(), device, "fp32").upscale(lq, steps=2) for device in ("cpu", "cuda"))
    assert (cpu.ids == gpu.ids).mean() > 0.999
    assert psnr(cpu.image, gpu.image) > 60


@pytest.mark.parametrize("name", ["small", "base"])
def test_bf16_is_close(name):
    lq = picture(200, 200)
    build = lambda: load_model(name) if name == "small" else presets.build(name, 0)  # noqa: E731
    full, half = (Upscaler(build(), "cuda", precision).upscale(lq) for precision in ("fp32", "bf16"))
    assert (full.ids == half.ids).mean() >= 0.98
    assert psnr(full.image, half.image) >= 45


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_is_the_same_picture(precision):
    lq = picture(200, 200)
    plain, compiled = (Upscaler(load_model("small"), "cuda", precision, compile=on).upscale(lq) for on in (False, True))
    assert (plain.ids == compiled.ids).mean() >= 0.98
    assert psnr(plain.image, compiled.image) >= 45


def test_the_batch_grows_to_what_fits():
    up = Upscaler(load_model("small"), "cuda", "bf16")
    up.upscale(picture(512, 512))
    assert up._runner.batch_size() > 16
    assert up._runner.batch_size(4) == 4
    list(up.upscale_many([picture(64, 64)] * 40))
