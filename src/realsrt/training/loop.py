"""The one training loop: any stage, any number of processes, resumable to the last bit on the CPU."""

import math
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from realsrt import presets
from realsrt.checkpoint import load_model
from realsrt.errors import RealSRTError, UsageError
from realsrt.model import RealSRT
from realsrt.stopping import stop_signals
from realsrt.training.config import TrainConfig
from realsrt.training.device import Together, compile_parts, prepare_device
from realsrt.training.ema import EMA
from realsrt.training.pairs import build_pool
from realsrt.training.progress import Budget, Log, rate
from realsrt.training.stages import BUILDERS
from realsrt.training.state import read_state, restoring, write_state, write_weights
from realsrt.training.throughput import StepWork


def train(config: TrainConfig) -> Path:
    """Run one stage; returns the file of its (EMA) weights, ``out/model.safetensors``.

    ``out`` also gets state.pt (to resume), log.jsonl and TensorBoard files. Raises UsageError, CheckpointError, or
    RealSRTError when the loss is no longer finite. After SIGINT or SIGTERM the step is finished, the state saved, and
    SystemExit raised (130 or 143).
    """
    torch.manual_seed(config.seed)
    state_file = config.out / "state.pt"
    saved = read_state(state_file, config.stage) if config.resume and state_file.exists() else None
    if config.resume and saved is None and config.init is None and config.stage != "tokenizer":
        raise UsageError(f"nothing to resume in {config.out} ({state_file.name} is missing); give --init")
    model = _model(config, saved)
    crop = _crop(config, model)
    accelerator = _accelerator(config)
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
    stage.main.to(accelerator.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    with restoring(state_file):
        ema = EMA(model, config.ema, saved["ema"] if saved else None)

    parameters = [p for p in stage.main.parameters() if p.requires_grad]
    optimizer = _adamw(parameters, config, config.lr)
    main: Any
    main, optimizer = accelerator.prepare(stage.main, optimizer)
    adversary, adversary_optimizer = None, None
    if stage.adversary is not None:
        raw_adversary = stage.adversary.to(accelerator.device)
        adversary_optimizer = _adamw(list(raw_adversary.parameters()), config, config.discriminator_lr)
        adversary, adversary_optimizer = accelerator.prepare(raw_adversary, adversary_optimizer)
    if saved is not None:
        with restoring(state_file):
            optimizer.load_state_dict(saved["optimizer"])
            if adversary_optimizer is not None:
                adversary_optimizer.load_state_dict(saved["adversary_optimizer"])
            if accelerator.scaler is not None and saved.get("scaler"):
                accelerator.scaler.load_state_dict(saved["scaler"])

    processes = accelerator.num_processes
    pool = build_pool(
        config,
        scale=model.config.scale,
        device=accelerator.device,
        processes=processes,
        index=accelerator.process_index,
        say=accelerator.print,
    )
    work = StepWork(
        accelerator.device, config.precision, batch=config.batch, processes=processes, wanted=config.profile_flops
    )
    together = Together(processes)
    step = saved["step"] if saved else 0
    history = (saved or {}).get("history", model.info.provenance.get("stages", []))
    budget = Budget(config, saved["minutes"] if saved else 0.0)
    if saved is not None:
        accelerator.print(f"resumed at step {step}, after {budget.minutes:.1f} minutes")
    log = Log(accelerator, config.out, step, work)
    last_save = budget.minutes
    loss = torch.zeros(())

    def save() -> None:
        if not accelerator.is_main_process:
            return
        _require_finite(float(loss), step)
        minutes = budget.minutes
        state = {
            "preset": model.config.preset,
            "stage": config.stage,
            "history": history,
            "step": step,
            "minutes": minutes,
            "model": model.state_dict(),
            "ema": ema.shadow,
            "optimizer": optimizer.state_dict(),
            "adversary": stage.adversary.state_dict() if stage.adversary is not None else None,
            "adversary_optimizer": adversary_optimizer.state_dict() if adversary_optimizer is not None else None,
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
        }
        write_state(state_file, state)
        weights = config.out / "model.safetensors"
        write_weights(weights, model, ema, config, history=history, steps=step, minutes=minutes)

    def learn(factor: float) -> dict[str, Any]:
        """One step of the networks, at a share of their learning rates; gives figures, on the device."""
        batch = pool.batch(step, crop)
        figures: dict[str, Any] = {"lr": _set_rate(optimizer, config.lr * factor)}
        with work.counting(adversary is not None and step >= config.gan_start):
            with accelerator.autocast():
                outcome = main(batch, step)
            figures |= {"loss": outcome.loss.detach()} | outcome.figures
            accelerator.backward(outcome.loss)
            figures["grad_norm"] = accelerator.clip_grad_norm_(parameters, config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if adversary is not None and adversary_optimizer is not None and outcome.pictures is not None:
                _set_rate(adversary_optimizer, config.discriminator_lr * factor)
                with accelerator.autocast():
                    judged = adversary(*outcome.pictures)
                accelerator.backward(judged.loss)
                figures["d_grad_norm"] = accelerator.clip_grad_norm_(adversary.parameters(), config.clip)
                adversary_optimizer.step()
                adversary_optimizer.zero_grad(set_to_none=True)
                figures |= judged.figures
        ema.update(model)
        return figures

    compiled = not config.compile
    try:
        with stop_signals() as stopped:
            while True:
                progress, stop = together.most(budget.progress(step), max(stopped, default=0))
                if stop:
                    save()
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
                if by_step or budget.minutes - last_save > config.save_minutes:
                    save()
                    last_save = budget.minutes
        save()
        accelerator.print(f"{config.stage}: {step} steps, {budget.minutes:.1f} minutes")
        accelerator.wait_for_everyone()  # the weights are there when any process returns
    finally:
        pool.close()
        main = adversary = None  # a DistributedDataParallel that outlives its process group can hang as it goes
        accelerator.free_memory()
        accelerator.end_training()
    return config.out / "model.safetensors"


def _model(config: TrainConfig, saved: dict[str, Any] | None) -> RealSRT:
    """The initial weights, of the preset that is asked for, if any. Raises UsageError or CheckpointError."""
    if config.init is not None:
        model = load_model(config.init)
        if config.preset is not None and presets.get(config.preset) != model.config:
            model = _rebuilt(config, model)
    else:
        model = presets.build(config.preset or (saved["preset"] if saved else "small"), config.seed)
    if saved is not None and saved["preset"] != model.config.preset:
        raise UsageError(f"the run in {config.out} is of preset {saved['preset']!r}, not {model.config.preset!r}")
    return model


def _rebuilt(config: TrainConfig, source: RealSRT) -> RealSRT:
    """A model of ``config.preset`` with every tensor of ``source`` that has its name and shape, so that a model can
    grow or a part be changed. Raises UsageError where nothing fits."""
    assert config.preset is not None
    model = presets.build(config.preset, config.seed)
    model.info = source.info
    known, own = source.state_dict(), model.state_dict()
    fitting = {key: value for key, value in known.items() if key in own and own[key].shape == value.shape}
    if not any(key.startswith("tokenizer.decoder") for key in fitting):
        raise UsageError(f"{config.init} (preset {source.config.preset!r}) has nothing that {config.preset!r} can use")
    model.load_state_dict(fitting, strict=False)
    if new := sorted({".".join(key.split(".")[:2]) for key in own.keys() - fitting.keys()}):
        print(f"starting anew: {', '.join(new)}")
    return model


def _crop(config: TrainConfig, model: RealSRT) -> int:
    """Side of a crop. Raises UsageError where it does not suit the model or the tiles."""
    transformer = model.config.generator
    grid = transformer.grid * model.config.token_size if transformer.position == "sincos" else None
    crop = config.crop or grid or 128
    if grid and crop != grid and config.stage != "tokenizer":
        raise UsageError(f"preset {model.config.preset!r} takes crops of {grid} px only, not {crop}")
    if crop > config.tile:
        raise UsageError(f"crops of {crop} px need a --tile of at least that, not {config.tile}")
    return crop


def _accelerator(config: TrainConfig) -> Accelerator:
    """Device, processes, precision and trackers; makes ``out``. Raises UsageError."""
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"can't make the folder {config.out}: {error.strerror}") from None
    try:
        accelerator = Accelerator(
            mixed_precision=config.precision,
            log_with="tensorboard",
            project_dir=config.out,
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)],
        )
    except ValueError as error:
        raise UsageError(f"--precision {config.precision} does not work here: {str(error).splitlines()[0]}") from None
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        raise UsageError("--precision fp16 needs a GPU; take bf16 or no")
    accelerator.init_trackers("tensorboard")
    return accelerator


def _adamw(parameters: list[torch.nn.Parameter], config: TrainConfig, lr: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)


def _set_rate(optimizer: Any, lr: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def _require_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise RealSRTError(f"training diverged: the loss is {loss} at step {step}; the last save is kept. Lower --lr")
