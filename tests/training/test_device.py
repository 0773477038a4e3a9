import json

import pytest
import torch

pytest.importorskip("accelerate")

from realsrt import presets
from realsrt.training.config import make_config
from realsrt.training.device import Together, compile_parts
from realsrt.training.loop import train


def test_compiling_keeps_names_and_numbers():
    model, other = presets.build("tiny").eval(), presets.build("tiny").eval()
    parts = compile_parts(model, backend="eager")
    assert len(parts) >= 5
    assert all(part._compiled_call_impl is not None for part in parts)
    assert model.state_dict().keys() == other.state_dict().keys()
    lq = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        a, b = (m.super_resolve(lq, num_steps=2).image for m in (model, other))
    torch.testing.assert_close(a, b)


def test_one_process_agrees_with_itself():
    assert Together(1).most(0.25, 15) == [0.25, 15]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_compiled_run_learns_nearly_the_same(photos, tmp_path):
    options = {"preset": "tiny", "batch": 2, "crop": 64, "tile": 64, "pool": 4, "log_every": 1, "data": (photos,)}
    losses = []
    for compile in (False, True):
        out = tmp_path / str(compile)
        train(make_config("tokenizer", out=out, compile=compile, max_steps=4, gan=0.5, **options))
        torch.compiler.reset()
        losses.append([json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
