"""The authors' format. Tensors here are mostly single numbers, expanded: the full state dict then weighs nothing."""

import hashlib
import importlib.util
import json
import os
import pickle
from pathlib import Path

import pytest
import torch

import realsrt
from realsrt import presets
from realsrt.checkpoint import official as parts
from realsrt.checkpoint import save_model
from realsrt.checkpoint.convert import convert_file
from realsrt.checkpoint.official import (
    from_official,
    load_official,
    official_name,
    official_shapes,
    read_pickle,
    to_official,
)
from realsrt.errors import CheckpointError, UsageError
from realsrt.model import RealSRT
from realsrt.models.srvgg import SRVGGConfig

SHARED = Path(os.environ.get("REALSRT_SHARED", Path(__file__).parents[3] / "shared"))
KEYS = SHARED / "golden" / "official_keys.json"
needs_golden = pytest.mark.skipif(not KEYS.exists(), reason=f"{KEYS} is not here")
BETA = "generator.enc_blocks.0.0.norm.beta"


@pytest.fixture(scope="module")
def shapes():
    return official_shapes()


@pytest.fixture(scope="module")
def ours():
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in RealSRT(presets.base()).state_dict().items()}


@pytest.fixture(autouse=True)
def numbers_may_stand_for_many(monkeypatch):
    """The files of these tests are small because a tensor's numbers are all one; see `test_hostile` for that."""
    monkeypatch.setattr(parts, "check_stored", lambda params, path: None)


@pytest.fixture
def official(shapes):
    """Their state dict: small tensors are noise, large ones a number each; betas zero."""
    state = {}
    for number, (key, shape) in enumerate(shapes.items(), 1):
        rng = torch.Generator().manual_seed(number)
        small = torch.Size(shape).numel() <= 2048
        values = torch.randn(shape, generator=rng) if small else torch.tensor(float(number)).expand(shape)
        state[key] = torch.zeros(shape) if key.endswith(".beta") else values
    return state


def same(a, b):
    if a.stride() == b.stride() and 0 in a.stride():  # an expanded number: one element says it all
        return a.shape == b.shape and a.dtype == b.dtype and bool(a[(0,) * a.ndim] == b[(0,) * b.ndim])
    return a.dtype == b.dtype and torch.equal(a, b)


@needs_golden
def test_keys_order_and_shapes_are_theirs(shapes):
    theirs = {key: tuple(shape) for key, (shape, dtype) in json.loads(KEYS.read_text()).items()}
    assert list(shapes.items()) == list(theirs.items())


def test_keys_order_and_shapes_as_recorded(shapes):
    digest = hashlib.sha256(json.dumps([[k, list(v)] for k, v in shapes.items()]).encode()).hexdigest()
    assert len(shapes) == 1068
    assert digest == "4915b65d8fce4ee91fb9781ce8b9257278dbbe1a1033dc2cfb29aca94e6f9612"


def test_names_are_a_bijection(ours, shapes):
    names = [official_name(key) for key in ours]
    assert len(set(names)) == len(ours)
    betas = [key for key in shapes if key.endswith(".beta")]
    assert set(names) | set(betas) == set(shapes)
    assert not set(names) & set(betas)
    assert len(betas) == sum(key.endswith(".gamma") for key in ours)


def test_names_by_example():
    for key, name in {
        "tokenizer.encoder.layers.0.weight": "vae.encoder.model.0.weight",
        "tokenizer.encoder.layers.1.norm1.bias": "vae.encoder.model.1.block.0.gn.bias",
        "tokenizer.quantizer.weight": "vae.quantizer.codebooks.0.weight",
        "control.fuse_attn.norm.weight": "fuse_attn.norm.gn.weight",
        "control.zero_out.bias": "zero_out.bias",
        "generator.backbone.blocks.15.cross_attn.null_kv": "generator.dec_blocks.15.1.null_kv",
        "critic.to_logit.weight": "critic.to_logits.weight",
    }.items():
        assert official_name(key) == name


def test_there_and_back_is_the_identity(official, ours):
    state = from_official(official)
    assert {k: tuple(v.shape) for k, v in state.items()} == ours
    assert list(state) == list(ours)
    back = to_official(state)
    assert list(back) == list(official)
    assert all(same(back[key], tensor) for key, tensor in official.items())


def test_every_tensor_lands_at_its_own_name(official):
    state = from_official(official)
    for key, tensor in state.items():
        assert same(tensor, official[official_name(key)].reshape(tensor.shape)), key


def write(state, path):
    torch.save({"params_ema": state, "params": {}}, path)
    return path


def test_their_file_loads_as_it_is(official, tmp_path):
    path = write(official, tmp_path / "net_g_80000.pth")
    model = realsrt.load_model(path)
    assert model.config == presets.base()
    assert not model.training
    assert model.info.source == str(path)
    assert model.info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.info.provenance == {"converted_from": "net_g_80000.pth"}
    assert torch.equal(model.tokenizer.encoder.layers[0].bias, official["vae.encoder.model.0.bias"])
    assert model.generator.backbone.mask_token.shape == (512,)


def test_half_precision_files_become_float32(official, tmp_path):
    half = {k: v.half() if v.numel() <= 2048 else v for k, v in official.items()}
    model = realsrt.load_model(write(half, tmp_path / "net_g.pth"))
    bias = model.tokenizer.encoder.layers[0].bias
    assert bias.dtype == torch.float32
    assert torch.equal(bias, half["vae.encoder.model.0.bias"].float())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("zero_out.weight"), ["lacks", "zero_out.weight"]),
        (lambda s: s.update(surprise=torch.zeros(1)), ["surprise"]),
        (lambda s: s.update({"zero_out.bias": torch.zeros(3)}), ["zero_out.bias", "(3,)", "(256,)"]),
        (lambda s: s.update({"zero_out.bias": torch.zeros(256, dtype=torch.int64)}), ["zero_out.bias", "int64"]),
        (lambda s: s.update({BETA: torch.full_like(s[BETA], 1e-3)}), [BETA, "zero"]),
        (lambda s: s.update(surprise=3), ["state dict", "params_ema"]),
        (lambda s: s.clear(), ["state dict", "params_ema"]),
    ],
)
def test_state_dicts_that_do_not_fit(official, tmp_path, change, words):
    change(official)
    with pytest.raises(CheckpointError) as caught:
        load_official(write(official, tmp_path / "net_g.pth"))
    assert "\n" not in str(caught.value)
    for word in ["net_g.pth", *words]:
        assert word in str(caught.value)


class Trap:
    """Unpickling it in the usual way makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["archive", "legacy", "plain pickle"])
def test_code_in_a_file_is_not_run(tmp_path, form):
    path, sprung = tmp_path / "net_g.pth", tmp_path / "sprung"
    content = {"params_ema": {"a": torch.zeros(2), "b": Trap(sprung)}}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
    with pytest.raises(CheckpointError, match="none of its code was run") as caught:
        realsrt.load_model(path)
    assert "\n" not in str(caught.value)
    assert not sprung.exists()
    torch.load(path, weights_only=False) if form != "plain pickle" else pickle.loads(path.read_bytes())
    assert sprung.exists()  # the trap works


def test_a_pickle_of_another_protocol_is_refused_without_a_warning(tmp_path, recwarn):
    path = tmp_path / "net_g.pth"
    path.write_bytes(pickle.dumps({"params_ema": Trap(tmp_path / "sprung")}, protocol=4))
    with pytest.raises(CheckpointError):
        realsrt.load_model(path)
    assert [str(warning.message) for warning in recwarn] == []


def cut(path):
    path.write_bytes(path.read_bytes()[:-2000])


def flip(path):
    content = bytearray(path.read_bytes())
    content[100:200] = bytes(100)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        flip,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"<html>404</html>" * 20),
        *[lambda path, n=n: path.write_bytes(bytes((n * i * i + i) % 256 for i in range(4000))) for n in range(1, 5)],
    ],
)
def test_damaged_files_are_not_called_malicious(tmp_path, damage):
    path = write({"a": torch.randn(2000)}, tmp_path / "net_g.pth")
    damage(path)
    with pytest.raises(CheckpointError) as caught:
        read_pickle(path)
    text = str(caught.value)
    assert "\n" not in text
    assert "net_g.pth is not a readable checkpoint" in text
    assert "code was run" not in text


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"params_ema": [1]}, torch.zeros(3)])
def test_other_pickles(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth has no 'params_ema'"):
        load_official(tmp_path / "other.pth")


@pytest.mark.parametrize("wrapped", ["params", "params_ema"])
def test_of_networks_of_others_compare_is_named(tmp_path, wrapped):
    torch.save({wrapped: SRVGGConfig(8, 1, 4).build().state_dict()}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="other projects are for realsrt compare"):
        load_official(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("source", "target"),
    [("a.pth", "b.pth"), ("a.safetensors", "b.safetensors"), ("a.safetensors", "b.png"), ("a.pth", "b")],
)
def test_directions_that_are_none(source, target):
    with pytest.raises(UsageError, match=f"from {source} to {target}"):
        convert_file(source, target)


def test_only_base_has_a_place_in_their_format(tmp_path):
    save_model(presets.build("tiny_paper"), tmp_path / "tiny.safetensors")
    with pytest.raises(UsageError, match=r"tiny\.safetensors is of preset 'tiny_paper'"):
        convert_file(tmp_path / "tiny.safetensors", tmp_path / "net_g.pth")
    assert not (tmp_path / "net_g.pth").exists()


@needs_golden
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_file_there_and_back(tmp_path):
    spec = importlib.util.spec_from_file_location("golden_seeded", SHARED / "golden" / "seeded.py")
    assert spec is not None
    assert spec.loader is not None
    seeded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    original = seeded.official_state_dict(7)
    torch.save({"params_ema": original}, tmp_path / "net_g.pth")
    line = convert_file(tmp_path / "net_g.pth", tmp_path / "base.safetensors")
    assert "185.1 M parameters" in line
    (tmp_path / "net_g.pth").unlink()
    convert_file(tmp_path / "base.safetensors", tmp_path / "back.pth")
    content = torch.load(tmp_path / "back.pth", weights_only=True, mmap=True)
    assert list(content) == ["params_ema"]
    back = content["params_ema"]
    keys = json.loads(KEYS.read_text())
    assert list(back) == list(keys)
    for key, (shape, dtype) in keys.items():
        assert list(back[key].shape) == shape
        assert str(back[key].dtype) == f"torch.{dtype}"
        assert torch.equal(back[key], original[key]), key
