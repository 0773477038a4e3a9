"""recipes/confidence.py: the critic's gain and shift, fitted to ranks."""

import runpy
from pathlib import Path

import numpy as np
import torch

import realsrt
from realsrt import presets
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "confidence.py"))


def test_a_fit_finds_what_the_ranks_were_made_with():
    x = torch.linspace(-3, 3, 999)
    factor, summand = RECIPE["fit"](x, (1.7 * x - 0.4).sigmoid())
    np.testing.assert_allclose([factor, summand], [1.7, -0.4], atol=1e-6)


def test_weights_get_a_confidence_whose_mean_is_that_of_ranks(tmp_path):
    """Ranks have a mean of one half; an untrained critic's confidence has not."""
    model = presets.build("tiny", 1)
    with torch.no_grad():
        model.critic.shift.fill_(2.0)
    realsrt.save_model(model, tmp_path / "before.safetensors", provenance={"by": "test"})
    rng = np.random.default_rng(0)
    for name in "ab":
        for folder, side in (("lq", 64), ("hr", 256)):
            (tmp_path / folder).mkdir(exist_ok=True)
            pixels = (rng.random((side, side, 3)) * 255).astype(np.uint8)
            imageio.write(tmp_path / folder / f"{name}.png", Picture.from_array(pixels))
    RECIPE["main"](
        str(tmp_path / "before.safetensors"), tmp_path / "lq", tmp_path / "hr", tmp_path / "after.safetensors"
    )
    after = realsrt.load_model(tmp_path / "after.safetensors")
    means, orders = [], []
    for one in (realsrt.load_model(tmp_path / "before.safetensors"), after):
        lq = realsrt.imageio.read(tmp_path / "lq" / "a.png").rgb_float()
        out = one.super_resolve(torch.from_numpy(lq.copy()).permute(2, 0, 1)[None])
        means.append(float(out.confidence.mean()))
        orders.append(out.ids)
    assert abs(means[0] - 0.5) > 0.2
    assert abs(means[1] - 0.5) < 0.05
    assert (orders[0] == orders[1]).float().mean() > 0.99
    assert after.info.provenance["by"] == "test"
    assert after.info.provenance["confidence"]["pairs"] == 2
