import pytest
import torch

import realsrt
from realsrt.models.passes import CachedDecoder

PRESETS = ("tiny", "small")  # a condition read by cross-attention at absolute positions; added, at relative ones


@pytest.fixture(scope="module", params=PRESETS)
def model(request):
    return realsrt.presets.build(request.param, 0).eval()


@pytest.fixture
def lq(model):
    """As small as positions allow."""
    side = 32 if model.config.generator.position == "rope" else model.config.window
    return torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def passes_of(model, lq, **options):
    guide = model.guide(lq)
    return CachedDecoder(
        model.generator, model.critic, lambda backbone: model.condition(backbone, guide), **options
    ), guide


def blank_of(model, guide):
    side = guide.lq.shape[-1] // model.config.fold
    return torch.full((len(guide.lq), side * side), model.config.generator.codes)


def random_ids(model, guide):
    blank = blank_of(model, guide)
    return torch.randint(model.config.generator.codes, blank.shape, generator=torch.Generator().manual_seed(3))


def random_mask(ids_BN, count, seed=2):
    order = torch.rand(ids_BN.shape, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return order < count


@torch.inference_mode()
def filled(model, passes, guide):
    blank = blank_of(model, guide)
    ids = passes.predict(blank, torch.ones_like(blank, dtype=torch.bool)).argmax(-1)
    return ids, passes.score(ids)


@torch.inference_mode()
def test_dense_passes_are_the_heads_own(model, lq):
    passes, guide = passes_of(model, lq)
    ids, confidence = filled(model, passes, guide)
    mask = random_mask(ids, 40)
    expected = model.generator(ids, model.condition(model.generator.backbone, guide), mask)
    assert torch.equal(passes.predict(ids, mask), expected)
    assert torch.equal(confidence, model.critic(ids, model.condition(model.critic.backbone, guide)))


@torch.inference_mode()
def test_sparse_passes_repeat_what_nothing_has_changed(model, lq):
    """Where ids and mask are those of the call before, keys and values of the others are no longer old."""
    passes, guide = passes_of(model, lq, sparse=True)
    ids = random_ids(model, guide)
    mask = random_mask(ids, 40)
    first = passes.predict(ids, mask)
    torch.testing.assert_close(passes.predict(ids, mask)[mask], first[mask], atol=1e-4, rtol=1e-4)
    confidence = passes.score(ids)
    torch.testing.assert_close(passes.score(ids), confidence, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_sparse_passes_see_the_tokens_that_masks_became(model, lq):
    """As dense ones would, nearly: nearer to them than to what was predicted before there were tokens to see."""
    passes, guide = passes_of(model, lq, sparse=True)
    ids, _ = filled(model, passes, guide)
    ids = random_ids(model, guide)  # tokens that surprise
    mask = random_mask(ids, 40)
    condition = model.condition(model.generator.backbone, guide)
    blind = model.generator(blank_of(model, guide), condition, torch.ones_like(mask))[mask]
    dense = model.generator(ids, condition, mask)[mask]
    sparse = passes.predict(ids, mask)[mask]
    assert (sparse - dense).norm() < 0.85 * (blind - dense).norm()


@torch.inference_mode()
def test_sparse_passes_compute_open_positions_only(model, lq):
    passes, guide = passes_of(model, lq, sparse=True)
    ids, confidence = filled(model, passes, guide)
    mask = random_mask(ids, 40)
    seen = []
    hooks = [
        head.backbone.blocks[0].feed_forward.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
        for head in (model.generator, model.critic)
    ]
    passes.predict(ids, mask)
    changed = torch.where(mask, (ids + 1) % model.config.generator.codes, ids)
    after = passes.score(changed)
    for hook in hooks:
        hook.remove()
    assert seen == [40, 40]
    assert torch.equal(after[~mask], confidence[~mask])
    assert (after[mask] != confidence[mask]).any()


@torch.inference_mode()
@pytest.mark.parametrize("sparse", [False, True])
def test_windows_that_left_are_not_computed_and_the_others_are_as_if_alone(model, lq, sparse):
    passes, guide = passes_of(model, lq, sparse=sparse, may_leave=True)
    ids, confidence = filled(model, passes, guide)
    masks = [random_mask(ids, 40, seed) for seed in (2, 3)]
    masks[0][1] = False
    masks[1][:2] = False
    sizes = []
    hook = model.generator.backbone.blocks[0].register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    together = []
    for mask in masks:
        logits = passes.predict(ids, mask)
        ids = torch.where(mask, logits.argmax(-1), ids)
        together.append((logits, passes.score(ids)))
    hook.remove()
    assert sizes == [2, 1]
    assert torch.equal(together[1][1][:2], torch.stack([together[0][1][0], confidence[1]]))

    alone, guide = passes_of(model, lq[2:], sparse=sparse)
    ids, _ = filled(model, alone, guide)
    for mask, (logits, score) in zip(masks, together, strict=True):
        own = alone.predict(ids, mask[2:])
        ids = torch.where(mask[2:], own.argmax(-1), ids)
        torch.testing.assert_close(logits[2:][mask[2:]], own[mask[2:]], atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(score[2:], alone.score(ids), atol=2e-3, rtol=1e-3)
