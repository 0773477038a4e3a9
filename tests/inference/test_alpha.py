import numpy as np
import pytest
import torch
from PIL import Image

from realsrt.errors import UsageError
from realsrt.imaging.resize import Lanczos
from realsrt.inference import alpha
from realsrt.inference.adapters import Planes
from realsrt.inference.upscaler import Upscaler
from support.fakes import Fake, make, noise


def test_lanczos_is_pillows_where_nothing_rings():
    plane = torch.from_numpy(np.linspace(0.1, 0.9, 20 * 30, dtype=np.float32).reshape(1, 20, 30))
    for hw in ((80, 120), (7, 11), (33, 64)):
        ours = Lanczos(plane, hw).rows(0, hw[0])
        theirs = np.asarray(Image.fromarray(plane[0].numpy()).resize(hw[::-1], Image.Resampling.LANCZOS))
        assert ours.shape == (1, *hw)
        inner = np.s_[8:-8, 16:-16] if min(hw) > 30 else np.s_[2:-2, 2:-2]
        np.testing.assert_allclose(ours[0].numpy()[inner], theirs[inner], atol=2e-3)


def test_lanczos_keeps_plain_areas_to_the_last_bit():
    plane = torch.ones(1, 12, 20)
    plane[..., 10:] = 0
    out = Lanczos(plane, (48, 80)).rows(0, 48)
    assert (out[..., :36] == 1).all()
    assert (out[..., 44:] == 0).all()
    assert ((out[..., 36:44] > 0) & (out[..., 36:44] < 1)).any()


def test_the_model_makes_alpha_when_asked():
    picture = noise(20, 24, 4)
    plain, made = (make().upscale(picture, alpha=how, steps=1).image for how in ("lanczos", "model"))
    np.testing.assert_array_equal(plain[..., :3], made[..., :3])
    as_gray = make().upscale(picture[..., 3], steps=1).image
    np.testing.assert_allclose(made[..., 3], as_gray, atol=1e-6)
    assert np.abs(plain[..., 3] - made[..., 3]).max() > 0.01


@pytest.mark.parametrize("how", ["lanczos", "model"])
def test_stream_and_progress_agree_with_upscale(how):
    seen = []
    picture = noise(20, 24, 4)
    whole = make().upscale(picture, alpha=how, on_progress=lambda *done: seen.append(done))
    assert seen[-1][0] == seen[-1][1]
    *_, last = make().stream(picture, alpha=how)
    np.testing.assert_array_equal(whole.image, last.image)
    assert whole.ids.shape == make().upscale(picture[..., :3]).ids.shape


def test_a_restless_model_leaves_opaque_and_clear_alone():
    class Restless(Fake):
        def decode(self, ids, guide, *, fidelity):
            picture = super().decode(ids, guide, fidelity=fidelity)
            return picture * 0.9 + 0.05

    picture = np.ones((32, 40, 4), np.float32)
    picture[:, 20:, 3] = 0
    out = Upscaler(Restless()).upscale(picture, alpha="model", steps=1).image[..., 3]
    assert (out[:, :70] == 1).all()
    assert (out[:, 90:] == 0).all()
    assert not np.isin(out[:, 76:84], (0, 1)).all()


def test_plain_alpha_costs_the_model_nothing():
    picture = noise(20, 24, 4)
    picture[..., 3] = 1
    up = make()
    out = up.upscale(picture, alpha="model", steps=1).image
    assert (out[..., 3] == 1).all()
    opaque = make()
    opaque.upscale(picture[..., :3], steps=1)
    assert up.model.batches == opaque.model.batches


def test_tensors_keep_their_own_alpha():
    batch = torch.from_numpy(noise(2, 4, 16, 20))
    together = make().upscale(batch, alpha="model", steps=1).image
    for index in range(2):
        alone = make().upscale(batch[index : index + 1], alpha="model", steps=1).image
        torch.testing.assert_close(together[index : index + 1], alone)


def test_unknown_ways_are_refused():
    with pytest.raises(UsageError, match="lanczos, model"):
        make().upscale(noise(8, 8, 4), alpha="nearest")


def test_the_model_sees_colour_and_alpha_as_a_pair():
    plain, made = (
        alpha.as_inputs([Planes(torch.rand(3, 4, 4), torch.rand(1, 4, 4))], how) for how in ("lanczos", "model")
    )
    assert [len(own.sources) for own in (*plain, *made)] == [1, 2]
    assert made[0].alpha is not None
    assert torch.equal(made[0].alpha.rgb[1:2], made[0].colour.alpha)
    opaque = Planes(torch.rand(3, 4, 4))
    assert alpha.as_inputs([opaque], "model") == [alpha.ModelInput(opaque)]
