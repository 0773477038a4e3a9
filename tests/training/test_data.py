import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("accelerate")

from realsrt.errors import UsageError
from realsrt.training.data import ImageSet, derive_seed, detail, detail_map, orient, seeded
from realsrt.training.sources import Entry


def encode(array, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form)
    return file.getvalue()


def flat(value, height=40, width=48):
    """One colour that tells which file it came from."""
    return np.full((height, width, 3), value, np.uint8)


def colours(pictures):
    return [int(picture[0, 0, 0]) for picture in pictures.images]


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    (folder / "b.png").write_bytes(encode(flat(20)))
    (folder / "a.PNG").write_bytes(encode(flat(10)))
    (folder / "deeper" / "c.webp").write_bytes(encode(flat(30), "WEBP"))
    (folder / "notes.txt").write_text("not a picture")
    (folder / "small.png").write_bytes(encode(flat(99, 31, 48)))
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, content in (
            ("1.png", encode(flat(50))),
            ("0.jpg", encode(flat(40), "JPEG")),
            ("0.json", b"{}"),
            ("tiny.png", encode(flat(99, 40, 31))),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (tmp_path / "single.png").write_bytes(encode(flat(60)))
    return [folder, tmp_path / "shard.tar", tmp_path / "single.png"]


def test_folders_tars_and_files_in_name_order_without_the_small_ones(sources):
    pictures = ImageSet(sources, min_side=32)
    assert colours(pictures) == [10, 20, 30, 40, 50, 60]
    assert pictures.megapixels == pytest.approx(6 * 40 * 48 / 1e6)
    assert all(p.dtype == torch.uint8 and p.shape == (3, 40, 48) for p in pictures.images)


def test_sources_may_be_any_iterable_and_are_named_when_useless(sources):
    assert colours(ImageSet(iter(sources[2:]), min_side=32)) == [60]
    with pytest.raises(UsageError, match=r"at least 64 px in .*single\.png"):
        ImageSet(iter(sources[2:]), min_side=64)


@pytest.mark.parametrize("lanes", [2, 4, 6, 16])
def test_two_ranks_hold_their_own_pictures_and_crop_the_same(sources, lanes):
    whole = ImageSet(sources, min_side=32, lanes=lanes)
    halves = [ImageSet(sources, min_side=32, lanes=lanes, own=range(k, k + lanes // 2)) for k in (0, lanes // 2)]
    for number in range(3 * lanes):
        half = halves[number % lanes >= lanes // 2]
        assert torch.equal(half.crop(number, 32), whole.crop(number, 32))
    assert [h.count for h in halves] == [6, 6]
    if lanes <= 6:
        assert colours(halves[0]) == [c for i, c in enumerate(colours(whole)) if i % lanes < lanes // 2]
        assert len(halves[0].images) + len(halves[1].images) == 6
    else:  # fewer pictures than lanes: lane 8 shares with lane 2
        assert len(halves[0].images) == 6


def test_pixels_of_other_ranks_are_not_decoded(sources, monkeypatch):
    decoded = []
    decode = Entry.decode
    monkeypatch.setattr(Entry, "decode", lambda entry: decoded.append(entry.name) or decode(entry))
    ImageSet(sources, min_side=32, lanes=6, own=[4])
    assert [name.rpartition(":")[2] for name in decoded] == ["1.png"]


def test_the_detail_map_is_the_mean_step():
    pixels = np.random.default_rng(0).integers(0, 255, (3, 128, 96), np.uint8)
    pixels[:, :, 48:] //= 16
    table = detail_map(pixels)
    green = pixels[1, ::2, ::2].astype(float)
    for top, left, size in ((16, 16, 32), (32, 64, 32), (64, 0, 48)):
        part = green[top // 2 : (top + size) // 2, left // 2 : (left + size) // 2]
        expected = np.abs(np.diff(part, axis=0)).mean() + np.abs(np.diff(part, axis=1)).mean()
        assert detail(table, top, left, size) == pytest.approx(expected, rel=0.1)
    assert detail(detail_map(np.full((3, 41, 33), 9, np.uint8)), 5, 1, 32) == 0


@pytest.mark.parametrize(
    ("mode", "expected"), [("L", (7, 7, 7)), ("RGBA", (7, 8, 9)), ("I;16", (7, 7, 7)), ("P", (7, 8, 9))]
)
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode, expected):
    array = np.broadcast_to(np.array([7, 8, 9], np.uint8), (32, 32, 3))
    if mode == "I;16":
        image = Image.fromarray(np.full((32, 32), 7 * 257, np.uint16))
    elif mode == "L":
        image = Image.fromarray(array[..., 0].copy())
    else:
        image = Image.fromarray(array.copy()).convert(mode, palette=Image.Palette.ADAPTIVE)
    image.save(tmp_path / "x.png")
    (picture,) = ImageSet([tmp_path], min_side=32).images
    assert picture.shape == (3, 32, 32)
    assert tuple(picture[:, 5, 5].tolist()) == expected


def test_crop_is_a_function_of_seed_and_number(photos):
    pictures, again = (ImageSet([photos], min_side=64, seed=3) for _ in range(2))
    crops = [pictures.crop(number, 64) for number in range(12)]
    assert all(crop.shape == (3, 64, 64) and crop.dtype == torch.uint8 and crop.is_contiguous() for crop in crops)
    for number in reversed(range(12)):  # neither the order nor the object matters
        assert torch.equal(again.crop(number, 64), crops[number])
    assert not any(torch.equal(crops[i], crops[j]) for i in range(12) for j in range(i))
    other = ImageSet([photos], min_side=64, seed=4)
    assert not torch.equal(other.crop(0, 64), crops[0])


def test_cropping_does_not_read_the_device(photos):
    pictures = ImageSet([photos], min_side=64, device="meta")  # has no values: reading one raises
    assert pictures.crops([3, 1, 4], 64).shape == (3, 3, 64, 64)


def test_pictures_are_drawn_by_area(tmp_path):
    noise = np.random.default_rng(0).integers(0, 100, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    Image.fromarray(noise[:100, :100] + 150).save(tmp_path / "small.png")
    pictures = ImageSet([tmp_path], min_side=32)
    from_small = sum(int(pictures.crop(n, 32).min() >= 150) for n in range(300))
    assert 12 <= from_small <= 50  # a tenth of the area


def test_a_crop_without_detail_is_drawn_again(tmp_path):
    array = flat(128, 256, 256)
    array[:, 128:] = np.random.default_rng(0).integers(0, 255, (256, 128, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "half.png")
    pictures = ImageSet([tmp_path], min_side=32)
    blank = sum(int(pictures.crop(n, 32).float().std() < 1) for n in range(200))
    assert blank < 30  # 200 · 0.43 crops would be without the second chances; 200 · 0.43⁴ ≈ 7 remain
    Image.fromarray(flat(128, 64, 64)).save(tmp_path / "half.png")
    assert ImageSet([tmp_path], min_side=32).crop(0, 32).float().std() == 0  # it does not look for ever


def test_orient_has_eight_cases():
    image = torch.arange(16).view(1, 4, 4)
    turned = [orient(image, turn) for turn in range(8)]
    assert torch.equal(turned[0], image)
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 8
    corners = {int(x) for x in (image[0, 0, 0], image[0, 0, -1], image[0, -1, 0], image[0, -1, -1])}
    for t in turned:
        assert {int(x) for x in (t[0, 0, 0], t[0, 0, -1], t[0, -1, 0], t[0, -1, -1])} == corners


def test_seeds_differ_in_every_part():
    parts = [(0, 1, 2), (0, 2, 1), (1, 1, 2), (2, 1, 0), (0, 1, 3)]
    assert len({derive_seed(*p) for p in parts}) == len(parts)
    assert all(0 <= derive_seed(*p) < 2**63 for p in parts)
    assert torch.equal(torch.rand(3, generator=seeded(5, 6)), torch.rand(3, generator=seeded(5, 6)))


def spoil(tmp_path, case):
    path = tmp_path / {"cut": "cut.png", "text": "text.jpg", "tar": "bad.tar"}.get(case, case)
    if case == "cut":
        path.write_bytes(encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[:2000])
    elif case == "text":
        path.write_text("hello")
    elif case == "tar":
        path.write_bytes(b"no tar at all" * 100)
    elif case == "empty":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("absent", ["no such", "absent"]),
        ("absent.tar", ["no such", "absent.tar"]),
        ("empty", ["no photograph", "32 px"]),
        ("cut", ["cut.png", "decoded"]),
        ("text", ["text.jpg", "decoded"]),
        ("tar", ["bad.tar", "read"]),
    ],
)
def test_useless_data_is_a_usage_error(tmp_path, case, words):
    with pytest.raises(UsageError) as caught:
        ImageSet([spoil(tmp_path, case)], min_side=32)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_no_source_at_all_names_the_option():
    with pytest.raises(UsageError, match="--data"):
        ImageSet([], min_side=32)
