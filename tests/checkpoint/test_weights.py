import json
import os
import stat
import struct

import pytest
import torch
from safetensors.torch import save_file

import realsrt
from realsrt import presets
from realsrt.checkpoint import embedded, save_model
from realsrt.checkpoint.weights import FORMAT_VERSION, read_header, write_file
from realsrt.errors import CheckpointError
from realsrt.models.heads import straight


@pytest.fixture(scope="module")
def model():
    return presets.build("tiny", seed=3)


@pytest.fixture
def file(model, tmp_path):
    save_model(model, tmp_path / "model.safetensors", provenance={"made": "here"})
    return tmp_path / "model.safetensors"


def message(path):
    with pytest.raises(CheckpointError) as caught:
        realsrt.load_model(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300
    return str(caught.value)


@pytest.mark.parametrize("preset", ["tiny", "tiny_paper"])
def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path, preset):
    model = presets.build(preset, seed=3)
    save_model(model, tmp_path / "model.safetensors", provenance={"stages": [{"steps": 3}]})
    loaded = realsrt.load_model(tmp_path / "model.safetensors")
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[k], theirs[k]) and theirs[k].dtype == torch.float32 for k in ours)
    assert loaded.config == model.config
    assert not loaded.training
    assert loaded.info.source == str(tmp_path / "model.safetensors")
    assert loaded.info.provenance == {"stages": [{"steps": 3}]}
    assert len(loaded.info.sha256) == 64
    lq = torch.rand(
        1, 3, *([64, 64] if preset == "tiny_paper" else [16, 16]), generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        assert torch.equal(loaded.super_resolve(lq).image, model.super_resolve(lq).image)


def test_saving_twice_gives_the_same_bytes(model, tmp_path):
    for name in "ab":
        save_model(model, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_loaded_model_can_be_trained_and_keeps_its_history(file, tmp_path):
    model = realsrt.load_model(file)
    assert all(p.requires_grad for p in model.parameters())
    save_model(model, tmp_path / "again.safetensors")
    assert realsrt.load_model(tmp_path / "again.safetensors").info.provenance == {"made": "here"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_storage(model, file, tmp_path, dtype):
    save_model(model, tmp_path / "half.safetensors", dtype=dtype)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * file.stat().st_size
    loaded = realsrt.load_model(tmp_path / "half.safetensors").state_dict()
    for key, value in model.state_dict().items():
        assert loaded[key].dtype == torch.float32
        if dtype == torch.float16 and key.startswith("trunk.deep.") and value.ndim == 4:  # in 8 bits
            torch.testing.assert_close(loaded[key], value, rtol=0, atol=float(value.abs().max()) / 100)
        else:
            assert torch.equal(loaded[key], value.to(dtype).float())


def test_the_header_tells_what_is_inside(file):
    header = read_header(file)
    assert header["format"] == FORMAT_VERSION
    assert header["preset"] == "tiny"
    assert header["config"]["tokenizer"]["kind"] == "ResidualTokenizerConfig"


def test_every_preset_can_be_described(tmp_path):
    from realsrt.config import from_dict, to_dict

    for name in presets.PRESETS:
        config = presets.get(name)
        assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("empty", lambda content: b""),
        ("start", lambda content: content[:5]),
        ("header only", lambda content: content[:300]),
        ("cut", lambda content: content[: len(content) // 2]),
        ("one byte short", lambda content: content[:-1]),
        ("noise", lambda content: bytes(range(256)) * 50),
        ("text", lambda content: b"<html>404</html>"),
        ("longer", lambda content: content + b"more"),
    ],
)
def test_damaged_files(file, name, make):
    file.write_bytes(make(file.read_bytes()))
    found = message(file)
    assert "model.safetensors" in found
    assert "is no weight file, or a damaged one" in found
    assert "download it again" in found


def test_files_of_others(tmp_path):
    save_file({"a": torch.zeros(3)}, tmp_path / "plain.safetensors")
    save_file({"a": torch.zeros(3)}, tmp_path / "named.safetensors", {"format": "pt"})
    for name in ("plain", "named"):
        found = message(tmp_path / f"{name}.safetensors")
        assert name in found
        assert "not of this package" in found
        assert "realsrt compare" in found


def rewrite(file, change_header=None, change_state=None):
    """The file again with its header's JSON, or its tensors, changed."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["realsrt"])
        state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    header = header if change_header is None else change_header(header)
    state = state if change_state is None else change_state(state)
    save_file(state, file, {"realsrt": header if isinstance(header, str) else json.dumps(header)})


def merged(header, *path, **values):
    """The header with entries set in the table at ``path``."""
    table = header
    for name in path:
        table = table[name]
    table.update(values)
    return header


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: merged(h, format=FORMAT_VERSION + 1), [f"format {FORMAT_VERSION + 1}", "update realsrt"]),
        (lambda h: "{not json", ["damaged", "header"]),
        (lambda h: "[1]", ["damaged", "header"]),
        (lambda h: {"format": 1}, ["damaged", "header"]),
        (lambda h: merged(h, "config", colour=3), ["config", "colour", "update realsrt"]),
        (lambda h: merged(h, "config", "generator", rotary=True), ["config.generator", "rotary"]),
        (lambda h: merged(h, config=7), ["config"]),
        (lambda h: merged(h, "config", generator=None), ["config.generator"]),
        (lambda h: merged(h, "config", "generator", width="wide"), ["config.generator.width", "wide"]),
        (lambda h: merged(h, "config", "tokenizer", kind="GAN"), ["config.tokenizer.kind", "GAN"]),
        (lambda h: merged(h, "config", color_fix="sepia"), ["config.color_fix", "sepia"]),
        (lambda h: {**h, "config": {k: v for k, v in h["config"].items() if k != "critic"}}, ["config", "critic"]),
        (lambda h: merged(h, "config", "generator", width=-4), ["can't be built"]),
        (lambda h: merged(h, "config", "generator", heads=3), ["shape"]),
    ],
)
def test_headers_that_do_not_fit(file, change, words):
    rewrite(file, change_header=change)
    found = message(file)
    for word in words:
        assert word in found


KEY = "generator.to_logits.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {k: v for k, v in s.items() if k != KEY}, ["lacks", KEY, "1 keys missing"]),
        (lambda s: s | {"generator.extra": torch.zeros(2)}, ["generator.extra", "does not have"]),
        (lambda s: s | {KEY: torch.zeros(5, 5)}, [KEY, "(5, 5)", "(16, 32)"]),
        (lambda s: s | {KEY: s[KEY].to(torch.int32)}, [KEY, "int32"]),
        (lambda s: {f"x{number}": torch.zeros(1) for number in range(8)}, ["lacks"]),
    ],
)
def test_tensors_that_do_not_fit(file, change, words):
    rewrite(file, change_state=change)
    found = message(file)
    assert "model.safetensors" in found
    for word in words:
        assert word in found


def test_the_map_to_confidences_is_kept_and_may_be_missing(tmp_path, file):
    """Files written before there was one."""
    model = realsrt.load_model(file)
    lq = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = model.super_resolve(lq)
    rewrite(file, change_state=lambda s: {k: v for k, v in s.items() if k != "critic.knots"})
    old = realsrt.load_model(file)
    assert torch.equal(old.super_resolve(lq).confidence, before.confidence)
    assert torch.equal(old.critic.knots, straight())
    old.critic.knots[1, 1:-1] += 1
    save_model(old, tmp_path / "fitted.safetensors", dtype=torch.float16)
    fitted = realsrt.load_model(tmp_path / "fitted.safetensors")
    assert torch.equal(fitted.critic.knots, old.critic.knots.half().float())
    assert not torch.equal(fitted.super_resolve(lq).confidence, before.confidence)


def test_what_is_generated_does_not_depend_on_the_map(file):
    model = realsrt.load_model(file)
    lq = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    options = {"num_steps": 4, "temperature": 1.0}
    before = model.super_resolve(lq, rng=torch.Generator().manual_seed(1), **options)
    model.critic.knots[1, 1:-1] = model.critic.knots[0, 1:-1] / 4 + 1
    after = model.super_resolve(lq, rng=torch.Generator().manual_seed(1), **options)
    assert torch.equal(after.ids, before.ids)
    assert torch.equal(after.image, before.image)
    assert float(after.confidence.mean()) > float(before.confidence.mean()) + 0.1


def test_rewriting_itself_does_no_harm(file, model):
    """What the two tests above change is the only thing wrong with their files."""
    rewrite(file)
    assert torch.equal(realsrt.load_model(file).state_dict()[KEY], model.state_dict()[KEY])


def test_a_tensor_table_that_points_outside(file):
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    table = json.loads(content[8 : 8 + length])
    table[KEY]["data_offsets"] = [0, 10**12]
    head = json.dumps(table).encode()
    file.write_bytes(struct.pack("<Q", len(head)) + head + content[8 + length :])
    assert "is no weight file, or a damaged one" in message(file)


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.pth", "absent", ""])
def test_names_of_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    found = message(name)
    assert repr(name) in found
    assert "embedded" in found


def test_a_folder_is_no_model(tmp_path):
    assert "neither a file" in message(tmp_path)
    assert "no weights of 'base' are in this package" in message("base")


def test_embedded_models_load_by_name():
    for name in embedded():
        assert realsrt.load_model(name).info.source == name


def test_writing_is_atomic(file, model, monkeypatch):
    old = file.read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            if step == "fsync":
                patch.setattr(os, "fsync", fail)
            else:
                patch.setattr(os, "replace", fail)
            with pytest.raises(CheckpointError, match=r"model\.safetensors: No space left") as caught:
                save_model(presets.build("tiny", seed=9), file)
        assert "\n" not in str(caught.value)
        assert file.read_bytes() == old
        assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_an_interrupted_write_leaves_nothing_behind(file, monkeypatch):
    def interrupt(handle):
        raise KeyboardInterrupt

    old = file.read_bytes()
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(file, b"half")
    assert file.read_bytes() == old
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_places_that_cannot_be_written(model, tmp_path):
    with pytest.raises(CheckpointError, match=r"can't write .*nowhere.*No such file"):
        save_model(model, tmp_path / "nowhere" / "model.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match=r"can't write .*folder.*directory"):
        save_model(model, tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission(model, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match=r"can't write .*Permission denied"):
            save_model(model, tmp_path / "model.safetensors")
    finally:
        tmp_path.chmod(0o700)


def test_permission_refused_by_the_system_is_one_line(model, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("realsrt.io.atomic.os.open", refuse)
    with pytest.raises(CheckpointError, match=r"can't write .*model\.safetensors: Permission denied"):
        save_model(model, tmp_path / "model.safetensors")


@pytest.mark.skipif(os.name != "posix", reason="modes are a matter of POSIX")
def test_files_get_the_usual_mode(file):
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask
