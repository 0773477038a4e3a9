"""Weight files with bytes changed, cut, doubled or moved: an error of one line, or a model; soon, and in little."""

import json
import random
import resource
import struct
import time

import pytest
import torch

from realsrt import load_model, presets
from realsrt.checkpoint import save_model
from realsrt.checkpoint.published import load_published
from realsrt.errors import CheckpointError
from realsrt.models.srvgg import SRVGGConfig, SRVGGNetCompact

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FILES, SECONDS, MEGABYTES = 300, 10.0, 2000.0


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """(ending, content, how it is loaded) of small files of every kind."""
    folder = tmp_path_factory.mktemp("seeds")
    save_model(presets.build("tiny", seed=0), folder / "a.safetensors")
    save_model(presets.build("tiny_paper", seed=0), folder / "b.safetensors")
    network = {"params": SRVGGNetCompact(SRVGGConfig(8, 2)).state_dict()}
    torch.save(network, folder / "c.pth")
    torch.save(network, folder / "d.pth", _use_new_zipfile_serialization=False)
    loaders = {"a": load_model, "b": load_model, "c": load_published, "d": load_published}
    return [(path.suffix, path.read_bytes(), loaders[path.stem]) for path in sorted(folder.iterdir())]


def mutated(content, suffix, rng):
    out = bytearray(content)
    head = min(len(out), 20_000)
    for _ in range(rng.choice((1, 3, 30))):
        at = rng.randrange(head if rng.random() < 0.8 else len(out))
        kind = rng.randrange(5)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**16, 2**31 - 1, 2**40, 2**63 - 1)))
        elif kind == 2:
            del out[at : at + rng.randrange(1, 200)]
        elif kind == 3:
            out[at:at] = out[at : at + rng.randrange(1, 200)]
        else:
            out[at:at] = rng.choice((b"9", b"99999", b"-", b"[", b"null", b"1e9", b"\x1b[2J"))
    if suffix == ".safetensors" and rng.random() < 0.5:  # numbers of the header's JSON, its length kept right
        (length,) = struct.unpack("<Q", content[:8])
        table = json.loads(content[8 : 8 + length])
        text = table["__metadata__"]["realsrt"]
        places = [i for i, letter in enumerate(text) if letter.isdigit()]
        at = rng.choice(places)
        value = rng.choice(("0", "-1", "9" * rng.randrange(2, 9), "1.5", "null", "[1]", "{}", '"x"', "true", "NaN"))
        table["__metadata__"]["realsrt"] = text[:at] + value + text[at + 1 :]
        head = json.dumps(table).encode()
        out = bytearray(struct.pack("<Q", len(head)) + head + content[8 + length :])
    return bytes(out)


def test_mutated_weight_files(seeds, tmp_path, capsys):
    rng, slowest, loaded, said = random.Random(16), 0.0, 0, []
    for suffix, content, load in seeds[:1]:  # what is imported only once is not counted
        (tmp_path / f"whole{suffix}").write_bytes(content)
        load(tmp_path / f"whole{suffix}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(FILES):
        suffix, content, load = seeds[number % len(seeds)]
        path = tmp_path / f"mutated{suffix}"
        path.write_bytes(mutated(content, suffix, rng))
        started = time.monotonic()
        try:
            load(path)
            loaded += 1
        except CheckpointError as error:
            said.append(str(error))
        slowest = max(slowest, time.monotonic() - started)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    with capsys.disabled():
        print(f"\n{FILES} files, {loaded} loaded all the same; slowest {slowest:.1f} s, {grown:.0f} MB more in all")
    assert all(len(text) <= 300 and text.isprintable() for text in said)
    assert slowest < SECONDS
    assert grown < MEGABYTES
