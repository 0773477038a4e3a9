import sys

import pytest
import torch

from realsrt.errors import ImageError, UsageError
from realsrt.evaluation import contact_sheet


def planted(height=200, width=240):
    clean = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    damaged = clean.clone()
    damaged[..., 104:136, 160:192] += 0.3
    damaged[..., 24:40, 24:40] += 0.1
    return clean, damaged


def covers(found, top, left, side):
    row, column, _ = found
    return row <= top and column <= left and row + side >= top + 32 and column + side >= left + 32


def test_the_planted_spot_comes_first_and_the_second_elsewhere():
    first, second = contact_sheet.most_different(*planted(), side=64, count=2)
    assert covers(first, 104, 160, 64)
    assert second[0] <= 24
    assert second[1] <= 24
    assert first[2] > second[2] > 0


def test_equal_pictures_and_small_ones():
    clean, _ = planted(20, 12)
    assert contact_sheet.most_different(clean, clean, side=64, count=3) == [(0, 0, 0.0)]
    with pytest.raises(ValueError, match="shapes differ"):
        contact_sheet.most_different(clean, clean[..., :8])


def test_panels_are_cut_at_the_same_place():
    clean, damaged = planted()
    low = clean[..., ::4, ::4]
    (crop,) = contact_sheet.crops(
        "a", {"input": low, "result": damaged, "target": clean}, ("result", "target"), count=1, side=64
    )
    top, left, _ = contact_sheet.most_different(damaged, clean, side=64)[0]
    assert {label: tuple(panel.shape) for label, panel in crop.panels.items()} == {
        "input": (3, 16, 16), "result": (3, 64, 64), "target": (3, 64, 64),
    }  # fmt: skip
    assert torch.equal(crop.panels["input"], crop.panels["target"][:, ::4, ::4])
    assert torch.equal(crop.panels["target"], (clean[0, :, top : top + 64, left : left + 64] * 255).round().byte())


def test_every_picture_before_any_second_place():
    def crop(title, difference, rank):
        return contact_sheet.Crop(title, difference, {}, rank)

    found = [crop("a", 0.3, 0), crop("a2", 0.2, 1), crop("b", 0.1, 0), crop("b2", 0.05, 1)]
    assert [row.title for row in contact_sheet.choose(found, 3)] == ["a", "b", "a2"]


def test_the_sheet_holds_the_crops(tmp_path):
    image = pytest.importorskip("PIL.Image")
    panels = {"A": torch.full((3, 96, 96), 50).byte(), "Ä ←": torch.full((3, 24, 24), 200).byte()}
    rows = [contact_sheet.Crop("naïve ∞", 0.1, panels), contact_sheet.Crop("b", 0.1, panels)]
    contact_sheet.save(tmp_path / "s.png", rows, title="a sheet")
    sheet = image.open(tmp_path / "s.png")
    colours = {colour: count for count, colour in sheet.getcolors(1 << 24)}
    assert colours[50, 50, 50] >= 2 * 288 * 288
    assert colours[200, 200, 200] >= 2 * 288 * 288
    with pytest.raises(ImageError, match="cannot be written"):
        contact_sheet.save(tmp_path / "nowhere" / "s.png", rows, title="a sheet")


def test_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r"a sheet needs PIL.*pip install"):
        contact_sheet.pillow()
