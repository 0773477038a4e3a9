"""Which pictures a folder, a manifest or tars hold, and what is refused before any work."""

import io
import os
import tarfile

import pytest

from realsrt.bulk.sources import plan_items
from realsrt.bulk.store import OutputStore
from realsrt.errors import UsageError

fsspec = pytest.importorskip("fsspec")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def plan(source, tmp_path, **more):
    return plan_items(str(source), OutputStore(str(tmp_path / "out")), **more)


def targets(items):
    return {item.key: item.target for item in items}


def put_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_folder_keeps_its_structure(make, tmp_path):
    for name in ("b.png", "x/a.jpg", "x/y/c.webp", ".hidden/d.png", "x/.e.png", "out/old.png"):
        make(tmp_path / name)
    (tmp_path / "words.txt").write_text("no picture")
    os.symlink(tmp_path, tmp_path / "x" / "loop")
    found = targets(plan(tmp_path, tmp_path, suffix="_x4", ext="auto"))
    assert found == {"b.png": "b_x4.png", "x/a.jpg": "x/a_x4.jpg", "x/y/c.webp": "x/y/c_x4.webp"}
    assert set(targets(plan(tmp_path, tmp_path, ext="png")).values()) == {"b.png", "x/a.png", "x/y/c.png"}


def test_a_manifest_of_paths_urls_and_keys(make, tmp_path):
    a, b = make(tmp_path / "in" / "a.png"), make(tmp_path / "else" / "b.jpg")
    listed = tmp_path / "in" / "list.csv"
    listed.write_text(f"path,label\na.png,1\n{b},2\n../else/b.jpg,3\n")
    with pytest.raises(UsageError, match=r"'\.\./else/b.jpg' would leave the output folder"):
        plan(listed, tmp_path)
    listed.write_text(f"path,key\na.png,\n{b},given/name.jpg\n")
    found = plan(listed, tmp_path)
    assert {item.key: item.uri for item in found} == {"a.png": str(a), "given/name.jpg": str(b)}
    pq.write_table(pa.table({"url": ["s3://bucket/x/a.png", str(b)], "n": [1, 2]}), tmp_path / "list.parquet")
    found = plan(tmp_path / "list.parquet", tmp_path)
    assert {item.key: item.uri for item in found} == {
        "bucket/x/a.png": "s3://bucket/x/a.png",
        str(b).lstrip("/"): str(b),
    }


@pytest.mark.parametrize(
    "names, paths, keys",
    [
        (("path", "key"), ["a.png", "b.png"], [1, 2]),
        (("Path", "KEY"), [1, 2], ["x/1", "x/2"]),
        (("URL", "n"), pa.array(["a.png", "b.png"]).dictionary_encode(), [[1], []]),
    ],
)
def test_a_manifests_values_are_text_whatever_their_types(tmp_path, names, paths, keys):
    table = pa.table({names[0]: paths, names[1]: keys})
    expected = [*map(str, table.column(int(names[1] != "n")).to_pylist())]
    pq.write_table(table, tmp_path / "list.parquet")
    assert [item.key for item in plan(tmp_path / "list.parquet", tmp_path)] == expected
    lines = [",".join(names), *(f"{path},{key}" for path, key in zip(*table.to_pydict().values(), strict=True))]
    (tmp_path / "list.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    found = plan(tmp_path / "list.csv", tmp_path)
    assert [item.key for item in found] == expected
    assert [item.uri for item in found] == [str(tmp_path / str(path)) for path in table.column(0).to_pylist()]


def test_tars_by_name_and_glob(make, tmp_path):
    content = make(tmp_path / "a.png").read_bytes()
    for shard in ("s-0.tar", "s-1.tar"):
        put_tar(tmp_path / shard, {"k1.png": content, "k1.json": b"{}", "./sub/k2.jpg": content, "._k3.png": b"x"})
    found = plan(tmp_path / "s-*.tar", tmp_path)
    assert [item.key for item in found] == ["s-0/k1.png", "s-0/sub/k2.jpg", "s-1/k1.png", "s-1/sub/k2.jpg"]
    with open(found[0].uri, "rb") as file:
        file.seek(found[0].start)
        assert file.read(found[0].length) == content
    put_tar(tmp_path / "evil.tar", {"../k.png": content})
    with pytest.raises(UsageError, match="would leave the output folder"):
        plan(tmp_path / "evil.tar", tmp_path)


def test_what_is_passed_over_is_counted(make, tmp_path):
    content, told = make(tmp_path / "in" / "a.png").read_bytes(), []
    for name in ("b.arw", "c.MP4"):
        (tmp_path / "in" / name).touch()
    put_tar(tmp_path / "s.tar", {"a.png": content, "x/b.arw": b"x", "._c.arw": b"x"})
    files = fsspec.filesystem("memory")
    files.pipe({"/bucket/a.png": content, "/bucket/x/b.arw": b"x", "/bucket/.c/d.arw": b"x"})
    for source in (tmp_path / "in", tmp_path / "s.tar", "memory://bucket"):
        assert len(plan(source, tmp_path / "out", tell=told.append)) == 1
    assert [line.partition(" (")[0] for line in told] == ["passed over: 1 raw"] * 3
    assert "), 1 video (" in told[0]
    assert "video" not in told[1] + told[2]
    files.rm("/bucket/a.png")
    with pytest.raises(UsageError, match="no images there; passed over: 1 raw"):
        plan("memory://bucket", tmp_path / "out")


@pytest.mark.parametrize(
    "source, words",
    [
        ("nowhere", "no such file or folder"),
        ("empty", "no images there"),
        ("one.png", "realsrt upscale takes it"),
        ("no-*.tar", "no such file or folder"),
        ("cut.tar", "cannot be read"),
        ("some.tar.gz", "decompress it"),
        ("bad.parquet", "no manifest that can be read"),
        ("lists.parquet", "no manifest that can be read"),
        ("bytes.csv", "no manifest that can be read"),
        ("quotes.csv", "no manifest that can be read"),
        ("more.csv", "row 2 has more or fewer values"),
        ("fewer.csv", "row 1 has more or fewer values"),
        ("other.csv", "no column named path"),
        ("nosuch://x", "nosuch"),
    ],
)
def test_sources_that_are_none(make, tmp_path, source, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    make(tmp_path / "one.png")
    (tmp_path / "cut.tar").write_bytes(b"words" * 300)
    (tmp_path / "bad.parquet").write_bytes(b"words")
    (tmp_path / "other.csv").write_text("file\na.png\n")
    pq.write_table(pa.table({"path": [["a.png"]]}), tmp_path / "lists.parquet")
    (tmp_path / "bytes.csv").write_bytes(b"path\n\xff.png\n")
    (tmp_path / "quotes.csv").write_text('path\n"a"b.png\n')
    (tmp_path / "more.csv").write_text("path\na.png\nb.png,c.png\n")
    (tmp_path / "fewer.csv").write_text("path,key\na.png\n")
    with pytest.raises(UsageError, match=words) as caught:
        plan(source, tmp_path)
    assert "\n" not in str(caught.value)


def test_collisions_are_refused(make, tmp_path):
    for name in ("in/a.png", "in/a.jpg", "in/b_confidence.png", "in/b.png"):
        make(tmp_path / name)
    with pytest.raises(UsageError, match=r"a.jpg and .*a.png would both become a.png"):
        plan(tmp_path / "in", tmp_path, ext="png")
    (tmp_path / "in" / "a.jpg").unlink()
    with pytest.raises(UsageError, match=r"would both become b_confidence.png"):
        plan(tmp_path / "in", tmp_path, companions=["_confidence.png"])
    with pytest.raises(UsageError, match="is an input too"):
        plan_items(str(tmp_path / "in"), OutputStore(str(tmp_path / "in")))
    with pytest.raises(UsageError, match="cannot write"):
        plan(tmp_path / "in", tmp_path, ext="bmp")


def test_inputs_are_not_overwritten_by_another_name_of_theirs(make, tmp_path):
    image = make(tmp_path / "in" / "a.png")
    (tmp_path / "links").mkdir()
    try:
        os.symlink(tmp_path / "in", tmp_path / "link")
        os.symlink(image, tmp_path / "links" / "a.png")
    except OSError:
        pytest.skip("links cannot be made here")
    for name, row in (("path", str(image)), ("url", f"file://{image}")):
        (tmp_path / f"{name}.csv").write_text(f"{name},key\n{row},a.png\n")
    for source in ("link", "links", "path.csv", "url.csv"):
        with pytest.raises(UsageError, match="is an input too"):
            plan_items(str(tmp_path / source), OutputStore(str(tmp_path / "in")))
    with pytest.raises(UsageError, match="is an input too"):
        plan_items(str(tmp_path / "in"), OutputStore(str(tmp_path / "link")))
    pq.write_table(pa.table({"path": [str(image)], "key": ["b.png"]}), tmp_path / "in" / "results.parquet")
    with pytest.raises(UsageError, match=r"results.parquet is an input too"):
        plan_items(str(tmp_path / "in" / "results.parquet"), OutputStore(str(tmp_path / "in")))
    (item,) = plan(tmp_path / "url.csv", tmp_path)
    assert item.uri == str(image)


def test_names_that_differ_in_case_only_collide_where_they_are_one_file(make, tmp_path, monkeypatch):
    make(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("path,key\na.png,x/photo.png\na.png,x/Photo.png\n")
    monkeypatch.setattr("realsrt.batch.plan._case_blind", lambda folder: True)
    with pytest.raises(UsageError, match="would both become"):
        plan(tmp_path / "list.csv", tmp_path)
