"""`realsrt teach`: what it records, that it goes on after any interruption, and what it refuses."""

import fcntl
import os
import signal
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("accelerate")

from realsrt.checkpoint.published import load_published
from realsrt.cli import main
from realsrt.errors import RealSRTError, UsageError
from realsrt.models.srvgg import SRVGGConfig
from realsrt.training import pair_tar
from realsrt.training.data import ImageSet
from realsrt.training.pair_tar import PairTar
from realsrt.training.pairs import degraded_tiles
from realsrt.training.recorded import find_pairs
from realsrt.training.teach import TeachConfig, teach

CPU = torch.device("cpu")


@pytest.fixture
def record(photos, network_file, tmp_path):
    """Record five pairs (or with other settings) into a file of this name; gives its path."""

    def run(name="pairs.tar", say=lambda line: None, **options):
        given = {"count": 5, "tile": 64, "degradation": "light"} | options
        return teach(TeachConfig((photos,), tmp_path / name, network_file, **given), device=CPU, say=say)

    return run


def contents(path):
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_pairs_are_those_of_training_with_the_teachers_image(record, photos, network_file):
    path = record(quality=None)
    pairs, network = find_pairs(path, scale=4, tile=64), load_published(network_file)
    lq, gt = degraded_tiles(ImageSet([photos], min_side=64), range(5), 64, "light", 0, 4)
    assert [pair.name.rpartition(":")[2] for pair in pairs] == [f"{number:08d}" for number in range(5)]
    for number, pair in enumerate(pairs):
        pixels = {role: torch.from_numpy(array) for role, array in pair.decode(4).items()}
        assert torch.equal(pixels["lq"], lq[number])
        assert torch.equal(pixels["gt"], gt[number])
        expected = (network(lq[number : number + 1].float() / 255).clamp(0, 1) * 255).round()
        assert (pixels["teacher"] - expected).abs().max() <= 1


def test_quality_trades_size_for_closeness(record):
    """Of two qualities the better is closer to the exact images and larger; the low-quality images are always exact."""
    options = {"low.tar": 50, "high.tar": 95, "exact.tar": None}
    low, high, exact = (record(name, quality=quality) for name, quality in options.items())
    assert low.stat().st_size < high.stat().st_size < exact.stat().st_size
    for pairs in zip(*(find_pairs(path, scale=4, tile=64) for path in (low, high, exact)), strict=True):
        coarse, fine, true = (pair.decode(4) for pair in pairs)
        assert (coarse["lq"] == true["lq"]).all()
        for role in ("gt", "teacher"):
            errors = [abs(images[role].astype(int) - true[role]).mean() for images in (coarse, fine)]
            assert errors[0] > errors[1] > 0


def test_more_pairs_are_added_to_those_that_are_there(record, photos):
    few = record(count=2).read_bytes()
    said = []
    (photos / "raw.cr2").touch()
    path = record(count=5, say=said.append)
    (photos / "raw.cr2").unlink()
    assert path.read_bytes().startswith(few[:-1024])
    assert path.read_bytes() == record("whole.tar").read_bytes()
    assert "passed over: 1 raw" in said[0]
    assert "2 of 5 pairs are there" in said[1]
    before = path.read_bytes()
    record(count=3)
    assert path.read_bytes() == before


def test_shards_are_together_one_run(record):
    whole = contents(record())
    shards = [record(shard=(index, 2)) for index in range(2)]
    assert [path.name for path in shards] == ["pairs-0.tar", "pairs-1.tar"]
    parts = [contents(path) for path in shards]
    for members in (whole, *parts):
        del members["teach.json"]
    assert parts[0] | parts[1] == whole
    assert sorted(map(len, parts)) == [6, 9]
    assert len(find_pairs(shards[0].with_name("pairs-{0..1}.tar"), scale=4, tile=64)) == 5
    assert TeachConfig((), Path("a.tar"), Path(), 9, shard=(3, 12)).file() == Path("a-03.tar")


class Killed(Exception):
    pass


@pytest.mark.parametrize("sync", range(1, 9))
def test_killed_at_any_write_it_goes_on_to_the_same_bytes(record, monkeypatch, sync):
    """Each pair is two writes; after either of them the tar can be read and holds whole pairs only."""
    whole = record("whole.tar", count=3).read_bytes()
    calls = []

    def die(handle):
        calls.append(handle)
        if len(calls) == sync:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pair_tar.os, "fsync", die)
        with pytest.raises(Killed):
            record(count=3)
    path = record("whole.tar", count=3).with_name("pairs.tar")
    names = list(contents(path)) if sync > 1 else []
    assert len(names) == (1 + 3 * (sync // 2 - 1) if sync > 1 else 0)
    assert record(count=3).read_bytes() == whole


def test_a_torn_write_is_cut_off(record):
    """Half a pair behind the end, as a crash leaves it: readers do not see it, and it is gone after the next run."""
    whole = record(count=3).read_bytes()
    path = record("torn.tar", count=2)
    end = path.stat().st_size - 1024
    path.write_bytes(path.read_bytes()[:end] + bytes(512) + b"\x07" * 90_000)
    assert len(contents(path)) == 7
    assert record("torn.tar", count=3).read_bytes() == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_pair(record, monkeypatch, number):
    add, said = PairTar.add, []

    def add_and_signal(self, members, **options):
        add(self, members, **options)
        if "00000001.lq.png" in members:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(PairTar, "add", add_and_signal)
        with pytest.raises(SystemExit) as caught:
            record(say=said.append)
    assert caught.value.code == 128 + number
    assert "stopped after 2 of 5 pairs" in said[-1]
    path = record("whole.tar").with_name("pairs.tar")
    assert len(contents(path)) == 7
    assert record().read_bytes() == (path.with_name("whole.tar")).read_bytes()


def test_one_writes_at_a_time(record):
    path = record()
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match=r"another process is writing .*--shard"):
            record()


def test_a_full_disk_is_told_and_costs_nothing(record, monkeypatch):
    whole = record("whole.tar").read_bytes()
    record(count=2)

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pair_tar.os, "fsync", full)
        with pytest.raises(RealSRTError, match=r"pairs\.tar: the disk is full; .*goes on"):
            record()
    assert record().read_bytes() == whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"tile": 128}, "tile 64, not 128"),
        ({"degradation": "bicubic"}, "degradation light, not bicubic"),
        ({"quality": None}, "quality 95, not lossless"),
    ],
)
def test_other_settings_do_not_go_into_one_tar(record, options, words):
    before = record().read_bytes()
    with pytest.raises(UsageError, match=words) as caught:
        record(**options)
    assert "\n" not in str(caught.value)
    assert record().read_bytes() == before


def test_other_photographs_or_another_teacher_do_not(record, tmp_path, photos, network_file):
    path = record()
    with pytest.raises(UsageError, match="photographs"):
        teach(TeachConfig((photos / "0.png",), path, network_file, 5, 64, "light"), device=CPU)
    save_file(SRVGGConfig(channels=8, convs=3).build().state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="teacher"):
        teach(TeachConfig((photos,), path, tmp_path / "other.safetensors", 5, 64, "light"), device=CPU)


@pytest.mark.parametrize("content", [b"some notes", b"x" * 5000, "tar", "more"])
def test_files_of_others_are_left_alone(record, tmp_path, content):
    path = tmp_path / "pairs.tar"
    if content == "tar":
        with tarfile.open(path, "w") as tar:
            tar.add(__file__, "notes.txt")
    elif content == "more":
        with tarfile.open(record(), "a") as tar:
            tar.add(__file__, "notes.txt")
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="name another file"):
        record()
    assert path.read_bytes() == before


def test_the_command_records_and_says_how_much(photos, network_file, tmp_path, capsys):
    argv = ["teach", str(photos), str(tmp_path / "new" / "p.tar"), "--teacher", str(network_file)]
    argv += ["--count", "3", "--tile", "64", "--shard", "1/2", "--device", "cpu"]
    assert main(argv) == 0
    assert f"{tmp_path}/new/p-1.tar: 1 pairs" in capsys.readouterr().out
    assert list(contents(tmp_path / "new/p-1.tar"))[1:] == [
        "00000001.lq.png",
        "00000001.gt.webp",
        "00000001.teacher.webp",
    ]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("p.tar --teacher {net} --count 1", "last the .tar"),
        ("{photos} p.zip --teacher {net} --count 1", "p.zip"),
        ("{photos} p.tar --count 1", "--teacher"),
        ("{photos} p.tar --teacher {net}", "--count"),
        ("{photos} p.tar --teacher {net} --count 0", "--count"),
        ("{photos} p.tar --teacher {net} --count 1 --tile 66", "--tile"),
        ("{photos} p.tar --teacher {net} --count 1 --tile 512", "512 px"),
        ("{photos} p.tar --teacher {net} --count 1 --quality 0", "--quality"),
        ("{photos} p.tar --teacher {net} --count 1 --seed -1", "--seed"),
        ("{photos} p.tar --teacher {net} --count 1 --degradation rain", "rain"),
        ("{photos} p.tar --teacher {net} --count 1 --shard 2/2", "--shard"),
        ("nowhere p.tar --teacher {net} --count 1", "nowhere"),
        ("{photos} {photos}/0.png/p.tar --teacher {net} --count 1", "choose another place"),
    ],
)
def test_usage(photos, network_file, tmp_path, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    assert main(["teach", *argv.format(net=network_file, photos=photos).split()]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_that_is_none_is_refused(photos, tmp_path, capsys):
    assert main(["teach", str(photos), str(tmp_path / "p.tar"), "--teacher", "none.pth", "--count", "1"]) == 2
    assert "none.pth" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
