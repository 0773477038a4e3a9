import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from realsrt import presets
from realsrt.checkpoint import save_model
from realsrt.cli import main as realsrt
from realsrt.evaluation import pairing, registry
from realsrt.evaluation.metrics import psnr_y
from realsrt.imaging.resize import upscale_bicubic
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

for name in ("kornia", "torchmetrics", "PIL"):
    pytest.importorskip(name)

FILE = Path(__file__).parents[2] / "benchmarks" / "validate.py"


@pytest.fixture(scope="module")
def validate():
    spec = importlib.util.spec_from_file_location("validate", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["validate"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["validate"]


def pictures(folder, sizes):
    folder.mkdir()
    for seed, (height, width) in enumerate(sizes):
        coarse = np.random.default_rng(seed).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        pixels = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
        imageio.write(folder / f"p{seed}.png", Picture.from_array(pixels))


@pytest.mark.parametrize("protocol", ["light", "realesrgan"])
def test_degraded_inputs_are_those_of_the_command(validate, tmp_path, protocol):
    pictures(tmp_path / "hr", [(70, 97), (64, 64)])
    assert realsrt(["degrade", str(tmp_path / "hr"), str(tmp_path / "lq"), "--seed", "3", "--protocol", protocol]) == 0
    items = validate.degraded(tmp_path / "hr", protocol, 3, None)
    assert [item.name for item in items] == ["p0", "p1"]
    for item in items:
        torch.testing.assert_close(item.lq, pairing.load(tmp_path / "lq" / f"{item.name}.png"), atol=1e-7, rtol=0)
        assert [4 * side for side in item.lq.shape[2:]] == list(item.target.shape[2:])


def test_one_command_gives_every_table(validate, tmp_path, capsys):
    pictures(tmp_path / "hr", [(64, 64), (64, 72)])
    pictures(tmp_path / "real", [(16, 16)])
    for name in ("one", "two"):
        save_model(presets.build("tiny", len(name) + (name == "two")), tmp_path / f"{name}.safetensors")
    out = tmp_path / "out.json"
    models = [str(tmp_path / f"{name}.safetensors") for name in ("one", "two")]
    validate.main(
        [str(tmp_path / "hr"), "--real", str(tmp_path / "real"), "--models", *models, "--steps", "1",
         "--protocols", "bicubic", "--sheet", str(tmp_path / "sheets"), "--json", str(out)]
    )  # fmt: skip
    found = json.loads(out.read_text())
    assert found["bicubic"]["pictures"] == ["p0", "p1"]
    assert set(found["bicubic"]["values"]) == {"bicubic", "one, 1 step", "two, 1 step"}
    item = validate.degraded(tmp_path / "hr", "bicubic", 0, 1)[0]
    expected = float(psnr_y(validate.to_8bit(upscale_bicubic(item.lq, 4)), item.target))
    assert found["bicubic"]["values"]["bicubic"]["psnr_y"][0] == pytest.approx(expected, abs=1e-9)
    assert list(found["real"]["values"]["one, 1 step"]) == ["confidence"]
    text = capsys.readouterr().out
    assert "| bicubic | " in text
    assert "| difference to one |" in text
    assert "| two, 1 step | " in text
    assert sorted(path.name for path in (tmp_path / "sheets").rglob("*.png")) == ["p0.png", "p0.png", "p1.png"]


def test_cells_state_interval_and_direction(validate):
    up, down = registry.build(["psnr_y", "squeeze"])
    cell = validate.beside(up, {"psnr_y": [20.0, 22.0]}, {"psnr_y": [21.0, 23.0]}, True)
    assert cell == "22.00 (+1.00…+1.00)"
    cell = validate.beside(down, {"squeeze": [4.0, 4.0]}, {"squeeze": [3.0, 3.0]}, True)
    assert cell == "3.0000 (−1.0000…−1.0000, −25.0 %)"
    assert validate.difference(down, {"squeeze": [4.0, 4.0]}, {"squeeze": [3.0, 4.5]}).endswith("better on 1 of 2")
