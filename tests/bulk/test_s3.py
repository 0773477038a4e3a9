"""An object store in place of a disk: moto's server on this machine."""

import subprocess
import sys
import tarfile

import pytest

from realsrt.bulk.results import write_results
from realsrt.bulk.store import OutputStore
from support.bulk import QUICK_FLAGS, content, plan, run_here, work_for

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")


@pytest.fixture
def s3(monkeypatch):
    """A file system with an empty bucket; what is started from here finds it by the environment."""
    import s3fs

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    _, port = running.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    from realsrt.bulk.store import open_store

    open_store.cache_clear()
    fs = s3fs.S3FileSystem(use_listings_cache=False)
    fs.mkdir("bucket")
    yield fs
    fs.rm("bucket", recursive=True)
    running.stop()
    s3fs.S3FileSystem.clear_instance_cache()
    open_store.cache_clear()


def upload(fs, folder, where):
    for name, data in content(folder).items():
        fs.pipe_file(f"{where}/{name}", data)


def download(fs, where):
    names = [name for name in fs.find(where) if "/.realsrt" not in name and not name.endswith(".parquet")]
    return {name.removeprefix(f"{where}/"): fs.cat_file(name) for name in names}


@pytest.fixture
def batch(make, tmp_path):
    for seed, name in enumerate(("a.png", "x/b.jpg", "x/y/c.webp", "d.png")):
        make(tmp_path / "in" / name, 16 + seed, 20, seed)
    return tmp_path / "in"


@pytest.mark.timeout(300)
def test_from_and_to_a_bucket(s3, batch, tiny, tmp_path):
    upload(s3, batch, "bucket/in")
    s3.pipe_file("bucket/in/.hidden.png", b"x")
    local = run_here(plan(batch, tmp_path / "out"), work_for(tmp_path / "out", tiny))
    out = "s3://bucket/out"
    items = plan("s3://bucket/in", out)
    assert [item.key for item in items] == sorted(content(batch))
    outcomes = run_here(items, work_for(out, tiny))
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert download(s3, "bucket/out") == content(tmp_path / "out")
    assert {key: o.output_sha256 for key, o in outcomes.items()} == {k: o.output_sha256 for k, o in local.items()}
    assert write_results(OutputStore(out), outcomes.values()) == "s3://bucket/out/results.parquet"
    assert {o.status for o in run_here(items, work_for(out, tiny)).values()} == {"skipped"}
    damaged = bytearray(s3.cat_file("bucket/out/a.png"))
    damaged[-20] ^= 1
    s3.pipe_file("bucket/out/a.png", bytes(damaged))
    s3.rm_file("bucket/out/d.png")
    again = run_here(items, work_for(out, tiny))
    assert {key for key, outcome in again.items() if outcome.status == "done"} == {"a.png", "d.png"}
    assert download(s3, "bucket/out") == content(tmp_path / "out")
    assert [item.key for item in plan("s3://bucket", "s3://bucket/out")] == [
        f"in/{name}" for name in sorted(content(batch))
    ]


@pytest.mark.timeout(300)
def test_tars_and_manifests_in_a_bucket(s3, batch, tiny, tmp_path):
    with tarfile.open(tmp_path / "shard-0.tar", "w") as tar:
        tar.add(batch / "a.png", "a.png")
        tar.add(batch / "x" / "b.jpg", "x/b.jpg")
    s3.put_file(str(tmp_path / "shard-0.tar"), "bucket/shard-0.tar")
    upload(s3, batch, "bucket/in")
    s3.pipe_file("bucket/in/list.csv", b"path\nd.png\nx/y/c.webp\ns3://bucket/in/a.png\n")
    run_here(plan(batch, tmp_path / "out"), work_for(tmp_path / "out", tiny))
    expected = content(tmp_path / "out")
    for source, keys in {
        "s3://bucket/shard-*.tar": {"shard-0/a.png": "a.png", "shard-0/x/b.jpg": "x/b.jpg"},
        "s3://bucket/in/list.csv": {"d.png": "d.png", "x/y/c.webp": "x/y/c.webp", "bucket/in/a.png": "a.png"},
    }.items():
        out = f"s3://bucket/{len(keys)}"
        outcomes = run_here(plan(source, out), work_for(out, tiny))
        assert {outcome.status for outcome in outcomes.values()} == {"done"}, outcomes
        assert download(s3, out.removeprefix("s3://")) == {key: expected[name] for key, name in keys.items()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_from_bucket_to_bucket(s3, batch, tiny, tmp_path):
    upload(s3, batch, "bucket/in")
    s3.pipe_file("bucket/in/bad.png", b"words")
    argv = [sys.executable, "-m", "realsrt", "bulk", "s3://bucket/in", "s3://bucket/out", "--model-path", str(tiny)]
    argv += ["--num-actors", "2", "-g", "cpu", "--object-store-mb", "200", *QUICK_FLAGS]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stderr
    assert "s3://bucket/in/bad.png" in ran.stderr
    run_here(plan(batch, tmp_path / "out"), work_for(tmp_path / "out", tiny))
    assert download(s3, "bucket/out") == content(tmp_path / "out")
    assert s3.exists("bucket/out/results.parquet")
