"""The real command on a real Ray: bytes, memory, and what is left when workers, nodes and drivers are killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import pyvips

from realsrt.bulk.store import HOUSEKEEPING
from support.bulk import QUICK_FLAGS, content, wait_for

pytest.importorskip("ray")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
COUNT = int(os.environ.get("REALSRT_BULK_PICTURES", "500"))
TESTS = Path(__file__).parent


class Run:
    """`realsrt bulk` in a process of its own."""

    def __init__(self, source, out, tiny, log, *flags, **env):
        path = os.pathsep.join([str(TESTS / "hooks"), os.environ.get("PYTHONPATH", "")])
        argv = [sys.executable, "-m", "realsrt", "bulk", str(source), str(out), "--model-path", str(tiny)]
        flags = ("--num-actors", "2", "-g", "cpu", "--object-store-mb", "200", *flags)
        self.process = subprocess.Popen(
            [*argv, *QUICK_FLAGS, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": path, "REALSRT_WRITE_LOG": str(log), **env},
        )  # fmt: skip
        self.out = out

    def end(self, status=0):
        stdout, self.errors = self.process.communicate(timeout=1400)
        assert self.process.returncode == status, self.errors
        return json.loads(stdout.splitlines()[-1])


def pictures(make, folder, count):
    for number in range(count):
        make(folder / f"d{number % 5}" / f"{number:04}.png", 16 + number % 17, 16 + number % 13, number)
    return folder


def upscale(source, out, tiny, *flags):
    argv = [sys.executable, "-m", "realsrt", "upscale", str(source), "-o", str(out), "--recursive", "-g", "cpu"]
    subprocess.run([*argv, "--model-path", str(tiny), *QUICK_FLAGS, *flags], check=False, stdout=subprocess.DEVNULL)
    return content(out)


def results(out):
    return {row["key"]: row for row in pq.read_table(Path(out) / "results.parquet").to_pylist()}


def writes(log):
    return Counter(log.read_text().splitlines())


def states(out):
    for path in (Path(out) / HOUSEKEEPING / "state").glob("*/*.json"):
        try:
            yield json.loads(path.read_text())
        except (OSError, ValueError):
            continue


def computing(out, key=None):
    """The process that computes a picture (which one, if it matters), or None."""
    for state in states(out):
        if state["status"] == "trying" and key in (None, state["key"]):
            return int(state["worker"].rpartition(":")[2])
    return None


def finished(out):
    return sum(state["status"] == "done" for state in states(out))


def children(pid):
    """It and all below it, by process: bytes in memory, those shared between processes counted once."""
    found = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    rows = [tuple(map(int, line.split())) for line in found.splitlines()]
    family, grown = {pid}, True
    while grown:
        more = {child for child, parent in rows if parent in family} - family
        family, grown = family | more, bool(more)
    return {member: proportional(member) for member in family}


def proportional(pid):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def poison(make, folder):
    """Four pictures that cannot be made; their keys."""
    good = make(folder / "bad" / "cut.png").read_bytes()
    (folder / "bad" / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "bad" / "words.png").write_text("words")
    make(folder / "bad" / "bomb.png", 300, 300)
    nan = pyvips.Image.new_from_array(np.full((9, 9), np.nan)).cast("float")
    nan.tiffsave(str(folder / "bad" / "nan.tif"))
    return {f"bad/{name}" for name in ("cut.png", "words.png", "bomb.png", "nan.tif")}


def test_hundreds_with_poison_among_them_and_a_worker_killed(make, tiny, tmp_path):
    """Bytes of `upscale`; a row for each; nothing made twice; memory that does not grow."""
    source = pictures(make, tmp_path / "in", COUNT)
    bad = poison(make, source)
    log, out = tmp_path / "log", tmp_path / "out"
    run = Run(source, out, tiny, log, "--max-pixels", "50000")
    memory = []
    over = threading.Event()

    def watch():
        while not over.wait(2):
            memory.append((finished(out), sum(children(run.process.pid).values())))

    watching = threading.Thread(target=watch)
    watching.start()
    wait_for(lambda: finished(out) > COUNT // 10, 600)
    victim = wait_for(lambda: computing(out))
    os.kill(victim, signal.SIGKILL)
    try:
        told = run.end(status=1)
    finally:
        over.set()
        watching.join()
    assert (told["done"], told["failed"]) == (COUNT, 4), run.errors
    found = results(out)
    assert len(found) == COUNT + 4
    assert {key for key, row in found.items() if row["status"] == "failed"} == bad
    assert set(writes(log).values()) == {1}
    assert len(writes(log)) == COUNT
    print(json.dumps({**told, "memory_mb": [(n, size // 2**20) for n, size in memory[:: max(1, len(memory) // 20)]]}))
    early = [size for n, size in memory if COUNT * 0.2 < n < COUNT * 0.5]
    late = [size for n, size in memory if COUNT * 0.7 < n < COUNT]
    assert np.mean(late) < 1.15 * np.mean(early)
    assert content(out) == upscale(source, tmp_path / "up", tiny, "--max-pixels", "50000")


def test_a_driver_killed_and_run_again(make, tiny, tmp_path):
    source, out, log = pictures(make, tmp_path / "in", 40), tmp_path / "out", tmp_path / "log"
    run = Run(source, out, tiny, log)
    wait_for(lambda: finished(out) > 8, 600)
    family = set(children(run.process.pid))
    run.process.kill()
    run.process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() and alive(pid) for pid in family), 120)
    made = finished(out)
    assert made < 40
    assert not (out / "results.parquet").exists()
    again = Run(source, out, tiny, log).end()
    assert again["done"] + again["skipped"] == 40
    assert again["skipped"] >= made - 1
    assert set(writes(log).values()) == {1}
    assert len(results(out)) == 40
    assert content(out) == upscale(source, tmp_path / "up", tiny)
    assert not list((out / HOUSEKEEPING / "tmp").iterdir())
    third = Run(source, out, tiny, log).end()
    assert (third["done"], third["skipped"]) == (0, 40)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_signals_stop_a_run_that_can_go_on(make, tiny, tmp_path):
    source, out, log = pictures(make, tmp_path / "in", 30), tmp_path / "out", tmp_path / "log"
    run = Run(source, out, tiny, log)
    wait_for(lambda: finished(out) > 4, 600)
    run.process.send_signal(signal.SIGTERM)
    told = run.end(status=143)
    assert "the same command goes on" in run.errors
    assert told["results"] is None
    assert Run(source, out, tiny, log).end()["failed"] == 0
    assert set(writes(log).values()) == {1}
    assert len(content(out)) == 30


def test_a_picture_that_kills_its_worker_every_time(make, tiny, tmp_path):
    source, out, log = pictures(make, tmp_path / "in", 12), tmp_path / "out", tmp_path / "log"
    make(source / "killer.png", 260, 260)
    run = Run(source, out, tiny, log, "--max-tries", "2", "--batch", "4")
    killed = []
    while run.process.poll() is None:
        pid = computing(out, "killer.png")
        if pid and pid not in killed:
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    told = run.end(status=1)
    assert (told["done"], told["failed"]) == (12, 1), run.errors
    assert len(killed) == 2
    assert "died, 2 times" in results(out)["killer.png"]["reason"]
    assert set(writes(log).values()) == {1}


def test_a_node_of_a_cluster_dies(make, tiny, tmp_path, monkeypatch):
    """Its raylet killed, with actor, tasks and what it held of the store: nothing is lost, nothing written twice."""
    pytest.importorskip("ray.cluster_utils")
    from ray.cluster_utils import Cluster

    source, out, log = pictures(make, tmp_path / "in", 60), tmp_path / "out", tmp_path / "log"
    path = os.pathsep.join([str(TESTS / "hooks"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("REALSRT_WRITE_LOG", str(log))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"object_store_memory": 150 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **small})
    try:
        second = cluster.add_node(num_cpus=1, object_store_memory=150 * 2**20)
        cluster.wait_for_nodes()
        run = Run(source, out, tiny, log, "--address", cluster.address, "--threads", "1")
        wait_for(lambda: finished(out) > 12, 900)
        cluster.remove_node(second, allow_graceful=False)
        left = finished(out)
        told = run.end()
        assert left < 60
        assert told["done"] == 60, run.errors
        assert set(writes(log).values()) == {1}
        assert len(results(out)) == 60
        assert content(out) == upscale(source, tmp_path / "up", tiny)
    finally:
        cluster.shutdown()
