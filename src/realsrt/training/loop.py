"""The one training loop: any stage, any number of processes, resumable to the last bit on the CPU."""

import math
from pathlib import Path
from typing import Any

import torch

from realsrt.batch.signals import stop_signals
from realsrt.errors import RealSRTError, UsageError
from realsrt.training.config import TrainConfig, shared_out
from realsrt.training.device import Together, compile_parts, prepare_device
from realsrt.training.pairs import build_pool
from realsrt.training.progress import Budget, Log
from realsrt.training.setup import crop_side, initial_model, make_accelerator
from realsrt.training.state import restoring, write_state, write_weights
from realsrt.training.storage import RunStorage
from realsrt.training.throughput import StepWork
from realsrt.training.train_state import TrainState


def train(config: TrainConfig) -> Path:
    """Run one stage; returns the file of its (EMA) weights, ``out/model.safetensors``.

    ``out`` also gets state.pt (to resume), log.jsonl and TensorBoard files; a URL gets them with every save (see
    :class:`RunStorage`), and the file returned is the local one. Raises UsageError, CheckpointError, or RealSRTError
    when the loss is no longer finite. After SIGINT or SIGTERM the step is finished, the state saved, and SystemExit
    raised (130 or 143).
    """
    torch.manual_seed(config.seed)
    storage = RunStorage(config.out)
    state_file = storage.folder / "state.pt"
    saved = storage.read(config.stage) if config.resume else None
    if saved is None and not config.overwrite and (there := storage.holds_run()):
        resume = "" if config.resume else "--resume goes on with it, "
        raise UsageError(f"{config.out} holds a run already ({there}): {resume}--overwrite starts anew in its place")
    if config.resume and saved is None and config.init is None and not config.begins:
        raise UsageError(f"nothing to resume in {config.out} ({state_file.name} is missing); give --init")
    model = initial_model(config, saved)
    crop = crop_side(config, model)
    accelerator = make_accelerator(config, storage.folder)
    processes = accelerator.num_processes
    config = shared_out(config, processes)
    together = Together(processes)
    _same_step(config, together, saved["step"] if saved else 0)
    prepare_device(accelerator.device)
    state = TrainState(config, model, accelerator)
    if saved is not None:
        with restoring(state_file):
            state.load_state_dict(saved)
    pool = build_pool(
        config,
        scale=model.config.scale,
        device=accelerator.device,
        processes=processes,
        index=accelerator.process_index,
        say=accelerator.print,
    )
    state.prepare(pool)
    samples = config.batch * config.accumulate
    work = StepWork(
        accelerator.device, config.precision, batch=samples, processes=processes, wanted=config.profile_flops
    )
    budget = Budget(config, saved["minutes"] if saved else 0.0)
    if saved is not None:
        accelerator.print(f"resumed at step {state.step}, after {budget.minutes:.1f} minutes")
    log = Log(accelerator, storage.folder, state.step, work)
    last_save = budget.minutes
    compiled = not config.compile
    try:
        with stop_signals() as stopped:
            while True:
                progress, stop, waited = together.most(
                    budget.progress(state.step), max(stopped, default=0), budget.minutes - last_save
                )
                if stop:
                    _save(state, storage, budget.minutes, final=True)
                    at = f"saved at step {state.step}, and --resume goes on from there"
                    accelerator.print(f"{config.stage}: stopped; {at}")
                    raise SystemExit(128 + int(stop))
                if progress >= 1.0:
                    break
                parts = pool.batch(state.step, crop).split(config.accumulate)
                waits = state.waits
                with work.counting((state.adversary is not None and state.step >= config.gan_start, waits)):
                    figures = state.learn(parts, progress)
                step = state.step
                if not compiled and not waits:  # after the first whole step, in which the work was counted
                    any_size = config.discriminator == "projected"  # it sees random views
                    compile_parts(model, None if any_size else state.adversary)
                    work.close()
                    compiled = True
                means = log.add(step, budget.minutes, figures, show=step % config.log_every == 0)
                _require_finite(means.get("loss", 0.0), step)
                by_step = config.save_steps is not None and step % config.save_steps == 0
                if by_step or waited > config.save_minutes:
                    _save(state, storage, budget.minutes)
                    last_save = budget.minutes
        _save(state, storage, budget.minutes, final=True)
        accelerator.print(f"{config.stage}: {state.step} steps, {budget.minutes:.1f} minutes")
        accelerator.wait_for_everyone()  # the weights are there when any process returns
    finally:
        pool.close()
        state.close()
        accelerator.free_memory()
        accelerator.end_training()
    return storage.folder / "model.safetensors"


def _same_step(config: TrainConfig, together: Together, step: int) -> None:
    """Raise UsageError where machines have found different checkpoints."""
    most, least = together.most(step, -step)
    if most + least:
        steps = f"{abs(least):.0f} and {most:.0f}"
        raise UsageError(f"the machines find {config.out} at steps {steps}: give an --out that all see, or a URL")


def _save(state: TrainState, storage: RunStorage, minutes: float, *, final: bool = False) -> None:
    """Write the checkpoint and the weights, on the main process. Raises RealSRTError, CheckpointError."""
    _require_finite(float(state.loss), state.step)
    if not state.accelerator.is_main_process:
        return
    content: dict[str, Any] = state.state_dict() | {"minutes": minutes}
    write_state(storage.folder / "state.pt", content)
    weights = storage.folder / "model.safetensors"
    write_weights(
        weights, state.model, content["ema"], state.config, history=state.history, steps=state.step, minutes=minutes
    )
    storage.publish(state.step, final=final, say=state.accelerator.print)


def _require_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise RealSRTError(f"training diverged: the loss is {loss} at step {step}; the last save is kept. Lower --lr")
