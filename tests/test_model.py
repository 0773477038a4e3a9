import importlib.util
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

from realsrt import presets
from realsrt.model import RealSRT

ROOT = Path(__file__).parents[1]


def window_flops(model, **options):
    spec = importlib.util.spec_from_file_location("flops", ROOT / "benchmarks" / "flops.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.window_flops(model, **options)


def test_base_has_the_papers_parameters():
    with torch.device("meta"):
        model = RealSRT(presets.base())

    def millions(module):
        frozen = [b for n, b in module.named_buffers() if not n.endswith("_ema")]
        return sum(t.numel() for t in [*module.parameters(), *frozen]) / 1e6

    assert millions(model) == pytest.approx(185.1, abs=0.05)
    assert millions(model.tokenizer) == pytest.approx(20.1, abs=0.05)
    assert millions(model.generator) == pytest.approx(81.0, abs=0.05)
    assert millions(model.critic) == pytest.approx(63.9, abs=0.05)
    assert millions(model.control) == pytest.approx(20.1, abs=0.05)


def test_base_needs_a_fifth_fewer_flops_than_the_authors_code():
    with FakeTensorMode():
        count = window_flops(presets.build("base"), num_steps=4)["total"]
    assert 1500 < count <= 1760


def test_small_fits_its_flop_budget():
    model = presets.build("small")
    before = model.trunk.estimator.net[-1].weight.clone()
    assert 5 < window_flops(model, want_confidence=True)["total"] <= 120
    assert torch.equal(model.trunk.estimator.net[-1].weight, before)  # counting leaves the model as it is


def test_a_guide_without_ids_is_the_same_otherwise():
    model, lq = presets.build("tiny_paper"), torch.rand(1, 3, 64, 64)
    with_ids, without = model.guide(lq), model.guide(lq, want_ids=False)
    assert with_ids.ids.shape == (1, 1024)
    assert without.ids is None
    assert torch.equal(without.up, with_ids.up)


@pytest.mark.parametrize("name", ["tiny", "tiny_paper"])
def test_super_resolve_gives_the_contracts_shapes_and_is_deterministic(name):
    model = presets.build(name)
    lq = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        out, again = model.super_resolve(lq), model.super_resolve(lq)
    assert out.image.shape == (2, 3, 256, 256)
    assert out.ids.shape == out.confidence.shape == (2, 32, 32)
    assert [int(s.mask[0].sum()) for s in out.steps] == [512, 299, 137, 0]
    assert 0 <= float(out.confidence.min()) <= float(out.confidence.max()) <= 1
    torch.testing.assert_close(out.image, again.image, rtol=0, atol=0)
    assert torch.equal(out.steps[-1].ids, out.ids.flatten(1))


@pytest.mark.parametrize("name", ["tiny", "tiny_paper"])
def test_without_the_last_confidence_the_picture_is_the_same(name):
    model = presets.build(name)
    lq = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        with_it, without = model.super_resolve(lq), model.super_resolve(lq, want_confidence=False)
    assert without.confidence is None
    torch.testing.assert_close(with_it.image, without.image, rtol=0, atol=0)


def test_confident_tokens_survive_and_the_least_confident_are_redone():
    model = presets.build("tiny")
    with torch.inference_mode():
        first, second, *_ = model.super_resolve(torch.rand(1, 3, 64, 64)).steps
    assert torch.equal(first.ids[~first.mask], second.ids[~first.mask])
    assert first.confidence[first.mask].max() <= first.confidence[~first.mask].min()


def test_windows_of_other_sizes_where_positions_are_relative():
    model = presets.build("tiny")
    with torch.inference_mode():
        assert model.super_resolve(torch.rand(1, 3, 32, 32)).image.shape == (1, 3, 128, 128)


def test_presets_are_reproducible_by_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, c = presets.build("tiny", 1), presets.build("tiny", 1), presets.build("tiny", 2)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(a.trunk.mild.body[0].weight, b.trunk.mild.body[0].weight)
    assert not torch.equal(a.trunk.mild.body[0].weight, c.trunk.mild.body[0].weight)
