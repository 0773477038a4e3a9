"""Models with tokens of more than a cell of the confidence map: `tiny_f16`; and headers of former versions."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from realsrt import presets
from realsrt.checkpoint import load_model, save_model
from realsrt.config import from_dict, to_dict
from realsrt.errors import CheckpointError
from realsrt.inference.upscaler import Upscaler
from realsrt.model import RealSRT
from support.variants import tiny_f16


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return RealSRT(tiny_f16()).eval()


def test_super_resolve_gives_the_contracts_shapes(model):
    with torch.inference_mode():
        out = model.super_resolve(torch.rand(2, 3, 64, 64))
    assert out.image.shape == (2, 3, 256, 256)
    assert out.ids.shape == (2, 16, 16)
    assert out.confidence.shape == (2, 32, 32)
    assert torch.equal(out.steps[-1].ids, out.ids.flatten(1))


def test_the_confidence_map_has_cells_of_8_pixels(model):
    guide = model.guide(torch.rand(1, 3, 8, 12))
    confidence = torch.rand(1, 6)
    found = model.confidence_map(confidence, guide)
    assert found.shape == (1, 4, 6)
    assert torch.equal(found[0, 2:, 4:], confidence[0, 5].expand(2, 2))
    assert torch.equal(found[0, :2, 2:4], confidence[0, 1].expand(2, 2))


def test_on_the_finer_grid_the_confidence_map_is_the_tokens_own():
    model = presets.build("tiny")
    guide = model.guide(torch.rand(1, 3, 8, 12))
    confidence = torch.rand(1, 24)
    assert torch.equal(model.confidence_map(confidence, guide), model.grid(confidence, guide))


@pytest.mark.parametrize(("height", "width"), [(20, 70), (5, 3), (33, 64)])
def test_whole_pictures(model, height, width):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    up = Upscaler(model, "cpu")
    out = up.upscale(picture)
    assert out.image.shape == (4 * height, 4 * width, 3)
    assert out.confidence.shape == (-(-height // 2), -(-width // 2))
    assert out.ids.shape[1:] == (16, 16)
    *_, last = up.stream(picture)
    assert last.image.tobytes() == out.image.tobytes()
    assert np.array_equal(last.confidence, out.confidence)


def test_weights_survive_a_file(tmp_path):
    model = RealSRT(tiny_f16()).eval()
    save_model(model, tmp_path / "m.safetensors", dtype=torch.float32)
    again = load_model(tmp_path / "m.safetensors")
    assert again.config == model.config
    lq = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again.super_resolve(lq).image, model.super_resolve(lq).image)


@pytest.mark.parametrize("name", ["tiny", "tiny_paper", "small"])
def test_headers_of_former_versions_mean_the_same(name):
    data = to_dict(presets.get(name))
    tables = data["tokenizer"]["quantizer"], data["generator"], data["critic"]
    for table in tables:
        table["groups"] = 1
    assert from_dict(json.loads(json.dumps(data))) == presets.get(name)
    tables[1]["groups"] = 4
    with pytest.raises(CheckpointError, match=r"config.generator has entries this version does not know: groups"):
        from_dict(data)


def test_a_grid_that_does_not_exist_is_refused():
    data = to_dict(tiny_f16())
    data["tokenizer"]["token_fold"] = 3
    with pytest.raises(CheckpointError, match="token_fold is 3"):
        from_dict(data)


def test_tokens_of_the_enlargement_as_the_condition():
    config = tiny_f16()
    generator = replace(config.generator, condition="tokens", condition_dim=256, injection="cross", condition_depth=1)
    model = RealSRT(replace(config, generator=generator)).eval()
    with torch.inference_mode():
        out = model.super_resolve(torch.rand(1, 3, 32, 32))
    assert out.ids.shape == (1, 8, 8)
