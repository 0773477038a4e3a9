"""What tests of training runs share: their log without timings, and a death half-way."""

import json

import pytest

from realsrt.training import train
from realsrt.training.progress import TIMINGS, Log


class Killed(Exception):
    """What ends a run half-way in these tests."""


def train_until_killed(config, monkeypatch, steps):
    """Train, and die in the step after ``steps``, before it is logged or saved."""
    add = Log.add

    def add_then_die(self, step, *args, **options):
        if step == steps + 1:
            raise Killed
        return add(self, step, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "add", add_then_die)
        with pytest.raises(Killed):
            train(config)


def log_of(out):
    """The lines of a run's log, without what no two runs share."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]
