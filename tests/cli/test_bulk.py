"""`realsrt bulk` as far as it goes without Ray: what is refused, and how the machine is shared out."""

import pytest

from realsrt.bulk.cluster import Share, shares
from realsrt.cli import main
from realsrt.errors import UsageError


@pytest.mark.parametrize(
    "argv, words",
    [
        (["nowhere", "out"], "no such file or folder"),
        (["in", "out", "--num-actors", "0"], "--num-actors takes auto or a number"),
        (["in", "out", "--max-tries", "0"], "--max-tries must be at least 1"),
        (["in", "out", "--resize", "big"], "--resize takes"),
        (["in", "out", "--stride", "7"], "stride must be"),
        (["in", "out", "--fp32", "--precision", "bf16"], "contradicts"),
        (["in", "in"], "is an input too"),
        (["in"], "dst"),
        (["raws", "out"], "no images there; passed over: 1 raw"),
    ],
)
def test_usage(argv, words, tmp_path, monkeypatch, capsys):
    """Before Ray is started."""
    pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("words")
    (tmp_path / "raws").mkdir()
    (tmp_path / "raws" / "a.nef").touch()
    assert main(["bulk", *argv]) == 2
    said = capsys.readouterr().err
    assert words in said.lower()
    assert said.count("\n") == 1


def test_what_is_passed_over_is_told(tmp_path, capsys):
    pytest.importorskip("fsspec")
    for name in ("a.png", "b.nef", "c.nef"):
        (tmp_path / name).touch()
    assert main(["bulk", str(tmp_path), str(tmp_path / "out"), "--stride", "7"]) == 2
    assert capsys.readouterr().err.startswith("realsrt: note: passed over: 2 raw (develop them first")


def test_without_the_extra(tmp_path, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert main(["bulk", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "pip install '.[bulk]'" in capsys.readouterr().err


def test_no_core_computes_twice():
    assert shares({"CPU": 16}, None, None, None, "auto", 1000) == Share(16, 1, 0.5, 0, 0.25, 8, "cpu")
    assert shares({"CPU": 16}, 4, None, None, "cpu", 1000) == Share(4, 4, 3.5, 0, 0.25, 8, "cpu")
    assert shares({"CPU": 16}, None, 8, 2, "cpu", 1000) == Share(2, 8, 7.5, 0, 0.25, 2, "cpu")
    assert shares({"CPU": 16, "GPU": 2}, None, None, None, "auto", 1000) == Share(2, 1, 0.5, 1, 1, 32, "cuda")
    assert shares({"CPU": 2}, None, None, None, "auto", 5).batch == 1
    for wanted in ({"actors": 3, "threads": 1}, {"actors": 1, "threads": 4}):
        with pytest.raises(UsageError, match="there are 2 CPUs"):
            shares({"CPU": 2}, batch=None, device="cpu", images=9, **wanted)
    with pytest.raises(UsageError, match="Ray knows of 0"):
        shares({"CPU": 2}, None, None, None, "cuda", 9)
