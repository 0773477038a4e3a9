import os

import pytest
import torch

from realsrt.errors import UsageError
from realsrt.inference import threads


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    yield chosen
    monkeypatch.undo()
    torch.set_num_threads(before)


@pytest.mark.parametrize(("load", "free"), [(0.0, 4), (5.0, 3), (7.9, 1), (50.0, 1)])
def test_as_many_as_others_leave_free(restored, monkeypatch, load, free):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    threads.use_threads(None)
    assert restored == [free]


def test_what_is_asked_for_is_used(restored, monkeypatch):
    threads.use_threads(3)
    assert restored == [3]
    with pytest.raises(UsageError, match="at least 1"):
        threads.use_threads(0)


def test_the_environment_is_obeyed(restored, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads.use_threads(None)
    assert restored == []


def test_an_absurd_number_of_threads_is_refused():
    with pytest.raises(UsageError, match="at most"):
        threads.use_threads(100_000)
