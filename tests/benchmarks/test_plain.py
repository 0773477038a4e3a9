"""The plain schedule that speed is compared with computes what the package computes."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import realsrt

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from plain import upscale, written_out_attention
from tradeoffs import seam


@pytest.mark.parametrize("preset", ["tiny", "tiny_paper"])
def test_it_gives_the_packages_tokens_and_picture(preset):
    model = realsrt.presets.build(preset, 0).eval()
    model.config = replace(model.config, blend="gaussian", refine="dense")
    lq = torch.rand(3, 70, 64, generator=torch.Generator().manual_seed(0))
    image, ids = upscale(model, lq, num_steps=3)
    out = realsrt.Upscaler(model, precision="fp32").upscale(
        lq[None], steps=3, stride=32, color_fix="adain", confidence=False
    )
    assert (torch.from_numpy(out.ids[0]).flatten(1) == ids).float().mean() > 0.995
    torch.testing.assert_close(out.image[0], image, atol=2e-3, rtol=0)


def test_attention_is_put_back():
    fused = torch.nn.functional.scaled_dot_product_attention
    with written_out_attention():
        assert torch.nn.functional.scaled_dot_product_attention is not fused
    assert torch.nn.functional.scaled_dot_product_attention is fused


def test_the_seam_measure_sees_steps_at_window_borders_and_there_only():
    rng = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, 512, 512, generator=rng)
    assert seam(noise, 64) == pytest.approx(1, abs=0.15)
    stepped = noise.clone()
    stepped[..., 256:] += 0.5
    assert seam(stepped, 64) > 1.5
    moved = noise.clone()
    moved[..., 300:] += 0.5
    assert seam(moved, 64) < seam(noise, 64)
