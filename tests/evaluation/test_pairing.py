import math

import numpy as np
import pytest
import torch

from realsrt.errors import ImageError, UsageError
from realsrt.evaluation import pairing, registry
from realsrt.io import image as imageio
from realsrt.io.picture import Picture


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(matched):
    return {name: [path.name for path in files.values()] for name, files in matched.groups.items()}


def test_pairs_by_name_not_by_order(tmp_path):
    results = touch(tmp_path / "r", "b.png", "10.png", "9.png")
    targets = touch(tmp_path / "t", "9.webp", "a.jpg", "10.jpg", "b.tif")
    matched = pairing.match({"result": results, "target": targets})
    assert names(matched) == {"10": ["10.png", "10.jpg"], "9": ["9.png", "9.webp"], "b": ["b.png", "b.tif"]}
    assert matched.alone == {"target": (targets / "a.jpg",)}


def test_suffix_and_folders(tmp_path):
    results = touch(
        tmp_path / "r", "a_x4.png", "sub/a_x4.png", "a_confidence.png", ".hidden_x4.png", "a_x4.txt", "b.png"
    )
    targets = touch(tmp_path / "t", "a.png", "b.png", "sub/a.png")
    matched = pairing.match({"result": results, "target": targets}, suffixes={"result": "_x4"}, recursive=True)
    assert matched.groups == {
        "a": {"result": results / "a_x4.png", "target": targets / "a.png"},
        "sub/a": {"result": results / "sub/a_x4.png", "target": targets / "sub/a.png"},
    }
    assert matched.alone == {
        "result": (results / "a_confidence.png", results / "b.png"),
        "target": (targets / "b.png",),
    }
    flat = pairing.match({"result": results, "target": targets}, suffixes={"result": "_x4"})
    assert list(flat.groups) == ["a"]
    with pytest.raises(UsageError, match="--suffix"):
        pairing.match({"result": touch(tmp_path / "other", "a_out.png"), "target": targets})


def test_folders_that_share_no_name_are_the_ones_named(tmp_path):
    a, b, other = (touch(tmp_path / folder, f"{name}.png") for folder, name in (("a", "x"), ("b", "x"), ("t", "y")))
    empty, said = touch(tmp_path / "e", "x.txt", "1.cr2", "2.nef"), []
    with pytest.raises(UsageError, match=r"^no image in \S+/a has the name of one in \S+/t:"):
        pairing.match({"A": a, "B": b, "target": other})
    with pytest.raises(UsageError, match=r"/e: no images in this folder; passed over: 2 raw \(develop them"):
        pairing.match({"A": a, "B": empty})
    touch(a, "3.cr2", ".4.cr2")
    pairing.match({"A": a, "B": b}, tell=said.append)
    assert said == ["passed over: 1 raw (develop them first, as 16-bit TIFF or JPEG)"]
    for folder, names in ((a, "qr"), (b, "rs"), (other, "qs")):
        touch(folder, *(f"{name}.png" for name in names))
    (a / "x.png").unlink()
    with pytest.raises(UsageError, match=r"^no name is that of an image in each of \S+/a, \S+/b, \S+/t; passed"):
        pairing.match({"A": a, "B": b, "target": other})


def test_what_is_not_clear_is_refused(tmp_path):
    results, targets = touch(tmp_path / "r", "a.png", "a.jpg"), touch(tmp_path / "t", "a.png")
    with pytest.raises(UsageError, match="both named 'a'"):
        pairing.match({"result": results, "target": targets})
    with pytest.raises(UsageError, match="no such file or folder"):
        pairing.match({"result": tmp_path / "nowhere"})
    with pytest.raises(UsageError, match="is a file"):
        pairing.match({"result": results / "a.png", "target": targets})
    both = pairing.match({"result": results / "a.jpg", "target": targets / "a.png"})
    assert names(both) == {"a": ["a.jpg", "a.png"]}


def test_optional_roles_may_be_missing(tmp_path):
    results, inputs = touch(tmp_path / "r", "a.png", "b.png"), touch(tmp_path / "i", "b.png", "c.png")
    matched = pairing.match({"result": results, "input": inputs}, optional=["input"])
    assert names(matched) == {"a": ["a.png"], "b": ["b.png", "b.png"]}
    assert matched.alone == {}


def test_border_is_left_out_of_every_metric():
    x = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    y = x.clone()
    y[..., :3] = 0
    metrics = registry.build(["psnr", "psnr_y"])
    assert pairing.measure(metrics, x, y, source="a", border=3) == {"psnr": math.inf, "psnr_y": math.inf}
    assert pairing.measure(metrics, x, y, source="a", border=2)["psnr"] < 30
    with pytest.raises(ImageError, match="a: nothing is left"):
        pairing.measure(metrics, x, y, source="a", border=10)
    with pytest.raises(ImageError, match=r"a\.png: is 20x24 px, but its target is 19x24"):
        pairing.measure(metrics, x, y[..., :19], source="a.png")


def test_a_metric_that_cannot_be_measured_names_file_and_metric():
    x = torch.rand(1, 3, 24, 20)
    with pytest.raises(ImageError, match=r"a\.png: ms_ssim cannot be measured: MS-SSIM needs sides of 176 px"):
        pairing.measure(registry.build(["ms_ssim"]), x, x, source="a.png")


def test_load_and_crop(tmp_path):
    pixels = np.arange(7 * 9, dtype=np.uint8).reshape(7, 9)
    imageio.write(tmp_path / "g.png", Picture.from_array(pixels))
    image = pairing.load(tmp_path / "g.png")
    assert image.shape == (1, 3, 7, 9)
    assert float(image[0, 2, 1, 0] * 255) == pytest.approx(9)
    assert torch.equal(pairing.crop_multiple(image, 4), image[..., :4, :8])


def test_comparison_is_paired_and_says_b_minus_a():
    up, down = registry.build(["psnr"])[0], registry.Metric("d", False, True, 4, lambda x, y: 0.0)
    a, b = [10.0, 30.0, 20.0, 25.0, 12.0, 28.0], [10.5, 30.6, 20.4, 25.5, 12.4, 28.6]
    found = pairing.compare(up, a, b)
    assert found.difference.mean == pytest.approx(0.5)
    assert 0.4 <= found.difference.low < 0.5 < found.difference.high <= 0.6  # far narrower than the spread of a
    assert (found.wins_a, found.wins_b, found.verdict) == (0, 6, "B better")
    turned = pairing.compare(down, a, b)
    assert (turned.wins_a, turned.wins_b, turned.verdict) == (6, 0, "A better")
    assert pairing.compare(up, b, a).verdict == "A better"
    assert pairing.compare(up, [1.0, 2.0] * 3, [2.0, 1.0] * 3).verdict == "unclear"
    assert pairing.compare(up, b[:5], a[:5]).verdict == "too few pairs"
    with pytest.raises(ValueError):
        pairing.compare(up, [1.0], [1.0, 2.0])


def test_equal_pictures_do_not_spoil_a_comparison():
    up = registry.build(["psnr"])[0]
    found = pairing.compare(up, [math.inf, 20.0], [math.inf, 21.0])
    assert found.difference.mean == 0.5
    assert found.wins_b == 1
    assert found.a.mean == math.inf
    assert math.isnan(found.a.low)
