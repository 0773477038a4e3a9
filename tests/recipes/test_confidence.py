"""recipes/confidence.py: the critic's gain and shift, fitted to ranks."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import realsrt
from realsrt import presets
from realsrt.evaluation import pairing, registry
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.losses import load_squeeze_features
from realsrt.models.features import squeeze_distance

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "confidence.py"))


def test_a_fit_finds_what_the_ranks_were_made_with():
    x = torch.linspace(-3, 3, 999)
    factor, summand = RECIPE["fit"](x, (1.7 * x - 0.4).sigmoid())
    np.testing.assert_allclose([factor, summand], [1.7, -0.4], atol=1e-6)


def folders(path):
    rng = np.random.default_rng(0)
    for folder, side in (("lq", 72), ("hr", 288)):
        (path / folder).mkdir()
        pixels = (rng.random((side, side, 3)) * 255).astype(np.uint8)
        imageio.write(path / folder / "a.png", Picture.from_array(pixels))
    return path / "lq", path / "hr"


def test_what_is_measured_is_every_place_of_whole_windows(tmp_path):
    lq, hr = (pairing.load(folder / "a.png") for folder in folders(tmp_path))
    model = presets.build("tiny", 1)
    logits, distances = RECIPE["measured"](model, [(lq, hr)], registry.checkout_features())
    out = model.super_resolve(lq[:, :, :64, :64])
    torch.testing.assert_close(logits.sigmoid(), out.confidence.flatten())
    whole = squeeze_distance(
        load_squeeze_features(registry.checkout_features()), out.image.clamp(0, 1), hr[:, :, :256, :256]
    )
    assert float(distances.mean()) == pytest.approx(float(whole), rel=0.02)
    ranks = RECIPE["closeness"](distances)
    assert sorted(ranks.tolist()) == pytest.approx([number / 1023 for number in range(1024)])
    assert ranks[distances.argmin()] == 1


@pytest.mark.parametrize("sense", [1, -1])
def test_gain_and_shift_follow_the_fit_unless_it_turns_the_order_round(tmp_path, monkeypatch, sense):
    model = presets.build("tiny", 1)
    model.critic.shift.data.fill_(2.0)
    realsrt.save_model(model, tmp_path / "before.safetensors", provenance={"by": "test"})
    x = torch.linspace(-3, 3, 999)
    far = 1 - (sense * 2 * x + 0.5).sigmoid()
    monkeypatch.setitem(RECIPE["main"].__globals__, "measured", lambda *_: (x, far))
    monkeypatch.setitem(RECIPE["main"].__globals__, "closeness", lambda distance: 1 - distance)
    call = (str(tmp_path / "before.safetensors"), *folders(tmp_path), tmp_path / "after.safetensors")
    if sense < 0:
        with pytest.raises(realsrt.UsageError, match="does not order"):
            RECIPE["main"](*call)
        return
    RECIPE["main"](*call)
    after = realsrt.load_model(tmp_path / "after.safetensors")
    assert float(after.critic.gain) == pytest.approx(2 * model.critic.gain.item(), rel=1e-3)
    assert float(after.critic.shift) == pytest.approx(4.5, rel=1e-3)
    assert after.info.provenance["by"] == "test"
    told = after.info.provenance["confidence"]
    assert told["pairs"] == 1
    assert told["distances"] == sorted(told["distances"])
    assert told["distances"][0] == pytest.approx(float(far.min()), abs=1e-3)
