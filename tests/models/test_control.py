import torch

from realsrt import presets


def test_control_starts_as_nothing_and_fidelity_scales_it():
    for name in ("tiny", "tiny_paper"):
        model = presets.build(name)
        side = model.config.window
        with torch.inference_mode():
            guide = model.guide(torch.rand(1, 3, side, side))
            ids = torch.randint(16, (1, (side // 2) ** 2))
            plain = model.decode(ids, guide, fidelity=0.0)
            torch.testing.assert_close(model.decode(ids, guide, fidelity=1.0), plain)
            model.control.zero_out.weight.normal_()
            z = model.tokenizer.lookup(model.grid(ids, guide))
            residual = model.control(z, guide)
            assert residual.shape == z.shape
            half = model.tokenizer.decode(z + 0.5 * residual, guide)
            torch.testing.assert_close(model.decode(ids, guide, fidelity=0.5), half)
            assert (half - plain).abs().max() > 1e-4


def test_control_reads_the_low_quality_input():
    for name in ("tiny", "tiny_paper"):
        model = presets.build(name)
        model.control.zero_out.weight.data.normal_()
        side = model.config.window
        with torch.inference_mode():
            z = torch.zeros(1, 16, side // 2, side // 2)
            a, b = (model.control(z, model.guide(torch.rand(1, 3, side, side))) for _ in range(2))
        assert (a - b).abs().max() > 1e-3


def test_fine_control_corrects_the_features_the_decoder_reads():
    model = presets.build("tiny")
    side = model.config.window
    with torch.inference_mode():
        guide = model.guide(torch.rand(1, 3, side, side))
        z = torch.zeros(1, 16, side // 2, side // 2)
        model.control.fine[-1].weight.normal_(0, 0.3)
        _, steered = model.control.steer(z, guide, 0.5)
        correction = model.control.fine(guide.features)
        torch.testing.assert_close(steered.features, guide.features + 0.5 * correction)
        assert float(correction.abs().max()) > 1e-3
        plain = model.tokenizer.decode(z, guide)
        assert (model.decode_latent(z, guide, 1.0) - plain).abs().max() > 1e-4
        assert torch.equal(model.decode_latent(z, guide, 0.0), plain)
