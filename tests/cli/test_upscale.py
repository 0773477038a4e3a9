import json
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from realsrt import checkpoint, presets
from realsrt.batch.outputs import confidence_image
from realsrt.batch.resume import NAME
from realsrt.cli import main
from realsrt.inference import upscaler
from realsrt.inference.adapters import Planes
from realsrt.inference.result import Upscaled
from realsrt.io import image as imageio
from realsrt.io.picture import Picture


def picture(path, height=12, width=9, bands=3, dtype=np.uint8):
    rng = np.random.default_rng(0)
    imageio.write(path, Picture.from_array(rng.integers(0, np.iinfo(dtype).max, (height, width, bands), dtype)))
    return path


class FakeUpscaler:
    """Repeats pixels; keeps what it was asked for."""

    asked: ClassVar[dict[str, Any]] = {}
    model = SimpleNamespace(info=SimpleNamespace(source="fake", sha256="0" * 64), config=SimpleNamespace(num_steps=4))

    @classmethod
    def from_pretrained(cls, name, **options):
        cls.asked = {"name": name, **options}
        return cls()

    def computed_in(self, options):
        return "float32"

    def check(self, options):
        """Everything is allowed."""

    def upscale(self, image, options, *, on_progress=None, rows=None, keep_steps=False):
        FakeUpscaler.asked |= asdict(options) | {"keep_steps": keep_steps}
        if image.width == 13:
            raise RuntimeError("an\nodd number")
        width, height = options.out_size(image.width, image.height)
        rgb, alpha = np.full((height, width, 3), 0.5, np.float32), image.alpha_float()
        result = image.with_pixels(rgb, None if alpha is None else np.full((height, width), 0.5, np.float32))
        on_progress(1, 1)
        if rows:
            planes = [torch.full((bands, height, width), 0.5) for bands in (3, 1)]
            rows(0, Planes(planes[0], None if alpha is None else planes[1]))
        confidence = np.full((-(-height // 8), -(-width // 8)), 0.25, np.float32)
        step = SimpleNamespace(image=result, confidence=confidence, restored=())
        return Upscaled(
            ids=None,
            step=1,
            num_steps=1,
            image=result,
            confidence=step.confidence if options.confidence else None,
            steps=(step, step) if keep_steps else (),
            window_steps=np.array([2, 1]),
        )


@pytest.fixture
def fake(monkeypatch, tmp_path):
    monkeypatch.setattr(upscaler, "Upscaler", FakeUpscaler)
    monkeypatch.chdir(tmp_path)
    return FakeUpscaler


def records(capsys):
    captured = capsys.readouterr()
    return [json.loads(line) for line in captured.out.splitlines()], captured.err


def test_a_folder_with_bad_files_among_the_good(fake, tmp_path, capsys):
    good = tmp_path / "in"
    good.mkdir()
    picture(good / "a.png")
    whole = picture(good / "z.jpg", 64, 64).read_bytes()
    (good / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (good / "text.png").write_text("only words")
    (good / "empty.png").touch()
    (good / "folder.png").mkdir()
    picture(good / "odd.png", 5, 13)
    assert main(["upscale", "in", "-o", "out", "--report", "report.jsonl"]) == 1
    lines, errors = records(capsys)
    assert {line["source"]: line["status"] for line in lines} == {
        "in/a.png": "done", "in/cut.jpg": "failed", "in/empty.png": "failed", "in/folder.png": "failed",
        "in/odd.png": "failed", "in/text.png": "failed", "in/z.jpg": "done",
    }  # fmt: skip
    named = errors.splitlines()
    assert named.pop() == "realsrt: note: 2 done, 0 skipped, 5 failed"
    assert len(named) == 5
    assert all(line.startswith("realsrt: error: in/") for line in named)
    assert "empty" in next(line for line in named if "in/empty.png" in line)
    assert "RuntimeError: an odd number" in next(line for line in named if "in/odd.png" in line)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [NAME, "a.png", "z.jpg"]
    assert [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()] == lines
    first = lines[0]
    assert (first["out_width"], first["out_height"], first["confidence"]) == (36, 48, 0.25)


def test_a_report_takes_the_place_of_no_output(fake, tmp_path, capsys):
    picture(tmp_path / "a.png")
    for report in ("out/a.png", "out/a_confidence.png", f"out/{NAME}", "./out/../out/a.png"):
        assert main(["upscale", "a.png", "-o", "out/", "--confidence", "--report", report]) == 2
        assert capsys.readouterr().err.endswith("would be written twice; give the report another name\n")
    assert not (tmp_path / "out").exists()


def test_every_flag_reaches_the_pipeline(fake, tmp_path, capsys):
    picture(tmp_path / "a.png")
    argv = "upscale -i a.png --output out.tif --model_path w.pth -r 50x60 -t 96 --stride 32 --timesteps 3"
    argv += " --max_minibatch 2 -g cpu --fp32 --fidelity 0.5 --color_fix none --seed 7 --save_steps --confidence"
    argv += " --refine sparse --confidence_exit 0.75 --denoise 0.5 --strength 0.75 --compile"
    assert main(argv.split()) == 0
    assert fake.asked == {
        "name": "w.pth", "device": "cpu", "precision": "fp32", "compile": True, "size": (50, 60), "outscale": 4.0,
        "tile": 96,
        "stride": 32, "steps": 3, "max_minibatch": 2, "fidelity": 0.5, "color_fix": "none", "seed": 7,
        "keep_steps": True, "confidence": True, "alpha": "lanczos", "refine": "sparse",
        "confidence_exit": 0.75, "denoise": 0.5, "strength": 0.75,
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.png", "out.tif", "out_confidence.png", "out_step1.tif", "out_step1_confidence.png", "out_step2.tif",
        "out_step2_confidence.png",
    ]  # fmt: skip
    assert imageio.read("out.tif").pixels.shape == (60, 50, 3)


def test_defaults(fake, tmp_path, capsys):
    picture(tmp_path / "a.png")
    assert main(["upscale", "a.png", "-o", "b.png"]) == 0
    assert fake.asked["name"] == "small"
    assert (fake.asked["outscale"], fake.asked["tile"], fake.asked["steps"]) == (4.0, None, None)
    assert not (tmp_path / "b_confidence.png").exists()


def test_kinds_and_formats(fake, tmp_path, capsys):
    picture(tmp_path / "gray16.png", bands=1, dtype=np.uint16)
    picture(tmp_path / "alpha.png", bands=4)
    assert main(["upscale", "gray16.png", "alpha.png", "-o", "out", "-f", "webp", "-s", "2.5", "--suffix", "_big"]) == 0
    lines, errors = records(capsys)
    assert imageio.read("out/alpha_big.webp").pixels.shape == (30, 22, 4)
    assert "rounded to 8 bit" in errors
    assert "rounded to 8 bit" in lines[0]["notices"][0]
    assert main(["upscale", "alpha.png", "-o", "out", "-f", "jpg"]) == 1
    assert "transparency" in capsys.readouterr().err
    assert main(["upscale", "gray16.png", "-o", "big.webp", "-r", "20000x5"]) == 1
    assert "16,383" in capsys.readouterr().err


def test_resume_knows_what_was_computed_in_which_precision(tmp_path, capsys, monkeypatch):
    """Not what was asked for: auto is bfloat16 for windows where the CPU multiplies it, elsewhere the same as fp32."""
    picture(tmp_path / "a.png")
    checkpoint.save_model(presets.build("tiny"), tmp_path / "tiny.safetensors")

    def run(multiplies, *more):
        monkeypatch.setattr("realsrt.inference.runner.cpu_multiplies_bf16", lambda: multiplies)
        model = ["--model-path", str(tmp_path / "tiny.safetensors"), "-g", "cpu"]
        assert main(["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), *model, "--resume", *more]) == 0
        (record,) = records(capsys)[0]
        return record["status"], record.get("reason")

    other = ("done", "made again: other settings: precision")
    run(True)
    assert run(True)[0] == "skipped"
    assert run(True, "--fp32") == other
    assert run(False)[0] == "skipped"
    assert run(True) == other
    run(True, "--steps", "0")
    assert run(True, "--steps", "0", "--fp32")[0] == "skipped"  # which has no windows


def test_resume_skips_what_is_there(fake, tmp_path, capsys):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    assert main(["upscale", "a.png", "-o", "out", "--report", "r.jsonl"]) == 0
    before = (tmp_path / "out/a.png").stat().st_mtime_ns
    capsys.readouterr()
    assert main(["upscale", "a.png", "b.png", "-o", "out", "--resume", "--report", "r.jsonl"]) == 0
    lines, _ = records(capsys)
    assert [line["status"] for line in lines] == ["skipped", "done"]
    assert (tmp_path / "out/a.png").stat().st_mtime_ns == before
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        (["-r", "12"], "1920x1080"),
        (["-r", "0x5"], "1920x1080"),
        (["-r", "5x5", "-s", "2"], "not both"),
        (["--fp32", "--precision", "bf16"], "contradicts"),
        (["--fidelity", "2"], "fidelity"),
        (["-f", "bmp"], "bmp"),
    ],
)
def test_contradictions_are_usage(fake, tmp_path, capsys, extra, word):
    picture(tmp_path / "a.png")
    assert main(["upscale", "a.png", "-o", "out", *extra]) == 2
    captured = capsys.readouterr()
    assert word in captured.err
    assert captured.err.count("\n") == 1


def test_too_many_pixels(fake, tmp_path, capsys):
    picture(tmp_path / "a.png", 10, 10)
    assert main(["upscale", "a.png", "-o", "out", "--max-pixels", "99"]) == 1
    assert "--max-pixels" in capsys.readouterr().err


def test_an_unknown_model_is_named(tmp_path, capsys):
    picture(tmp_path / "a.png")
    assert main(["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "-n", "nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err


def test_confidence_picture_is_the_map_at_full_size():
    gray = confidence_image(np.array([[0.0, 1.0], [0.5, 2.0]], np.float32), 13, 9).pixels
    assert gray.shape == (9, 13, 1)
    assert gray[7, 7, 0] == 0
    assert gray[0, 8, 0] == 255
    assert gray[8, 0, 0] == 128
    assert gray[8, 12, 0] == 255


def test_the_real_pipeline_from_end_to_end(tmp_path, capsys):
    checkpoint.save_model(presets.build("tiny", seed=0), tmp_path / "tiny.safetensors")
    picture(tmp_path / "a.png", 20, 30, bands=4, dtype=np.uint16)
    argv = ["upscale", str(tmp_path / "a.png"), "--model-path", str(tmp_path / "tiny.safetensors"), "--confidence"]
    assert main([*argv, "-o", str(tmp_path / "b.png")]) == 0
    out = imageio.read(tmp_path / "b.png")
    assert out.pixels.shape == (80, 120, 4)
    assert out.depth == 16
    assert imageio.read(tmp_path / "b_confidence.png").pixels.shape == (80, 120, 1)
    assert main([*argv, "-o", str(tmp_path / "c.png")]) == 0
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()


def test_provenance_is_noted_unless_refused(fake, tmp_path):
    picture(tmp_path / "a.png")
    for extra, expected in (([], True), (["--no-provenance"], False), (["--strip"], False)):
        assert main(["upscale", "a.png", "-o", "out.png", "--fidelity", "0.5", *extra]) == 0
        packet = imageio.read("out.png").metadata.get("xmp-data", (0, b""))[1]
        assert (b"0000000000" in packet) == expected
        assert (b'fidelity": 0.5' in packet.replace(b"&quot;", b'"')) == expected


def test_alpha_reaches_the_pipeline(fake, tmp_path):
    picture(tmp_path / "a.png", bands=4)
    assert main(["upscale", "a.png", "-o", "out.png", "--alpha", "model"]) == 0
    assert fake.asked["alpha"] == "model"
    assert main(["upscale", "a.png", "-o", "out.png", "--alpha", "nearest"]) == 2


@pytest.mark.parametrize("wanted", ["--confidence", "--save-steps"])
def test_what_no_steps_cannot_give_is_refused_before_the_work(fake, tmp_path, capsys, wanted):
    picture(tmp_path / "a.png")
    assert main(["upscale", "a.png", "-o", "out.png", "--steps", "0", wanted]) == 2
    assert "0 steps" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("given", "taken"), [([], "auto"), (["--denoise", "auto"], "auto"), (["--denoise", ".25"], 0.25)]
)
def test_denoising_strength(fake, tmp_path, given, taken):
    picture(tmp_path / "a.png")
    assert main(["upscale", "a.png", "-o", "out.png", *given]) == 0
    assert fake.asked["denoise"] == taken


@pytest.mark.parametrize("wrong", ["2", "-0.1", "nan", "much"])
def test_denoising_strengths_outside_are_usage_errors(fake, tmp_path, capsys, wrong):
    picture(tmp_path / "a.png")
    assert main(["upscale", "a.png", "-o", "out.png", f"--denoise={wrong}"]) == 2
    assert "denoise" in capsys.readouterr().err
