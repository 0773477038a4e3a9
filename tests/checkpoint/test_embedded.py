"""What the embedded weights must do, on a photograph (tests/data) degraded here."""

from pathlib import Path

import pytest
import torch

import realsrt
from realsrt.checkpoint.published import load_squeeze_features
from realsrt.degradations import PROTOCOLS, degrade
from realsrt.evaluation.metrics import psnr_y
from realsrt.imaging.resize import resize, upscale_bicubic
from realsrt.io import image as imageio
from realsrt.models.features import squeeze_distance
from realsrt.models.trunk import choose

NAME = "small"


@pytest.fixture(scope="module")
def model():
    return realsrt.load_model(NAME)


@pytest.fixture(scope="module")
def pair():
    """(lq, gt) with the light protocol, 64 and 256 px."""
    rgb = imageio.read(Path(__file__).parents[1] / "data" / "nyc.webp").rgb_float()
    gt = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()
    return degrade(gt, config=PROTOCOLS["light"], rng=torch.Generator().manual_seed(0)), gt


def test_it_is_the_preset_and_says_how_it_was_made(model):
    assert model.config == realsrt.presets.get(NAME)
    stages = [stage["stage"] for stage in model.info.provenance["stages"]]
    assert set(stages) == {"tokenizer", "generator", "critic", "control"}
    assert stages[-1] in ("control", "critic")
    assert sum(p.numel() for p in model.parameters()) * 2 < 60e6


def test_more_than_half_of_the_codes_are_in_use(model, pair):
    used = model.tokenizer.quantizer.cluster_size_ema > 0.5
    assert used.float().mean() > 0.5
    lq, gt = pair
    with torch.inference_mode():
        assert model.tokenizer.encode(gt, model.guide(lq)).unique().numel() > 50


def test_tokens_of_the_target_carry_what_the_input_lacks(model, pair):
    lq, gt = pair
    with torch.inference_mode():
        guide = model.guide(lq)
        ids = model.tokenizer.encode(gt, guide).flatten(1)
        shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
        own, other = (model.decode(i, guide, fidelity=0.0).clamp(0, 1) for i in (ids, shuffled))
    assert psnr_y(own, gt) > psnr_y(guide.up.clamp(0, 1), gt) + 0.1
    assert psnr_y(own, gt) > psnr_y(other, gt) + 0.02


def test_the_critic_believes_right_tokens_more_than_wrong_ones(model):
    """Of those the generator predicts, which is what it was trained on and is asked about."""
    rgb = imageio.read(Path(__file__).parents[2] / "examples" / "sign.jpg").rgb_float()[:256, :256]
    gt = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()
    lq = degrade(gt, config=PROTOCOLS["light"], rng=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out = model.super_resolve(lq, num_steps=1)
        right = out.ids == model.tokenizer.encode(gt, model.guide(lq))
    assert 5 <= right.sum() < 900
    order = (out.confidence[right][:, None] > out.confidence[~right][None]).float().mean()
    assert order > 0.6


def test_the_critic_believes_planted_corruptions_less_than_the_generators_tokens(model, pair):
    """Among the generator's tokens, which is what it is asked about; of the target's own it knows no better."""
    lq, _ = pair
    rng = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        guide = model.guide(lq)
        ids = next(iter(model.iterate(guide, num_steps=1))).ids
        planted = torch.rand(ids.shape, generator=rng) < 0.2
        corrupt = torch.where(planted, torch.randint(512, ids.shape, generator=rng), ids)
        confidence = model.critic(corrupt, model.condition(model.critic.backbone, guide))
    real, wrong = confidence[~planted], confidence[planted]
    # the share of (generated, corrupt) pairs that are in the right order; chance is a half
    assert (real[:, None] > wrong[None]).float().mean() > 0.65


def test_the_picture_is_no_further_from_the_target_than_a_decibel_below_bicubic(model, pair):
    lq, gt = pair
    image = realsrt.Upscaler(model).upscale(lq).image.clamp(0, 1)
    assert image.shape == gt.shape
    assert psnr_y(image, gt) > psnr_y(upscale_bicubic(lq, 4).clamp(0, 1), gt) - 1
    gain = image.diff(dim=-1).abs().mean() / upscale_bicubic(lq, 4).diff(dim=-1).abs().mean()
    assert gain > 1.0  # and it is sharper, not blurred


def test_colours_are_kept(model, pair):
    """Trunk and decoder move the mean; it is put back."""
    lq, _ = pair
    up = realsrt.Upscaler(model)
    for steps in (0, 2):
        moved, kept = (up.upscale(lq, steps=steps, color_fix=fix).image.mean((2, 3)) for fix in ("none", None))
        gone, left = ((mean - lq.mean((2, 3))).abs().max() for mean in (moved, kept))
        assert left < min(0.2 / 255, gone / 2)


def test_the_base_picture_is_nearer_to_the_target_in_features_than_bicubic(model, pair):
    features = load_squeeze_features(Path(__file__).parents[2] / "recipes" / "features" / "squeezenet1_1.safetensors")
    lq, gt = pair
    base = realsrt.Upscaler(model).upscale(lq, steps=0).image.clamp(0, 1)
    plain = upscale_bicubic(lq, 4).clamp(0, 1)
    assert squeeze_distance(features, base, gt) < 0.9 * squeeze_distance(features, plain, gt)


def test_a_noisy_input_is_denoised_more_than_a_clean_one(model, pair):
    """By the compact networks; the deep one is taken as a whole."""
    lq, gt = pair
    noisy = (lq + 0.08 * torch.randn(lq.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    clean = resize(gt, (64, 64), "bicubic", antialias=True)
    strengths = [choose(model.trunk.costs(image)[0], deep=False).denoise for image in (clean, noisy)]
    assert strengths[0] < strengths[1]
