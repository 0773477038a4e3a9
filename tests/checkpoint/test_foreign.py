"""Networks of others: which reader takes a file, tiles, and what is refused."""

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from realsrt import RealSRT, presets, save_model
from realsrt.checkpoint import foreign
from realsrt.checkpoint.foreign import ForeignNetwork, labels, load_any
from realsrt.checkpoint.onnx import export_whole
from realsrt.errors import CheckpointError, UsageError
from realsrt.models.rrdbnet import RRDBConfig
from realsrt.models.srvgg import SRVGGConfig

COMPACT = SRVGGConfig(channels=8, convs=3)
LQ = torch.rand(1, 3, 51, 38, generator=torch.Generator().manual_seed(0))


def nearest(scale):
    return lambda x: F.interpolate(x, scale_factor=float(scale), mode="nearest")


@pytest.mark.parametrize("config", [COMPACT, RRDBConfig(8, 1, 4)], ids=["compact", "dense"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_published_networks_need_no_other_package(tmp_path, monkeypatch, config, suffix):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    made, path = config.build().eval(), tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save({"params_ema": made.state_dict()}, path)
    else:
        save_file(made.state_dict(), path)
    found = load_any(str(path))
    assert isinstance(found, ForeignNetwork)
    with torch.inference_mode():
        torch.testing.assert_close(found.enlarge(LQ), made(LQ))


def test_a_path_may_be_longer_than_a_message(tmp_path):
    folder = tmp_path / ("d" * 200)
    folder.mkdir()
    path = folder / f"{'e' * 150}.safetensors"
    save_file(COMPACT.build().state_dict(), path)
    assert isinstance(load_any(str(path)), ForeignNetwork)


def test_ours_are_ours(tmp_path):
    save_model(presets.build("tiny"), tmp_path / "a.safetensors")
    assert isinstance(load_any(str(tmp_path / "a.safetensors")), RealSRT)
    assert isinstance(load_any("small"), RealSRT)


def test_tiles_give_what_the_whole_gives():
    made = COMPACT.build().eval()
    assert COMPACT.reach <= foreign.MARGIN // 2
    with torch.inference_mode():
        for network in (ForeignNetwork(made, 4), ForeignNetwork(made, 4, side=64)):
            large = LQ.repeat(1, 1, 3, 2)
            torch.testing.assert_close(network.enlarge(large, 20), made(large), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (64, 66), (95, 64), (96, 97), (51, 38), (1, 200)])
@pytest.mark.parametrize("side", [1, 7, 20, 64])
def test_a_network_of_one_size_gets_only_that_and_as_few_as_will_do(side, size):
    sizes = []

    def run(x):
        sizes.append(tuple(x.shape[2:]))
        return nearest(2)(x)

    margin = min(foreign.MARGIN, side // 4)
    least = [1 + max(0, -(-(length - side) // (side - 2 * margin))) for length in size]
    lq, told = torch.rand(1, 3, *size), []
    out = ForeignNetwork(run, 2, side).enlarge(lq, on_progress=lambda *at: told.append(at))
    torch.testing.assert_close(out, nearest(2)(lq))
    assert sizes == [(side, side)] * least[0] * least[1]
    assert told == [(done, len(sizes)) for done in range(len(sizes) + 1)]


def test_the_edge_is_mirrored_where_an_image_is_smaller_only():
    given = []
    network = ForeignNetwork(lambda x: given.append(x) or x, 1, 64)
    rows = torch.arange(70.0)[:, None] + torch.zeros(1, 3, 1, 64)
    network.enlarge(rows[:, :, :60])
    network.enlarge(rows)
    assert [x[0, 0, :, 0].tolist() for x in given] == [[2, 1, *range(60), 58, 57], [*range(64)], [*range(6, 70)]]


def test_tiles_pass_into_one_another():
    """A network that makes every tile of another brightness, as one that looks far does, leaves no edge."""
    shades = iter(torch.linspace(0, 1, 9))
    out = ForeignNetwork(lambda x: torch.zeros_like(x) + next(shades), 1, 64).enlarge(torch.zeros(1, 3, 120, 120))
    steps = torch.cat([out.diff(dim=2).abs().flatten(), out.diff(dim=3).abs().flatten()])
    assert out.max() - out.min() > 0.9
    assert steps.max() < 0.05


def test_a_network_that_does_not_keep_its_scale_is_an_error():
    with pytest.raises(CheckpointError, match="other than 4 times"):
        ForeignNetwork(nearest(3), 4).enlarge(LQ)


@pytest.fixture
def onnx():
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    return pytest.importorskip("onnxscript", reason="needs the extra onnx")


@pytest.fixture
def exported(onnx, tmp_path):
    def export(module, names=("x",), **more):
        path = tmp_path / "net.onnx"
        torch.onnx.export(
            module, tuple(torch.rand(1, 3, 16, 16) for _ in names), str(path), dynamo=True, verbose=False, **more
        )
        return str(path)

    return export


def test_an_onnx_file_of_any_size_and_of_one_size(exported):
    made = COMPACT.build().eval()
    free = exported(made, dynamic_shapes=[{2: torch.export.Dim("h", min=8), 3: torch.export.Dim("w", min=8)}])
    found = load_any(free)
    assert (found.scale, found.side) == (4, None)
    with torch.inference_mode():
        torch.testing.assert_close(found.enlarge(LQ), made(LQ), atol=1e-4, rtol=0)
    fixed = load_any(exported(made))
    assert fixed.side == 16
    assert fixed.enlarge(LQ).shape == (1, 3, 204, 152)


def test_a_size_that_is_half_free_is_said_in_words(exported):
    half = exported(COMPACT.build().eval(), dynamic_shapes=[{3: torch.export.Dim("w", min=8)}])
    with pytest.raises(CheckpointError, match="takes images of 16 x any px: only squares"):
        load_any(half)


class _Two(torch.nn.Module):
    def forward(self, x, y):
        return x + y


class _Flat(torch.nn.Module):
    def forward(self, x):
        return x.mean(1, keepdim=True)


def test_onnx_files_that_are_no_upscalers(exported, tmp_path):
    with pytest.raises(CheckpointError, match="one image of floats"):
        load_any(exported(_Two(), ("x", "y")))
    with pytest.raises(CheckpointError, match="no larger RGB image"):
        load_any(exported(_Flat()))
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="no ONNX file that can be run"):
        load_any(str(tmp_path / "bad.onnx"))


@pytest.mark.slow
def test_our_own_onnx_file_with_steps_is_given_its_windows(onnx, tmp_path):
    model = presets.build("tiny", 0)
    found = load_any(str(export_whole(model, tmp_path / "tiny.onnx", steps=1)[0]))
    assert found.side == model.config.window
    assert found.enlarge(LQ).shape == (1, 3, 204, 152)


@pytest.fixture
def other(tmp_path):
    """A file that neither we nor the Real-ESRGAN project wrote."""
    torch.save({"params": {"head.weight": torch.rand(4, 3, 3, 3)}}, tmp_path / "other.pth")
    return str(tmp_path / "other.pth")


def test_without_spandrel_what_to_install_is_said(other, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UsageError, match=r"torchvision.*\.\[compare\]"):
        load_any(other)


def test_spandrel_is_given_what_is_not_known_here(other, monkeypatch):
    class Descriptor:
        scale, input_channels, output_channels = 2, 3, 3
        eval = staticmethod(lambda: None)

        def __call__(self, x):
            return nearest(2)(x)

    class Loader:
        def __init__(self, device):
            pass

        def load_from_state_dict(self, state):
            if set(state) != {"head.weight"}:
                raise ValueError("unknown")
            return made

    made = Descriptor()
    module = ModuleType("spandrel")
    module.ImageModelDescriptor, module.ModelLoader = Descriptor, Loader
    module.canonicalize_state_dict = lambda content: content["params"]
    monkeypatch.setitem(sys.modules, "spandrel", module)
    found = load_any(other)
    assert torch.equal(found.enlarge(LQ), nearest(2)(LQ))
    made.output_channels = 1
    with pytest.raises(CheckpointError, match="from one RGB image"):
        load_any(other)
    torch.save({"params": {"a": torch.zeros(1).expand(1 << 40)}}, other)
    with pytest.raises(CheckpointError, match="more numbers than the file holds"):
        load_any(other)
    torch.save({"params": {"a": torch.zeros(1)}}, other)
    with pytest.raises(CheckpointError, match="no network that spandrel knows: unknown"):
        load_any(other)


def test_no_code_of_a_file_runs(tmp_path):
    ran = tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    torch.save({"params": Code()}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="none of its code was run"):
        load_any(str(tmp_path / "bad.pth"))
    assert not ran.exists()


def test_files_that_are_none(tmp_path):
    for name, words in (("a.txt", "none of"), ("a.pth", "not a readable"), ("a.safetensors", "damaged")):
        (tmp_path / name).write_bytes(b"nothing at all")
        with pytest.raises(CheckpointError, match=words):
            load_any(str(tmp_path / name))
    with pytest.raises(CheckpointError, match="no model"):
        load_any(str(tmp_path / "away.pth"))


def test_labels_are_stems_where_they_differ():
    assert labels(["small", "a/x.pth", "b/y.onnx"]) == ["small", "x", "y"]
    assert labels(["a/x.pth", "b/x.onnx"]) == ["x.pth", "x.onnx"]
    assert labels(["small", "a/small.onnx"]) == ["small", "small.onnx"]
    assert labels(["a/x.pth", "b/x.pth", "b/y.pth"]) == ["a/x.pth", "b/x.pth", "y"]
