"""The one training loop: any stage, any number of processes, resumable to the last bit on the CPU."""

import io
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from realsrt import presets
from realsrt.checkpoint import load_model, save_model, write_atomically
from realsrt.degradations import PROTOCOLS, degrade
from realsrt.errors import CheckpointError, UsageError
from realsrt.model import RealSRT
from realsrt.training.config import TrainConfig
from realsrt.training.data import Pictures, seeded
from realsrt.training.ema import EMA
from realsrt.training.pair_pool import Pair, PairPool
from realsrt.training.stages import BUILDERS


def train(config: TrainConfig) -> Path:
    """Run one stage; returns the file of its (EMA) weights, ``out/model.safetensors``.

    ``out`` also gets state.pt (to resume), log.jsonl and TensorBoard files. Raises UsageError or CheckpointError.
    """
    torch.manual_seed(config.seed)
    state_file = config.out / "state.pt"
    saved = _read_state(state_file) if config.resume and state_file.exists() else None
    if config.resume and saved is None and config.init is None and config.stage != "tokenizer":
        raise UsageError(f"nothing to resume in {config.out} ({state_file.name} is missing); give --init")
    accelerator = Accelerator(
        mixed_precision=config.precision,
        log_with="tensorboard",
        project_dir=config.out,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)],
    )
    if accelerator.is_main_process:
        config.out.mkdir(parents=True, exist_ok=True)
    accelerator.init_trackers("tensorboard")

    model = presets.build(config.preset, config.seed) if config.init is None else load_model(config.init)
    if saved is not None and saved["preset"] != model.config.preset:
        raise UsageError(f"{state_file} is of preset {saved['preset']!r}, not {model.config.preset!r}")
    if config.stage != "tokenizer":
        model.sync_codebook()
    stage = BUILDERS[config.stage](model, config)
    if saved is not None:
        model.load_state_dict(saved["model"])
        if stage.adversary is not None:
            stage.adversary.load_state_dict(saved["adversary"])
    model.train()
    if config.stage != "tokenizer":
        model.tokenizer.quantizer.eval()  # later stages must not move the codebook
    stage.main.to(accelerator.device, memory_format=torch.channels_last)
    ema = EMA(model, config.ema, saved["ema"] if saved else None)

    parameters = [p for p in stage.main.parameters() if p.requires_grad]
    optimizer = _adamw(parameters, config, config.lr)
    main, optimizer = accelerator.prepare(stage.main, optimizer)
    adversary, adversary_optimizer = None, None
    if stage.adversary is not None:
        raw_adversary = stage.adversary.to(accelerator.device)
        adversary_optimizer = _adamw(list(raw_adversary.parameters()), config, config.discriminator_lr)
        adversary, adversary_optimizer = accelerator.prepare(raw_adversary, adversary_optimizer)
    if saved is not None:
        optimizer.load_state_dict(saved["optimizer"])
        if adversary_optimizer is not None:
            adversary_optimizer.load_state_dict(saved["adversary_optimizer"])

    pool = _pool(config, model, accelerator)
    crop = config.crop or (256 if model.config.generator.position == "sincos" else 128)
    first = accelerator.process_index * config.batch
    step = saved["step"] if saved else 0
    budget = Budget(config, saved["minutes"] if saved else 0.0)
    log = _Log(accelerator, config.out)
    last_save = budget.minutes

    def save() -> None:
        if not accelerator.is_main_process:
            return
        state = {
            "preset": model.config.preset,
            "step": step,
            "minutes": budget.minutes,
            "model": model.state_dict(),
            "ema": ema.shadow,
            "optimizer": optimizer.state_dict(),
            "adversary": stage.adversary.state_dict() if stage.adversary is not None else None,
            "adversary_optimizer": adversary_optimizer.state_dict() if adversary_optimizer is not None else None,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(state_file, buffer.getvalue())
        _save_weights(model, ema, config, step, budget.minutes)

    try:
        while (progress := _agree(accelerator, budget.progress(step))) < 1.0:
            batch = pool.batch(step, first=first, count=config.batch, crop=crop)
            factor = rate(config, step, progress)
            figures: dict[str, Any] = {"lr": _set_rate(optimizer, config.lr * factor)}
            with accelerator.autocast():
                outcome = main(batch, step)
            accelerator.backward(outcome.loss)
            figures["grad_norm"] = accelerator.clip_grad_norm_(parameters, config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            figures |= outcome.figures
            if adversary is not None and adversary_optimizer is not None and outcome.pictures is not None:
                _set_rate(adversary_optimizer, config.discriminator_lr * factor)
                with accelerator.autocast():
                    judged = adversary(*outcome.pictures)
                accelerator.backward(judged.loss)
                accelerator.clip_grad_norm_(adversary.parameters(), config.clip)
                adversary_optimizer.step()
                adversary_optimizer.zero_grad(set_to_none=True)
                figures |= judged.figures
            ema.update(model)
            step += 1
            log.add(step, budget.minutes, figures, show=step % config.log_every == 0)
            due = budget.minutes - last_save > config.save_minutes or (config.save_steps and step % config.save_steps == 0)
            if due:
                save()
                last_save = budget.minutes
        save()
    finally:
        pool.close()
        accelerator.end_training()
    accelerator.wait_for_everyone()
    return config.out / "model.safetensors"


def _adamw(parameters: list[torch.nn.Parameter], config: TrainConfig, lr: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)


def _set_rate(optimizer: Any, lr: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def _agree(accelerator: Accelerator, progress: float) -> float:
    """The furthest progress of all processes, so that all stop at the same step."""
    if accelerator.num_processes == 1:
        return progress
    return float(accelerator.gather(torch.tensor([progress], device=accelerator.device)).max())  # pyright: ignore


def _pool(config: TrainConfig, model: RealSRT, accelerator: Accelerator) -> PairPool:
    if config.degradation not in PROTOCOLS:
        raise UsageError(f"no degradation is named {config.degradation!r}; there are {', '.join(PROTOCOLS)}")
    pictures = Pictures(config.data, min_side=config.tile, seed=config.seed, device=accelerator.device)
    accelerator.print(f"{len(pictures.pictures)} photographs, {pictures.megapixels:.0f} MP, on {accelerator.device}")
    protocol, scale = PROTOCOLS[config.degradation], model.config.scale

    def make_pair(number: int) -> Pair:
        with torch.inference_mode():
            gt = pictures.crop(number, config.tile)
            lq = degrade(gt[None].float() / 255, config=protocol, rng=seeded(config.seed, 5, number), scale=scale)[0]
            return (lq * 255).round().to(torch.uint8), gt

    return PairPool(make_pair, size=config.pool, refresh=config.refresh, seed=config.seed, scale=scale)


def _read_state(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} can't be resumed from ({str(error).splitlines()[0][:120]})") from None


def _save_weights(model: RealSRT, ema: EMA, config: TrainConfig, step: int, minutes: float) -> None:
    """The EMA weights, with every finished stage's record in the provenance."""
    history = [*model.info.provenance.get("stages", [])]
    settings = {k: _plain(v) for k, v in asdict(config).items()}
    history.append({"stage": config.stage, "steps": step, "minutes": round(minutes, 2), "settings": settings})
    with ema.applied(model):
        save_model(model, config.out / "model.safetensors", provenance={"stages": history})


def _plain(value: Any) -> Any:
    """Settings as JSON, paths by file name only."""
    if isinstance(value, Path):
        return value.name
    return [_plain(v) for v in value] if isinstance(value, tuple) else value
