"""`realsrt bulk` around its stages, which run here and not on Ray."""

import contextlib
from types import SimpleNamespace

import pytest

from realsrt.cli import main
from realsrt.errors import UsageError
from support.bulk import QUICK_FLAGS, run_here

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")


@pytest.fixture
def bulk(tiny, monkeypatch):
    """A function: source, output, flags → the exit status."""
    ray = SimpleNamespace(cluster_resources=lambda: {"CPU": 1})
    monkeypatch.setattr("realsrt.bulk.cluster.ray_running", lambda *_: contextlib.nullcontext(ray))
    monkeypatch.setattr("realsrt.bulk.run.run", lambda ray, items, work, *_: run_here(items, work).values())
    return lambda source, out, *flags: main(
        ["bulk", str(source), str(out), "--model-path", str(tiny), "-g", "cpu", *QUICK_FLAGS, *flags]
    )


def test_without_its_extra_no_folder_is_left(bulk, make, tmp_path, monkeypatch, capsys):
    def missing(*_):
        raise UsageError("bulk needs ray")

    monkeypatch.setattr("realsrt.bulk.cluster.ray_running", missing)
    make(tmp_path / "in" / "a.png")
    assert bulk(tmp_path / "in", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_maps_left_from_before_are_named_in_one_line(bulk, make, tmp_path, capsys, where):
    out = tmp_path / "out" if where == "disk" else "memory://left"
    for name in ("a.png", "x/b.png", "x/b_trust.png", "c.png"):
        make(tmp_path / "in" / name)
    assert bulk(tmp_path / "in", out, "--confidence") == 0
    assert "made before" not in capsys.readouterr().err
    (tmp_path / "in" / "c.png").write_text("words")  # fails: nothing beside it is of another image
    assert bulk(tmp_path / "in", out) == 1
    assert (
        f"realsrt: note: {out}: named like files of these images, but made before: "
        "3 confidence maps (a_confidence.png, …)\n"
    ) in capsys.readouterr().err
