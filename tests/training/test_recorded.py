"""Recorded pairs: which files are a pair, what is refused, and what training gets of them."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("accelerate")

from realsrt.checkpoint import load_model
from realsrt.checkpoint.published import load_published
from realsrt.errors import CheckpointError, UsageError
from realsrt.training.config import make_config, pair_source
from realsrt.training.data import seeded
from realsrt.training.loop import train
from realsrt.training.pairs import PairMaker, build_pool
from realsrt.training.recorded import RecordedPairs, find_pairs
from realsrt.training.teacher import Teacher
from support.runs import log_of, train_until_killed

CPU = torch.device("cpu")
MARK = torch.tensor([1, 1, 0], dtype=torch.uint8)[:, None, None]
"""What tells gt from lq, and the teacher's image from gt."""


def encoded(array, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    return file.getvalue()


def places(number, height=24, width=28, extra=(0, 0)):
    """lq, gt and teacher that say at each pixel of lq's grid where it is, in which image, and of which pair."""
    y, x = np.mgrid[0:height, 0:width].astype(np.uint8)
    lq = np.stack([y * 4, x * 4, np.full_like(y, number)], -1)
    gt = np.pad(lq.repeat(4, 0).repeat(4, 1), ((0, extra[0]), (0, extra[1]), (0, 0)), mode="edge")
    return {"lq": lq, "gt": gt + np.array([1, 1, 0], np.uint8), "teacher": gt + np.array([2, 2, 0], np.uint8)}


def members(number, roles=("lq", "gt", "teacher"), **size):
    images = places(number, **size)
    return {f"{number:04d}.{role}.{'png' if role == 'lq' else 'webp'}": images[role] for role in roles}


def write(folder, images):
    for name, array in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(array, "WEBP" if name.endswith("webp") else "PNG"))
    return folder


def write_tar(path, images):
    with tarfile.open(path, "w") as tar:
        for name, array in images.items():
            content = encoded(array, "WEBP" if name.endswith("webp") else "PNG")
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def in_tar(path):
    return write_tar(path / "pairs.tar", members(1) | members(2, ("lq", "gt")))


def in_folder(path):
    return write(path / "pairs", members(1) | members(2, ("lq", "gt")))


def in_folders_by_role(path):
    images = {f"deep/{role}/a.png": array for role, array in places(1).items()}
    return write(path / "pairs", images | {f"deep/{role}/b.png": places(2)[role] for role in ("lq", "gt")})


@pytest.fixture
def pairs(tmp_path):
    return in_folder(tmp_path)


def some(source, *, tile=64, **options):
    return RecordedPairs(source, scale=4, tile=tile, **options)


def config(**options):
    given = {"max_steps": 1, "tile": 64, "crop": 64, "batch": 4, "pool": 8, "refresh": 1, "preset": "tiny"}
    return make_config("tokenizer", **(given | options))


def maker(lanes=4, own=None, **options):
    return PairMaker(config(**options), scale=4, device=CPU, lanes=lanes, own=own or range(lanes))


@pytest.mark.parametrize("layout", [in_tar, in_folder, in_folders_by_role])
def test_pairs_are_files_that_share_a_name(tmp_path, layout):
    source = layout(tmp_path)
    first, second = find_pairs(source, scale=4, tile=64)
    assert list(first.files) == ["gt", "lq", "teacher"]
    assert first.size == second.size == (24, 28)
    assert set(second.files) == {"lq", "gt"}
    pixels = first.decode(4)
    for role, array in places(1).items():
        assert np.array_equal(pixels[role].transpose(1, 2, 0), array)
    assert (second.decode(4)["gt"][2] == 2).all()


def test_patterns_and_other_files(tmp_path):
    for number in range(3):
        write_tar(tmp_path / f"p-{number}.tar", members(number) | {"preview.png": places(9)["lq"]})
    assert len(find_pairs(tmp_path / "p-{0..2}.tar", scale=4, tile=64)) == 3


@pytest.mark.parametrize("extra", [(0, 3), (3, 0), (2, 1)])
def test_a_target_may_have_three_rows_and_columns_more(tmp_path, extra):
    whole = places(1, extra=extra)
    images = {"a.lq.png": whole["lq"], "a.gt.png": whole["gt"], "a.teacher.png": places(1)["teacher"]}
    (pair,) = find_pairs(write(tmp_path, images), scale=4, tile=64)
    decoded = pair.decode(4)
    assert decoded["gt"].shape == decoded["teacher"].shape == (3, 96, 112)
    assert np.array_equal(decoded["gt"].transpose(1, 2, 0), places(1)["gt"])


def test_a_tile_is_of_one_place_and_of_any(pairs):
    recorded, seen = some(pairs), set()
    for number in range(200):
        tiles = recorded.tiles(number, seeded(0, number))
        lq, gt = tiles["lq"], tiles["gt"]
        assert lq.shape == (3, 16, 16)
        assert torch.equal(gt, lq.repeat_interleave(4, 1).repeat_interleave(4, 2) + MARK)
        if "teacher" in tiles:
            assert torch.equal(tiles["teacher"], gt + MARK)
        assert ("teacher" in tiles) == (int(lq[2, 0, 0]) == 1)
        seen.add((int(lq[0, 0, 0]) // 4, int(lq[1, 0, 0]) // 4))
    assert {top for top, _ in seen} == set(range(9))
    assert {left for _, left in seen} == set(range(13))


def test_flat_tiles_are_drawn_again(tmp_path):
    """Left half flat, right half noise: hardly a tile is of the flat part, against a third otherwise."""
    rng = np.random.default_rng(0)
    gt = np.full((64, 512, 3), 90, np.uint8)
    gt[:, 256:] = rng.integers(0, 255, (64, 256, 3))
    source = write(tmp_path, {"a.lq.png": np.ascontiguousarray(gt[::4, ::4]), "a.gt.png": gt})
    recorded = some(source)
    flat = [int(recorded.tiles(n, seeded(n))["gt"].float().std()) == 0 for n in range(100)]
    assert sum(flat) < 10


def test_pairs_are_drawn_by_their_area(tmp_path):
    source = write(tmp_path, members(1, height=16, width=16) | members(2, height=32, width=24))
    recorded = some(source)
    second = [int(recorded.tiles(0, seeded(n))["lq"][2, 0, 0]) == 2 for n in range(400)]
    assert sum(second) / 400 == pytest.approx(0.75, abs=0.07)


@pytest.mark.parametrize("lanes", [2, 8])
def test_two_processes_hold_their_own_pairs_and_cut_the_same(tmp_path, lanes):
    source = write_tar(tmp_path / "p.tar", {k: v for n in range(5) for k, v in members(n).items()})
    whole = some(source, lanes=lanes)
    halves = [some(source, lanes=lanes, own=range(k, k + lanes // 2)) for k in (0, lanes // 2)]
    for number in range(4 * lanes):
        half = halves[number % lanes >= lanes // 2]
        ours, theirs = (r.tiles(number, seeded(number)) for r in (half, whole))
        assert all(torch.equal(ours[role], theirs[role]) for role in theirs)
    assert {len(half._images) for half in halves} == ({2, 3} if lanes == 2 else {4})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"0001.gt.webp": None}, ["0001", "no gt image"]),
        ({"0001.lq.png": None}, ["0001", "no lq image"]),
        ({"0001.lq.png": None, "0001.gt.webp": None}, ["0001", "no lq image", "0001.teacher.webp"]),
        ({"0001.lq.jpg": places(1)["lq"]}, ["0001", "two lq images"]),
        ({"0001.gt.webp": places(1)["lq"]}, ["0001", "gt is 28x24", "112x96"]),
        ({"0001.gt.webp": places(1, extra=(4, 0))["gt"]}, ["0001", "gt is 112x100", "112x96", "up to 3 rows"]),
        ({"0001.gt.webp": places(1, 23)["gt"]}, ["0001", "gt is 112x92"]),
        ({"0001.teacher.webp": places(1, 23)["teacher"]}, ["0001", "teacher image is 112x92"]),
        (members(1, height=12), ["0001", "112x48", "--tile 48"]),
        ({"0001.gt.webp": b"no image"}, ["0001.gt.webp", "can't be decoded", "remove"]),
        ({"0001.gt.webp": encoded(places(1)["gt"], "WEBP")[:-40]}, ["0001.gt.webp", "can't be decoded"]),
    ],
)
@pytest.mark.parametrize("tar", [False, True])
def test_bad_pairs_are_named_in_one_line(tmp_path, change, words, tar):
    folder = write(tmp_path / "pairs", members(1) | members(2))
    for name, content in change.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)
        elif isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            write(folder, {name: content})
    source = folder
    if tar:
        source = tmp_path / "pairs.tar"
        with tarfile.open(source, "w") as file:
            file.add(folder, ".")
    with pytest.raises(UsageError) as caught:
        some(source)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_folder_without_pairs_says_how_to_name_them(photos):
    with pytest.raises(UsageError, match=r"no recorded pairs in .*NAME\.lq\.png"):
        some(photos)
    with pytest.raises(UsageError, match="no such training data: nowhere"):
        maker(pairs=("nowhere=2",))


def test_weights_are_read_from_the_name(tmp_path):
    assert pair_source("a/b.tar") == (Path("a/b.tar"), 1.0)
    assert pair_source("a/b-{0..3}.tar=2.5") == (Path("a/b-{0..3}.tar"), 2.5)
    assert pair_source("realsr/=1") == (Path("realsr"), 1.0)
    (tmp_path / "x=y").mkdir()
    assert pair_source(f"{tmp_path}/x=y") == (tmp_path / "x=y", 1.0)
    for wrong in ("a.tar=", "a.tar=0", "a.tar=-1", "a.tar=inf", "a.tar=many", "=2"):
        with pytest.raises(UsageError, match=r"--pairs takes .* weight"):
            config(pairs=(wrong,))
    with pytest.raises(UsageError, match="--data-weight"):
        config(pairs=("a.tar",), data_weight=0.0)


def test_sources_are_mixed_by_weight(tmp_path, photos):
    a, b = (write(tmp_path / name, members(number)) for name, number in (("a", 1), ("b", 2)))
    make = maker(data=(photos,), data_weight=0.5, pairs=(f"{a}=1", f"{b}=2.5"))
    assert not make.passed
    counts = np.bincount([make.source(number) for number in range(4000)])
    assert counts / 4000 == pytest.approx(np.array([0.125, 0.25, 0.625]), abs=0.03)
    assert [line.split(",")[-1].strip() for line in make.summary()] == [
        f"{x} of the pairs" for x in ("12%", "25%", "62%")
    ]
    numbers = [n for n in range(40) if make.source(n)]
    assert make(numbers).lq[:, 2, 0, 0].tolist() == [make.source(n) for n in numbers]
    (a / "raw.cr2").touch()
    said = []
    build_pool(config(pairs=(str(a),)), scale=4, device=CPU, say=said.append).close()
    assert said[0] == "passed over: 1 raw (develop them first, as 16-bit TIFF or JPEG)"
    only = maker(pairs=(str(a),))
    assert {only.source(number) for number in range(50)} == {1}


def test_without_recorded_pairs_nothing_changes(photos, pairs):
    """Photographs keep their crops and degradations, whatever is mixed in."""
    plain, mixed = maker(data=(photos,)), maker(data=(photos,), pairs=(str(pairs),))
    assert plain(range(3)).teacher is None
    numbers = [n for n in range(20) if mixed.source(n) == 0][:4]
    assert torch.equal(plain(numbers).lq, mixed(numbers).lq)
    assert torch.equal(plain(numbers).gt, mixed(numbers).gt)


def test_batches_hold_the_teachers_image_of_the_same_crop(photos, pairs):
    options = {"data": (photos,), "pairs": (f"{pairs}=2",), "crop": 32, "batch": 8, "pool": 32}
    pool = build_pool(config(**options), scale=4, device=CPU, say=lambda line: None)
    taught = 0
    for step in range(4):
        batch = pool.batch(step, 32)
        for lq, gt, teacher, has in zip(batch.lq, batch.gt, batch.teacher, batch.has_teacher, strict=True):
            taught += int(has)
            if not has:
                assert torch.equal(teacher, gt)
                continue
            assert (lq[2] * 255).round().unique().tolist() == [1]
            assert ((teacher - gt) * 255 - MARK).abs().max() < 1e-3
            enlarged = lq[None].repeat_interleave(4, 2).repeat_interleave(4, 3)[0]
            assert ((gt - enlarged) * 255 - MARK).abs().max() < 1e-3
    pool.close()
    assert 0 < taught < 32


def test_without_a_teacher_the_batch_has_the_targets(photos):
    pool = build_pool(config(data=(photos,)), scale=4, device=CPU, say=lambda line: None)
    batch = pool.batch(0, 32)
    pool.close()
    assert pool.teacher_SCHW is None
    assert batch.teacher is batch.gt
    assert batch.has_teacher.tolist() == [False] * 4


def test_two_processes_make_the_pairs_of_one(photos, pairs, network_file):
    options = {"data": (photos,), "pairs": (str(pairs),), "teacher": network_file}
    whole = maker(lanes=4, **options)(range(8))
    halves = [maker(lanes=4, own=own, **options) for own in (range(2), range(2, 4))]
    for number in range(8):
        one = halves[number % 4 >= 2]([number])
        assert torch.equal(one.lq[0], whole.lq[number])
        assert torch.equal(one.gt[0], whole.gt[number])
        assert torch.equal(one.teacher[0], whole.teacher[number])
        assert one.has_teacher[0] == whole.has_teacher[number]


def test_the_teacher_sees_what_has_no_teacher_yet(photos, pairs, network_file):
    make = maker(data=(photos,), pairs=(str(pairs),), teacher=network_file)
    made, network = make(range(24)), load_published(network_file)
    assert list(made.has_teacher) == [True] * 24
    recorded = 0
    for lq, gt, teacher in zip(made.lq, made.gt, made.teacher, strict=True):
        if torch.equal(teacher, gt + MARK):
            recorded += 1
            continue
        expected = (network(lq[None].float() / 255).clamp(0, 1) * 255).round()[0]
        assert (teacher - expected).abs().max() <= 1
    assert 0 < recorded < 24


def test_a_teacher_that_is_none_is_refused(photos, tmp_path, network_file):
    with pytest.raises(CheckpointError, match=r"no file .*none\.pth"):
        maker(data=(photos,), teacher=tmp_path / "none.pth")
    with pytest.raises(UsageError, match="enlarges 4 times"):
        Teacher(network_file, scale=2)


def test_a_killed_run_on_recorded_pairs_goes_on_to_the_same_bits(photos, pairs, network_file, tmp_path, monkeypatch):
    options = {
        "data": (photos,), "pairs": (f"{pairs}=2",), "teacher": network_file, "max_steps": 6, "save_steps": 2,
        "batch": 2, "log_every": 1, "discriminator_width": 8, "profile_flops": False,
    }  # fmt: skip
    whole, broken = (config(out=tmp_path / name, **options) for name in ("whole", "broken"))
    path = train(whole)
    train_until_killed(broken, monkeypatch, 3)
    train(replace(broken, resume=True))
    assert log_of(broken.out) == log_of(whole.out)
    ours, theirs = (torch.load(run.out / "state.pt", weights_only=True)["model"] for run in (broken, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    settings = load_model(path).info.provenance["stages"][0]["settings"]
    assert settings["pairs"] == ["pairs=2"]  # no path of this machine
    assert settings["teacher"] == "net.safetensors"
