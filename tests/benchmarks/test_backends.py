"""The engines of one window: every part by each of them; one that cannot says why."""

import sys
from pathlib import Path

import torch

from realsrt import presets, save_model

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import backends


def test_every_part_is_measured_by_every_engine_that_can(tmp_path, monkeypatch, capsys):
    def cannot(*_, **__):
        raise RuntimeError("too slow for a test")

    monkeypatch.setattr(torch, "compile", cannot)
    monkeypatch.setattr(backends.onnx, "export", lambda model, folder, denoise: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    save_model(presets.build("tiny"), tmp_path / "tiny.safetensors")
    backends.main([str(tmp_path / "tiny.safetensors"), "--repeats", "1"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[1:]]
    found = {(part, engine): (took, gap) for part, engine, took, _, gap in lines}
    for part in ("guide", "generator", "critic", "decoder"):
        assert found[part, "eager"][1] in ("0.0e+00", "0.0% of codes")
        assert float(found[part, "channels_last"][1].removesuffix("% of codes")) < 1e-3
        assert {found[part, engine][0] for engine in ("compile", "ONNX Runtime")} == {"-"}
    assert not list(tmp_path.glob("tmp*"))
