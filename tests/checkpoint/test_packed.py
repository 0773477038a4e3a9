"""Numbers in 8 bits: close to what they were, the same when packed again, and a file that holds them."""

import pytest
import torch

from realsrt import load_model, presets, save_model
from realsrt.checkpoint.packed import SCALE, pack, unpack
from realsrt.errors import CheckpointError


def kernel(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.05


def test_kernels_are_close_and_the_rest_is_as_it_was():
    state = {
        "large.weight": kernel(0, 40, 16, 3, 3),
        "large.bias": kernel(1, 40),
        "other.weight": kernel(2, 4, 4, 3, 3),
    }
    state["large.weight"][3] = 0  # a channel of nothing
    packed = pack(state, "large.")
    assert packed["large.weight"].dtype == torch.int8
    assert packed.keys() == {*state, "large.weight" + SCALE}
    plain = unpack(packed)
    assert plain.keys() == state.keys()
    assert torch.equal(plain["large.bias"], state["large.bias"])
    assert torch.equal(plain["other.weight"], state["other.weight"])
    error = (plain["large.weight"] - state["large.weight"]).unflatten(1, (4, 4)).flatten(2).abs()
    most = state["large.weight"].unflatten(1, (4, 4)).flatten(2).abs().amax(2) / 127
    assert (error.amax(2) <= most * 9 / 8 + 1e-12).all()  # a level, of scales that are up to an eighth too coarse
    assert error.mean() < 0.35 * most.mean()


@pytest.mark.parametrize("seed", range(20))
def test_packed_again_they_are_the_same_and_half_precision_holds_them(seed):
    first = unpack(pack({"w": kernel(seed, 64, 8, 3, 3) * 10.0 ** (seed % 5 - 2)}, "w"))
    again = unpack(pack(first, "w"))
    assert torch.equal(first["w"], again["w"])
    assert torch.equal(first["w"], first["w"].half().float())


def test_a_file_in_half_precision_packs_the_large_network(tmp_path):
    model = presets.build("tiny", 1)
    save_model(model, tmp_path / "half.safetensors", dtype=torch.float16)
    save_model(load_model(tmp_path / "half.safetensors"), tmp_path / "again.safetensors", dtype=torch.float16)
    assert (tmp_path / "half.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    read, own = load_model(tmp_path / "half.safetensors").state_dict(), model.state_dict()
    assert read.keys() == own.keys()
    changed = {key for key in own if not torch.equal(read[key], own[key].half().float())}
    assert changed
    assert all(key.startswith("trunk.deep.") for key in changed)
    save_model(model, tmp_path / "whole.safetensors")
    whole = load_model(tmp_path / "whole.safetensors").state_dict()
    assert all(torch.equal(whole[key], own[key]) for key in own)


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), 1e7])
def test_what_half_precision_cannot_hold_stays_as_it_is(wild):
    state = {"w": kernel(0, 4, 4, 3, 3)}
    state["w"][1, 2, 0, 0] = wild
    assert pack(state, "w")["w"] is state["w"]


@pytest.mark.parametrize("broken", ["no scale", "wrong scale", "bad scale", "flat", "no levels"])
def test_halves_of_a_pair_are_named(tmp_path, broken):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = tmp_path / "half.safetensors"
    save_model(presets.build("tiny", 1), path, dtype=torch.float16)
    with safe_open(path, "pt") as file:
        header = file.metadata()
    state, name = load_file(path), "trunk.deep.conv_hr.weight"
    if broken == "wrong scale":
        state[name + SCALE] = torch.ones(3)
    elif broken == "bad scale":
        state[name + SCALE][0, 0] = float("nan")
    elif broken == "flat":
        state[name] = state[name].flatten()
    else:
        del state[name + SCALE if broken == "no scale" else name]
    save_file(state, path, header)
    with pytest.raises(CheckpointError, match=r"trunk\.deep\.conv_hr\.weight"):
        load_model(path)
