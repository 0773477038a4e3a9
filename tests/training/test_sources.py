import io
import re
import tarfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("accelerate")

from realsrt.errors import UsageError
from realsrt.io.suffixes import PassedOver
from realsrt.training.sources import entries, expand


def picture(value, form):
    file = io.BytesIO()
    Image.fromarray(np.full((32, 40, 3), value, np.uint8)).save(file, form)
    return file.getvalue()


def write_tar(path, members):
    with tarfile.open(path, "w:gz" if path.suffix != ".tar" else "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def values(sources):
    return [int(entry.decode()[1, 3, 3]) for entry in entries(sources)]


MEMBERS = {
    "b.image.png": picture(20, "PNG"),
    "a.jpg": picture(10, "JPEG"),
    "a.json": b"{}",
    "a.cls": b"3",
    "a.txt": b"a word",
    "._a.jpg": b"AppleDouble",
    "deeper/._d.png": b"AppleDouble",
    "deeper/d.webp": picture(40, "WEBP"),
    "c.TIFF": picture(30, "TIFF"),
    "e.jpeg": picture(50, "JPEG"),
}


@pytest.mark.parametrize("name", ["shard.tar", "shard.tar.gz", "shard.tgz"])
def test_members_of_webdataset_tars(tmp_path, name):
    found = list(entries([write_tar(tmp_path / name, MEMBERS)]))
    assert [e.name.rpartition(":")[2] for e in found] == ["a.jpg", "b.image.png", "c.TIFF", "deeper/d.webp", "e.jpeg"]
    assert [int(e.decode()[1, 3, 3]) for e in found] == pytest.approx([10, 20, 30, 40, 50], abs=2)
    assert {(e.open().width, e.open().height) for e in found} == {(40, 32)}


def test_a_folder_passes_over_other_files(tmp_path):
    for name, content in MEMBERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for name in ("raw.CR2", "._raw.cr2", "clip.mp4", "phone.heic", "old.bmp"):
        (tmp_path / name).touch()
    assert values([tmp_path]) == pytest.approx([10, 20, 30, 40, 50], abs=2)
    passed = PassedOver()
    list(entries([tmp_path, write_tar(tmp_path / "more.tar", {"b.dng": b""})], passed))
    assert re.sub(r" \([^)]*\)", "", str(passed)) == "passed over: 2 raw, 1 video, 2 of other formats"


def test_patterns_name_shards(tmp_path):
    for number in range(9, 12):
        write_tar(tmp_path / f"data-{number:02d}.tar", {"x.png": picture(number, "PNG")})
    assert values([tmp_path / "data-{09..11}.tar"]) == [9, 10, 11]
    assert values([tmp_path / "data-{11,09}.tar"]) == [11, 9]
    with pytest.raises(UsageError, match=r"no such.*data-08\.tar"):
        values([tmp_path / "data-{08..11}.tar"])


def test_expansion(tmp_path):
    assert [p.name for p in expand(tmp_path / "a{0..1}-{x,y}.tar")] == ["a0-x.tar", "a0-y.tar", "a1-x.tar", "a1-y.tar"]
    assert [p.name for p in expand(tmp_path / "{id}.png")] == ["{id}.png"]
    (tmp_path / "{1,2}").mkdir()
    assert expand(tmp_path / "{1,2}") == [tmp_path / "{1,2}"]


def test_a_cut_archive_is_a_usage_error(tmp_path):
    path = write_tar(tmp_path / "shard.tar.gz", MEMBERS)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UsageError, match=r"shard\.tar\.gz can't be read") as caught:
        values([path])
    assert "\n" not in str(caught.value)


def test_a_bad_member_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"shard\.tar:x\.png can't be decoded"):
        values([write_tar(tmp_path / "shard.tar", {"x.png": b""})])
