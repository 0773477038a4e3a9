"""Files made to do harm: one clear line, no code, no memory, and nothing outside the output folder."""

import io
import json
import struct
import tarfile
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import realsrt
from realsrt import presets
from realsrt.checkpoint import save_model
from realsrt.checkpoint.published import load_published
from realsrt.checkpoint.weights import FORMAT_VERSION, read_header
from realsrt.cli import main
from realsrt.config import QuantizerConfig, VQGANConfig, to_dict
from realsrt.errors import CheckpointError
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.models.srvgg import SRVGGConfig, SRVGGNetCompact


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_model(presets.build("tiny", seed=0), path)
    return path


def message(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        realsrt.load_model(path)
    found = str(caught.value)
    assert "\n" not in found
    assert len(found) <= 300
    assert found.isprintable()
    assert path.name in found
    return found


def table(tensors, length=None, data=b"\0" * 64) -> bytes:
    head = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def tensor(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\1\2\3",
        table(b"{}", length=2**63),
        table(b"{}", length=2**40),
        table(b"{}", length=200_000_000),
        table(b"\xff\xfe{}"),
        table(b"[" * 100_000),
        table({"a": tensor(0, 64, [16]), "b": tensor(0, 64, [16])}),
        table({"a": tensor(0, 40, [10]), "b": tensor(32, 64, [8])}),
        table({"a": tensor(0, 16, [4]), "b": tensor(48, 64, [4])}),
        table({"a": tensor(0, 16, [4])}),
        table({"a": tensor(0, 2**62, [2**60])}),
        table({"a": tensor(0, 64, [2**62, 2**62])}),
        table({"a": tensor(64, 0, [16])}),
        table({"a": tensor(0, 64, [-16])}),
        table({"a": tensor(0, 64, [16], "F33")}),
        table({"__metadata__": {"realsrt": 7}, "a": tensor(0, 64, [16])}),
    ],
    ids=range(17),
)
def test_headers_of_safetensors_files_that_lie(tmp_path, content):
    path = tmp_path / "evil.safetensors"
    path.write_bytes(content)
    assert "safetensors" in message(path)


def with_header(weights, path, change):
    header = read_header(weights)
    header = change(header) or header
    save_file(load_file(weights), path, {"realsrt": header if isinstance(header, str) else json.dumps(header)})
    return path


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("generator", "depth", 10**9),
        ("generator", "width", 10**9),
        ("tokenizer", "body_blocks", 10**7),
        ("trunk.network", "convs", 10**7),
        (None, "window", 10**6),
        (None, "window", 0),
        (None, "stride", 0),
        (None, "stride", -8),
        (None, "num_steps", 10**9),
        (None, "window", 4096),
        (None, "scale", 0),
        (None, "confidence_exit", float("nan")),
        (None, "sampler", "\x1b[31m" + "x" * 3_000_000),
        (None, "schedule", "none"),
        (None, "color_fix", ["adain"]),
        (None, "blend", {"adain": 1}),
        ("tokenizer", "kind", ["VQGANConfig"]),
        ("tokenizer", "kind", {}),
        ("tokenizer", "\x1b]0;title\x07" * 100_000, 1),
    ],
)
def test_models_larger_than_their_file_are_not_built(weights, tmp_path, part, name, value):
    def change(header):
        table = header["config"]
        for key in part.split(".") if part else ():
            table = table[key]
        table[name] = value

    found = message(with_header(weights, tmp_path / "evil.safetensors", change))
    assert name in found or len(name) > 300


def test_a_header_larger_than_any(weights, tmp_path):
    path = with_header(weights, tmp_path / "evil.safetensors", lambda header: header | {"more": "x" * 5_000_000})
    assert "header of more than" in message(path)


def test_more_parts_than_one_would_build(tmp_path):
    """Each count is within what the file holds; together they are a million layers."""
    config = replace(presets.tiny_paper(), tokenizer=VQGANConfig((16,) * 300, 300, QuantizerConfig(16, 16)))
    header = {"format": FORMAT_VERSION, "preset": "x", "config": to_dict(config), "provenance": {}}
    many = {f"t{number}": torch.zeros(1) for number in range(400)}
    save_file(many, tmp_path / "evil.safetensors", {"realsrt": json.dumps(header)})
    started = time.monotonic()
    assert "can't be built" in message(tmp_path / "evil.safetensors")
    assert time.monotonic() - started < 30


NETWORK = SRVGGNetCompact(SRVGGConfig(4, 1))


def inflating(path):
    """An archive as torch writes it, but compressed."""
    torch.save(
        {"params": NETWORK.state_dict() | {"body.9.weight": torch.zeros(3_000_000)}}, path.with_name("plain.pth")
    )
    with zipfile.ZipFile(path.with_name("plain.pth")) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for entry in plain.infolist():
            out.writestr(entry.filename, plain.read(entry))
    assert path.stat().st_size < 100_000


def sharing(path):
    """A network of a hundred layers, all of the same numbers."""
    state = SRVGGNetCompact(SRVGGConfig(32, 100)).half().state_dict()
    known = {}
    torch.save({"params": {name: known.setdefault(value.shape, value) for name, value in state.items()}}, path)
    assert path.stat().st_size < 200_000


def holding(value):
    return lambda path: torch.save({"params": NETWORK.state_dict() | {"body.0.weight": value}}, path)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (inflating, "is compressed"),
        (sharing, "share their numbers"),
        (holding(torch.zeros(1).expand(60_000, 3, 3, 3)), "more numbers than the file holds"),
        (holding(torch.zeros(4, 3, 3, 3, device="meta")), ""),
        (holding(torch.zeros(4, 3, 3, 3).to_sparse()), "more numbers than the file holds"),
        (lambda path: torch.save({"params": {"\x1b[2J" * 100_000: torch.zeros(1)}}, path), ""),
    ],
)
def test_pickles_that_exhaust(tmp_path, write, says):
    path = tmp_path / "evil.pth"
    write(path)
    with pytest.raises(CheckpointError) as caught:
        load_published(path)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 300


def test_a_header_nested_without_end(weights, tmp_path):
    path = with_header(weights, tmp_path / "evil.safetensors", lambda _: "[" * 200_000)
    assert "damaged" in message(path)


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_names_inside_checkpoints_and_pictures_are_no_paths(weights, tmp_path, monkeypatch, capsys):
    work = tmp_path / "a" / "b"
    (work / "in").mkdir(parents=True)
    monkeypatch.chdir(work)
    evil = f"{tmp_path}/evil.png"

    def change(header):
        header["config"]["preset"] = "../../evil"
        header["provenance"] = {"name": evil, "output": "../../evil.png", "software": evil}

    with_header(weights, work / "evil.safetensors", change)
    picture = Picture.from_array(np.full((16, 16, 3), 90, np.uint8))
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>../../evil.png {evil}</x:xmpmeta>".encode()
    imageio.write(work / "in" / "p.png", Picture(picture.pixels, {"xmp-data": (imageio.pyvips.GValue.blob_type, xmp)}))
    before = everything(tmp_path)
    argv = ["upscale", "in", "-o", "out", "--model-path", "evil.safetensors", "-g", "cpu", "--steps", "1"]
    assert main([*argv, "--confidence", "--save-steps"]) == 0
    new = set(everything(tmp_path)) - set(before)
    assert {name for name in new if not name.startswith("a/b/out")} == set()
    assert "a/b/out/p.png" in new


def test_a_manifest_that_names_files_elsewhere_reads_and_writes_none(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    imageio.write("p.png", Picture.from_array(np.full((16, 16, 3), 90, np.uint8)))
    argv = ["upscale", "p.png", "-o", "out", "--model-path", str(weights), "-g", "cpu", "--steps", "1"]
    assert main(argv) == 0
    manifest = tmp_path / "out" / ".realsrt-manifest.jsonl"
    entry = json.loads(manifest.read_text())
    ((name, digest),) = entry["outputs"].items()
    entry["outputs"] = {f"../{name}": digest, "/etc/hostname": digest}
    manifest.write_text(json.dumps(entry) + "\n")
    before = everything(tmp_path)
    capsys.readouterr()
    assert main([*argv, "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "done"
    assert everything(tmp_path) == before


def test_members_of_a_tar_stay_inside_it(tmp_path, monkeypatch):
    sources = pytest.importorskip("realsrt.training.sources")
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    imageio.write(folder / "p.png", Picture.from_array(np.full((16, 16, 3), 90, np.uint8)))
    content = (folder / "p.png").read_bytes()
    for tar_name, mode in (("evil.tar", "w"), ("evil.tar.gz", "w:gz")):
        with tarfile.open(folder / tar_name, mode) as tar:
            for name in ("../../evil.png", f"{tmp_path}/evil2.png"):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            link = tarfile.TarInfo("link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        before = everything(tmp_path)
        entries = list(sources.entries([folder / tar_name]))
        assert [entry.decode().shape for entry in entries] == [(3, 16, 16)] * 2
        assert everything(tmp_path) == before


def test_the_tiny_file_itself_is_sound(weights, tmp_path):
    """What the tests above change is the only thing wrong with their files."""
    model = realsrt.load_model(with_header(weights, tmp_path / "fine.safetensors", lambda header: None))
    assert torch.equal(model.state_dict()["critic.to_logits.weight"], load_file(weights)["critic.to_logits.weight"])
