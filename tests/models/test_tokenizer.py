from dataclasses import replace

import pytest
import torch

from realsrt import presets
from realsrt.model import RealSRT
from realsrt.models.quantizer import QuantizerConfig
from realsrt.models.tokenizer import VQGANConfig


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
    tokenizer.decode(tokenizer.post_quant_conv(quantized.z)).mean().backward()
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


def test_residual_tokens_depend_on_the_input():
    model, gt = presets.build("tiny"), torch.rand(1, 3, 64, 64)
    a, b = (model.tokenizer._latent(gt, model.guide(torch.rand(1, 3, 16, 16))) for _ in "ab")
    assert not torch.equal(a, b)
