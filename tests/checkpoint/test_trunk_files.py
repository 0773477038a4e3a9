"""The trunk in other programs: what spandrel and ncnn make of the files, against PyTorch."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from realsrt import presets
from realsrt.checkpoint import load_model
from realsrt.checkpoint.published import load_published
from realsrt.checkpoint.trunk_files import export_trunk, run_ncnn
from realsrt.cli import main
from realsrt.errors import CheckpointError, RealSRTError, UsageError

LEAST_PSNR = 50
LQ = torch.rand(1, 3, 21, 35, generator=torch.Generator().manual_seed(5))


def psnr(a, b):
    return -10 * math.log10(float((a - b).square().mean()) + 1e-20)


@pytest.fixture(scope="module")
def spandrel():
    """Spandrel itself, loader and network. Where torchvision is missing, its names that two other networks import are
    left empty."""
    with pytest.MonkeyPatch.context() as patch:
        if not importlib.util.find_spec("torchvision"):
            for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
                patch.setitem(sys.modules, name, ModuleType(name))
            for name in ("InterpolationMode", "normalize", "rotate"):
                patch.setattr(sys.modules["torchvision.transforms.functional"], name, None, raising=False)
        why = "needs spandrel: pip install --no-deps spandrel einops"
        yield pytest.importorskip("spandrel", reason=why, exc_type=ImportError)
        for name in [name for name in sys.modules if name.partition(".")[0] == "spandrel"]:
            del sys.modules[name]


@pytest.fixture
def ncnn():
    pytest.importorskip("pnnx", reason="needs pnnx (extra ncnn)")
    return pytest.importorskip("ncnn", reason="needs ncnn (extra ncnn)")


@pytest.fixture(scope="module")
def tiny():
    return presets.build("tiny", 3)


@pytest.mark.parametrize("denoise", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_spandrel_computes_the_same(spandrel, tiny, tmp_path, suffix, denoise):
    (path,) = export_trunk(tiny, tmp_path / f"trunk{suffix}", denoise=denoise)
    loaded = spandrel.ModelLoader().load_from_file(path)
    assert (loaded.architecture.id, loaded.scale, loaded.input_channels) == ("Compact", 4, 3)
    with torch.inference_mode():
        assert psnr(loaded.model.eval()(LQ), tiny.trunk.network(denoise)(LQ)) > LEAST_PSNR


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_we_read_our_own(tiny, tmp_path, suffix):
    (path,) = export_trunk(tiny, tmp_path / f"trunk{suffix}", denoise=0.3)
    with torch.inference_mode():
        assert torch.equal(load_published(path)(LQ), tiny.trunk.network(0.3)(LQ))


def test_ncnn_computes_the_same_at_any_size(ncnn, tiny, tmp_path):
    assert [path.name for path in export_trunk(tiny, tmp_path / "t.param", denoise=0.3)] == ["t.bin", "t.param"]
    for lq in (LQ, LQ[..., :8, :9]):
        with torch.inference_mode():
            assert psnr(run_ncnn(tmp_path / "t.param", lq[0]), tiny.trunk.network(0.3)(lq)[0]) > LEAST_PSNR


def test_what_ncnn_computes_otherwise_is_refused(ncnn, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("realsrt.checkpoint.trunk_files.run_ncnn", lambda *_: torch.zeros(3, 76, 108))
    with pytest.raises(RealSRTError, match="ncnn does not compute"):
        export_trunk(tiny, tmp_path / "t.param")
    assert not list(tmp_path.iterdir())


def test_refusals(tiny, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no trunk"):
        export_trunk(presets.build("tiny_paper"), tmp_path / "t.pth")
    with pytest.raises(UsageError, match=r"t\.gguf"):
        export_trunk(tiny, tmp_path / "t.gguf")
    with pytest.raises(CheckpointError, match="can't write"):
        export_trunk(tiny, tmp_path / "nowhere/t.pth")
    monkeypatch.setitem(sys.modules, "pnnx", None)
    with pytest.raises(UsageError, match=r"\.\[ncnn\]"):
        export_trunk(tiny, tmp_path / "t.param")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trunk.pth", "trunk.param"])
def test_the_embedded_model_by_the_command(request, tmp_path, capsys, name):
    engine = request.getfixturevalue("spandrel" if name.endswith(".pth") else "ncnn")
    path = tmp_path / name
    assert main(["export", str(path), "--denoise", "0.7"]) == 0
    assert str(path) in capsys.readouterr().out.splitlines()
    image = torch.from_numpy(_sign())
    with torch.inference_mode():
        want = load_model("small").trunk.network(0.7)(image[None])[0]
        if name.endswith(".pth"):
            got = engine.ModelLoader().load_from_file(path).model(image[None])[0]
        else:
            got = run_ncnn(path, image)
    assert psnr(got, want) > LEAST_PSNR


def _sign():
    """A photograph, (3,H,W) in [0,1]."""
    from realsrt.io.image import read

    pixels = read(Path(__file__).parents[2] / "examples/sign.jpg").pixels[:96, :128, :3]
    return (pixels.astype("float32") / 255).transpose(2, 0, 1).copy()
