import subprocess
import sys

import pytest

from realsrt.nn.device import keep_freed_memory

FAULTS = """
import resource
import torch
from realsrt.nn.device import keep_freed_memory
kept = {kept} and keep_freed_memory()
for number in range(30):
    if number == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)  # 40 MB
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(kept):
    """Whether memory was kept, and the faults, in a process of its own: it holds for all of a process."""
    done = subprocess.run([sys.executable, "-c", FAULTS.format(kept=kept)], capture_output=True, text=True, check=True)
    said, count = done.stdout.split()
    return said == "True", int(count)


def test_large_tensors_take_the_pages_of_those_before():
    kept, few = page_faults(True)
    if not kept:
        pytest.skip("the C library of this system has no mallopt")
    assert few < page_faults(False)[1] / 5


def test_without_such_a_c_library_nothing_is_done(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
