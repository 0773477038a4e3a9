"""Tiny models compute with one thread, here and in processes that tests start: with more, a busy machine waits."""

import os
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    """Random numbers of a test do not depend on the tests before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
