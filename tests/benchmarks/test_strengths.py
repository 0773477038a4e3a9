"""The table of strengths and shares: labels, ends, and that auto and the best are among what it can be."""

import sys
from pathlib import Path

import pytest
import torch

from realsrt import presets
from realsrt.imaging.resize import upscale_bicubic

pytest.importorskip("PIL")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
strengths = pytest.importorskip("strengths")


def test_every_choice_has_its_image():
    trunk = presets.build("tiny", 1).trunk
    lq = torch.rand(1, 3, 20, 24)
    made = strengths.base_images(trunk, lq, [0.0, 1.0], [0.0, 1.0])
    assert list(made) == [
        "bicubic", "strength 0, share 0", "strength 0, share 1", "strength 1, share 0", "strength 1, share 1", "auto"
    ]  # fmt: skip
    eight = lambda image: strengths.to_8bit(image)  # noqa: E731
    with torch.inference_mode():
        assert torch.equal(made["strength 1, share 1"], eight(trunk.strong(lq)))
        assert torch.equal(made["strength 0, share 0"], eight(upscale_bicubic(lq, 4)))
        assert torch.equal(made["auto"], eight(trunk(lq)[1]))


def test_one_command_prints_a_table_a_protocol(tmp_path, capsys, monkeypatch):
    import numpy as np

    from realsrt import checkpoint
    from realsrt.io import image as imageio
    from realsrt.io.picture import Picture

    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        imageio.write(tmp_path / f"{name}.png", Picture.from_array(rng.integers(0, 256, (64, 72, 3), np.uint8)))
    checkpoint.save_model(presets.build("tiny", 1), tmp_path / "tiny.safetensors")
    argv = [str(tmp_path), "--models", str(tmp_path / "tiny.safetensors"), "--protocols", "bicubic", "light"]
    strengths.main([*argv, "--strengths", "0.5", "--shares", "1"])
    out = capsys.readouterr().out
    assert "bicubic, 2 images" in out
    assert "light, 2 images" in out
    rows = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith("| strength 0.5, share 1")]
    assert len(rows) == 2
    best = [line for line in out.splitlines() if line.startswith("| best of each")]
    assert all(line.split("|")[2:] == [*row[1:], ""] for line, row in zip(best, rows, strict=True))
