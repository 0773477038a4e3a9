"""Tiny models compute with one thread, here and in processes that tests start: with more, a busy machine waits."""

import gc
import os
import shutil
import subprocess
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    """Random numbers of a test do not depend on the tests before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def what_is_loaded_is_no_garbage():
    """Looking for garbage passes over what earlier modules have loaded: at the end of each training run, in all of a
    session's memory, that took longer than the run."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 600 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here: needs root and tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
