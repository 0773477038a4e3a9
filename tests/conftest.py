"""Tiny models compute with one thread, here and in processes that tests start: with more, a busy machine waits."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
