"""How far a run is, the learning rate there, and what is written down on the way."""

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from realsrt.io.atomic import write_whole
from realsrt.training.config import TrainConfig
from realsrt.training.throughput import StepWork

TIMINGS = ("minutes", "steps_per_second", "samples_per_second", "tflops", "share_of_peak")
"""What differs in the logs of two equal runs."""


class Budget:
    """How far the run is: 0 at the start, 1 when its steps or its minutes are used up."""

    def __init__(self, config: TrainConfig, minutes_before: float) -> None:
        self.config, self.minutes_before, self.started = config, minutes_before, time.monotonic()

    @property
    def minutes(self) -> float:
        return self.minutes_before + (time.monotonic() - self.started) / 60

    def progress(self, step: int) -> float:
        by_step = step / self.config.max_steps if self.config.max_steps else 0.0
        by_time = self.minutes / self.config.max_minutes if self.config.max_minutes else 0.0
        return min(1.0, max(by_step, by_time))


def learned_steps(config: TrainConfig, step: int) -> int:
    """In how many steps before this one the model learned: all, but those in which it waited."""
    waited = min(max(0, step - config.gan_start), config.gan_warmup) if config.gan > 0 else 0
    return step - waited


def rate(config: TrainConfig, step: int, progress: float) -> float:
    """Learning-rate factor: linear warm-up, then a cosine from 1 to ``lr_end`` over the budget."""
    cosine = config.lr_end + (1 - config.lr_end) * 0.5 * (1 + math.cos(math.pi * progress))
    return cosine * min(1.0, (step + 1) / max(1, config.warmup))


class Log:
    """Means of the figures since the last line, over all processes: to the terminal, log.jsonl and the trackers."""

    def __init__(self, accelerator: Accelerator, out: Path, step: int, work: StepWork) -> None:
        """Lines of log.jsonl after ``step`` are dropped: they are of a run that is now repeated or replaced."""
        self.accelerator, self.path, self.work = accelerator, out / "log.jsonl", work
        self.sums: dict[str, Tensor | float] = {}
        self.counts: dict[str, int] = {}
        self.steps, self.since = 0, time.monotonic()
        if accelerator.is_main_process and self.path.exists():
            lines = [line for line in self.path.read_text("utf-8").splitlines(keepends=True) if _step(line) <= step]
            write_whole(self.path, "".join(lines).encode(), durable=False)

    def add(self, step: int, minutes: float, figures: dict[str, Any], *, show: bool) -> dict[str, float]:
        """Take in a step's figures; with ``show`` write a line and return its means. Only that reads the device."""
        for key, value in figures.items():
            self.sums[key] = self.sums.get(key, 0.0) + (value.detach() if isinstance(value, Tensor) else value)
            self.counts[key] = self.counts.get(key, 0) + 1
        self.steps += 1
        if not show:
            return {}
        means = self._mean_of_all({k: v / self.counts[k] for k, v in _read(self.sums).items()})
        means |= self.work.figures(self.steps / (time.monotonic() - self.since))
        self.accelerator.log(means, step=step)
        if self.accelerator.is_main_process:
            line = {"step": step, "minutes": round(minutes, 3)} | {k: float(f"{v:.5g}") for k, v in means.items()}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self.accelerator.print(" ".join(f"{k}={v}" for k, v in line.items()), flush=True)
        self.sums, self.counts, self.steps, self.since = {}, {}, 0, time.monotonic()
        return means

    def _mean_of_all(self, means: dict[str, float]) -> dict[str, float]:
        if self.accelerator.num_processes == 1:
            return means
        own = torch.tensor(list(means.values()), device=self.accelerator.device)
        total = self.accelerator.reduce(own, "mean")
        assert isinstance(total, Tensor)
        return dict(zip(means, total.tolist(), strict=True))


def _read(sums: dict[str, Tensor | float]) -> dict[str, float]:
    """The figures as numbers; those on the device in one transfer."""
    tensors = {key: value for key, value in sums.items() if isinstance(value, Tensor)}
    numbers = torch.stack([t.float() for t in tensors.values()]).tolist() if tensors else []
    read = dict(zip(tensors, numbers, strict=True))
    return {key: read[key] if key in read else float(value) for key, value in sums.items()}


def _step(line: str) -> float:
    """The step of a line of log.jsonl; infinity for a line cut short."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
