"""The one training loop: any stage, any number of processes, resumable to the last bit on the CPU."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from realsrt.batch.signals import stop_signals
from realsrt.errors import RealSRTError, UsageError
from realsrt.models.quantizer import hold_codes
from realsrt.training.config import TrainConfig, shared_out
from realsrt.training.device import Together, compile_parts, prepare_device
from realsrt.training.ema import EMA
from realsrt.training.pairs import build_pool
from realsrt.training.parallel import Parallel, load_optimizer
from realsrt.training.progress import Budget, Log, rate
from realsrt.training.setup import adamw, crop_side, initial_model, make_accelerator, set_rate
from realsrt.training.stages import BUILDERS
from realsrt.training.state import restoring, write_state, write_weights
from realsrt.training.storage import RunStorage
from realsrt.training.throughput import StepWork


def train(config: TrainConfig) -> Path:
    """Run one stage; returns the file of its (EMA) weights, ``out/model.safetensors``.

    ``out`` also gets state.pt (to resume), log.jsonl and TensorBoard files; a URL gets them with every save (see
    :class:`RunStorage`), and the file returned is the local one. Raises UsageError, CheckpointError, or RealSRTError
    when the loss is no longer finite. After SIGINT or SIGTERM the step is finished, the state saved, and SystemExit
    raised (130 or 143).
    """
    torch.manual_seed(config.seed)
    place = RunStorage(config.out)
    state_file = place.folder / "state.pt"
    saved = place.read(config.stage) if config.resume else None
    begins = config.stage == "tokenizer" or config.trunk
    if config.resume and saved is None and config.init is None and not begins:
        raise UsageError(f"nothing to resume in {config.out} ({state_file.name} is missing); give --init")
    model = initial_model(config, saved)
    crop = crop_side(config, model)
    accelerator = make_accelerator(config, place.folder)
    processes = accelerator.num_processes
    config = shared_out(config, processes)
    parallel = Parallel(accelerator)
    together = Together(processes)
    step = saved["step"] if saved else 0
    most, least = together.most(step, -step)
    if most + least:
        steps = f"{abs(least):.0f} and {most:.0f}"
        raise UsageError(f"the machines find {config.out} at steps {steps}: give an --out that all see, or a URL")
    prepare_device(accelerator.device)

    if config.stage != "tokenizer":
        model.sync_codebook()
    stage = BUILDERS[config.stage](model, config)
    if saved is not None:
        with restoring(state_file):
            model.load_state_dict(saved["model"])
            if stage.adversary is not None:
                stage.adversary.load_state_dict(saved["adversary"])
    model.train()
    if config.stage != "tokenizer":
        model.tokenizer.quantizer.eval()  # later stages must not move the codebook
    main: Any
    main, optimizer = parallel.prepare(stage.main.to(accelerator.device), adamw(config, config.lr))
    with restoring(state_file):
        ema = EMA(model, config.ema, saved["ema"] if saved else None)
    adversary, adversary_optimizer = None, None
    if stage.adversary is not None:
        raw_adversary = stage.adversary.to(accelerator.device)
        adversary, adversary_optimizer = parallel.prepare_whole(raw_adversary, adamw(config, config.discriminator_lr))
    if saved is not None:
        with restoring(state_file):
            load_optimizer(optimizer, saved["optimizer"])
            if adversary_optimizer is not None:
                adversary_optimizer.load_state_dict(saved["adversary_optimizer"])
            if accelerator.scaler is not None and saved.get("scaler"):
                accelerator.scaler.load_state_dict(saved["scaler"])

    pool = build_pool(
        config,
        scale=model.config.scale,
        device=accelerator.device,
        processes=processes,
        index=accelerator.process_index,
        say=accelerator.print,
    )
    samples = config.batch * config.accumulate
    work = StepWork(
        accelerator.device, config.precision, batch=samples, processes=processes, wanted=config.profile_flops
    )
    history = (saved or {}).get("history", model.info.provenance.get("stages", []))
    budget = Budget(config, saved["minutes"] if saved else 0.0)
    if saved is not None:
        accelerator.print(f"resumed at step {step}, after {budget.minutes:.1f} minutes")
    log = Log(accelerator, place.folder, step, work)
    last_save = budget.minutes
    loss = torch.zeros(())

    def save(*, final: bool = False) -> None:
        _require_finite(float(loss), step)
        gathered = parallel.whole({"model": model.state_dict(), "ema": ema.shadow, "optimizer": optimizer.state_dict()})
        if not accelerator.is_main_process:
            return
        minutes = budget.minutes
        state = gathered | {
            "preset": model.config.preset,
            "stage": config.stage,
            "history": history,
            "step": step,
            "minutes": minutes,
            "adversary": stage.adversary.state_dict() if stage.adversary is not None else None,
            "adversary_optimizer": adversary_optimizer.state_dict() if adversary_optimizer is not None else None,
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
        }
        write_state(state_file, state)
        weights = place.folder / "model.safetensors"
        write_weights(weights, model, state["ema"], config, history=history, steps=step, minutes=minutes)
        place.publish(step, final=final, say=accelerator.print)

    def learn(factor: float) -> dict[str, Any]:
        """One step of the networks, at a share of their learning rates; gives figures, on the device."""
        parts = pool.batch(step, crop).split(config.accumulate)
        figures: dict[str, Any] = {"lr": set_rate(optimizer, config.lr * factor)}
        pictures = []
        with work.counting(adversary is not None and step >= config.gan_start):
            for index, part in enumerate(parts):
                last = index + 1 == len(parts)
                hold_codes(model, not last)
                with nullcontext() if last else parallel.no_sync(main):
                    with accelerator.autocast():
                        outcome = main(part, step)
                    accelerator.backward(outcome.loss / len(parts))
                _add(figures, {"loss": outcome.loss.detach()} | outcome.figures, len(parts))
                if outcome.pictures is not None:
                    pictures.append(tuple(picture.detach() for picture in outcome.pictures))
            figures["grad_norm"] = parallel.clip(main, config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if adversary is not None and adversary_optimizer is not None and pictures:
                set_rate(adversary_optimizer, config.discriminator_lr * factor)
                for index, pair in enumerate(pictures):
                    with nullcontext() if index + 1 == len(pictures) else parallel.no_sync(adversary):
                        with accelerator.autocast():
                            judged = adversary(*pair)
                        accelerator.backward(judged.loss / len(pictures))
                    _add(figures, judged.figures, len(pictures))
                figures["d_grad_norm"] = parallel.clip(adversary, config.clip)
                adversary_optimizer.step()
                adversary_optimizer.zero_grad(set_to_none=True)
        ema.update(model)
        return figures

    compiled = not config.compile
    try:
        with stop_signals() as stopped:
            while True:
                progress, stop, waited = together.most(
                    budget.progress(step), max(stopped, default=0), budget.minutes - last_save
                )
                if stop:
                    save(final=True)
                    accelerator.print(f"{config.stage}: stopped; saved at step {step}, and --resume goes on from there")
                    raise SystemExit(128 + int(stop))
                if progress >= 1.0:
                    break
                figures = learn(rate(config, step, progress))
                loss = figures["loss"]
                step += 1
                if not compiled:  # after the first step, in which the work was counted
                    compile_parts(model, stage.adversary)
                    work.close()
                    compiled = True
                means = log.add(step, budget.minutes, figures, show=step % config.log_every == 0)
                _require_finite(means.get("loss", 0.0), step)
                by_step = config.save_steps is not None and step % config.save_steps == 0
                if by_step or waited > config.save_minutes:
                    save()
                    last_save = budget.minutes
        save(final=True)
        accelerator.print(f"{config.stage}: {step} steps, {budget.minutes:.1f} minutes")
        accelerator.wait_for_everyone()  # the weights are there when any process returns
    finally:
        pool.close()
        main = adversary = None  # a DistributedDataParallel that outlives its process group can hang as it goes
        accelerator.free_memory()
        accelerator.end_training()
    return place.folder / "model.safetensors"


def _add(figures: dict[str, Any], new: dict[str, Any], parts: int) -> None:
    """Take in the figures of one of so many parts of a step, as its share of their mean."""
    for key, value in new.items():
        figures[key] = figures.get(key, 0) + value / parts if parts > 1 else value


def _require_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise RealSRTError(f"training diverged: the loss is {loss} at step {step}; the last save is kept. Lower --lr")
