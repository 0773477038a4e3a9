"""Models with several codes a position: ``small_f16`` and its tiny form."""

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
    assert out.ids.shape == (2, 16, 16, 4)
    assert out.confidence.shape == (2, 32, 32)
    assert [int(s.mask[0].sum()) for s in out.steps] == [512, 299, 137, 0]
    assert torch.equal(out.steps[-1].ids, out.ids.flatten(1))


def test_a_row_of_tokens_is_in_raster_order_with_the_group_fastest(model):
    guide = model.guide(torch.rand(1, 3, 8, 12))
    grid = model.grid(torch.arange(24)[None], guide)
    assert grid.shape == (1, 2, 3, 4)
    assert grid[0, 1, 2].tolist() == [20, 21, 22, 23]
    ids = model.tokenizer.encode(torch.rand(1, 3, 32, 48), guide)
    assert torch.equal(model.grid(ids.flatten(1), guide), ids)


def test_the_confidence_map_is_the_mean_over_groups_on_cells_of_8_pixels(model):
    guide = model.guide(torch.rand(1, 3, 8, 12))
    confidence = torch.rand(1, 24)
    found = model.confidence_map(confidence, guide)
    assert found.shape == (1, 4, 6)
    torch.testing.assert_close(found[0, 2:, 4:], confidence[0, 20:].mean().expand(2, 2))
    torch.testing.assert_close(found[0, :2, 2:4], confidence[0, 4:8].mean().expand(2, 2))


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
    assert out.ids.shape[1:] == (16, 16, 4)
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
def test_headers_from_before_groups_mean_one_code_a_position(name):
    data = to_dict(presets.get(name))
    for table, key in ((data["tokenizer"]["quantizer"], "groups"), (data["generator"], "groups")):
        del table[key]
    del data["critic"]["groups"]
    data["tokenizer"].pop("token_fold", None)
    assert from_dict(json.loads(json.dumps(data))) == presets.get(name)


def test_a_grid_that_does_not_exist_is_refused():
    data = to_dict(tiny_f16())
    data["tokenizer"]["token_fold"] = 3
    with pytest.raises(CheckpointError, match="token_fold is 3"):
        from_dict(data)


def test_tokens_of_the_enlargement_as_the_condition():
    config = tiny_f16(groups=2)
    generator = replace(config.generator, condition="tokens", injection="cross", condition_depth=1)
    model = RealSRT(replace(config, generator=generator)).eval()
    with torch.inference_mode():
        out = model.super_resolve(torch.rand(1, 3, 32, 32))
    assert out.ids.shape == (1, 8, 8, 2)
