from dataclasses import replace

import pytest
import torch

from realsrt import presets
from realsrt.model import RealSRT
from realsrt.models.quantizer import QuantizerConfig
from realsrt.models.tokenizer import VQGANConfig
from support.variants import tiny_f16


def test_shapes_and_downsampling():
    config = VQGANConfig((16, 16, 16), 1, QuantizerConfig(8, 4))
    tokenizer = config.build().eval()
    image = torch.rand(2, 3, 16, 24)
    ids = tokenizer.encode(image)
    assert config.downsampling == 4
    assert ids.shape == (2, 4, 6)
    assert tokenizer.lookup(ids).shape == (2, 4, 4, 6)
    assert tokenizer.decode(tokenizer.lookup(ids)).shape == image.shape


def test_quantize_agrees_with_encode_and_carries_a_gradient_to_the_encoder():
    tokenizer = VQGANConfig((16, 16), 1, QuantizerConfig(8, 4)).build().eval()
    image = torch.rand(1, 3, 8, 8)
    quantized = tokenizer.quantize(image)
    assert torch.equal(quantized.ids, tokenizer.encode(image))
    tokenizer.decode(tokenizer.post(quantized.z)).mean().backward()
    assert tokenizer.encoder.layers[0].weight.grad.abs().sum() > 0


def test_an_untrained_conditional_tokenizer_gives_its_base():
    config = presets.get("tiny")
    model = RealSRT(replace(config, tokenizer=replace(config.tokenizer, start=0.0))).eval()
    guide = model.guide(torch.rand(1, 3, 16, 16))
    z = model.tokenizer.lookup(torch.zeros(1, 8, 8, dtype=torch.long))
    assert torch.equal(model.tokenizer.decode(z, guide), guide.up)


def test_conditional_tokens_of_the_enlargement_itself_ignore_the_target_stream():
    model = presets.build("tiny")
    guide = model.guide(torch.rand(1, 3, 16, 16))
    assert model.tokenizer.encode(guide.up, guide).shape == (1, 8, 8)
    same, other = (model.tokenizer._latent(image, guide) for image in (guide.up, torch.rand(1, 3, 64, 64)))
    assert not torch.allclose(same, other)


def test_the_conditional_tokenizer_says_what_it_needs():
    tokenizer = presets.build("tiny").tokenizer
    with pytest.raises(ValueError, match="guide"):
        tokenizer.encode(torch.rand(1, 3, 64, 64))


def _tokenizer(tokens):
    config = presets.get("tiny")
    torch.manual_seed(0)
    return RealSRT(replace(config, tokenizer=replace(config.tokenizer, tokens=tokens))).eval()


def test_what_tokens_depend_on():
    """Residual tokens change with the input; texture tokens and plain ones are the target's own."""
    gt, lq, other = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    for tokens, own in (("residual", False), ("texture", True), ("plain", True)):
        model = _tokenizer(tokens)
        a, b = (model.tokenizer._latent(gt, model.guide(x)) for x in (lq, other))
        assert torch.equal(a, b) == own


def test_texture_tokens_do_not_hold_what_survives_shrinking():
    model = _tokenizer("texture")
    guide = model.guide(torch.rand(1, 3, 16, 16))
    flat = [model.tokenizer._latent(torch.full((1, 3, 64, 64), level), guide) for level in (0.2, 0.8)]
    torch.testing.assert_close(*flat, rtol=0, atol=1e-5)
    plain = _tokenizer("plain")
    flat = [plain.tokenizer._latent(torch.full((1, 3, 64, 64), level), guide) for level in (0.2, 0.8)]
    assert (flat[0] - flat[1]).abs().max() > 1e-3


def test_plain_tokens_decode_without_the_input():
    model = _tokenizer("plain")
    ids = torch.randint(16, (1, 8, 8))
    a, b = (model.tokenizer.decode(model.tokenizer.lookup(ids), model.guide(torch.rand(1, 3, 16, 16))) for _ in "ab")
    assert torch.equal(a, b)


def test_a_coarser_grid():
    model = RealSRT(tiny_f16()).eval()
    tokenizer = model.tokenizer
    assert tokenizer.config.downsampling == 16
    guide = model.guide(torch.rand(2, 3, 16, 24))
    image = torch.rand(2, 3, 64, 96)
    ids = tokenizer.encode(image, guide)
    assert ids.shape == (2, 4, 6)
    z = tokenizer.lookup(ids)
    assert z.shape == (2, 16, 4, 6)
    assert tokenizer.decode(z, guide).shape == image.shape
    assert torch.equal(tokenizer.quantize(image, guide).ids, ids)


def test_the_finer_grid_has_no_more_parts_than_before():
    names = {name.split(".")[0] for name in presets.build("tiny").tokenizer.encoder.state_dict()}
    assert names == {"stem", "fine", "down", "coarse", "out"}
    names = {name.split(".")[0] for name in presets.build("tiny").tokenizer.decoder.state_dict()}
    assert names == {"token_blocks", "up", "join", "body", "to_half", "refine", "to_full"}
