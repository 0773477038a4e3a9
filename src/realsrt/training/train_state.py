"""All that changes while a run goes on: networks, averages, optimizers, the step; as a checkpoint holds it."""

from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from realsrt.model import RealSRT
from realsrt.training.config import TrainConfig
from realsrt.training.ema import EMA
from realsrt.training.pair_pool import PairPool
from realsrt.training.parallel import clip, load_optimizer, prepare
from realsrt.training.progress import learned_steps, rate
from realsrt.training.setup import set_rate
from realsrt.training.stages import BUILDERS


class TrainState:
    """A stage's networks on their device, with all that learning needs; `learn` is one step."""

    def __init__(self, config: TrainConfig, model: RealSRT, accelerator: Accelerator) -> None:
        self.config, self.model, self.accelerator = config, model, accelerator
        self.step, self.loss = 0, torch.zeros(())
        self.history: list[Any] = model.info.provenance.get("stages", [])
        if config.stage != "tokenizer":
            model.sync_codebook()
        self._stage = BUILDERS[config.stage](model, config)
        model.train()
        if config.stage != "tokenizer":
            model.tokenizer.quantizer.eval()  # later stages must not move the codebook
        main = self._stage.main.to(accelerator.device)
        main = main.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._main: Any
        self._main, self._optimizer = prepare(accelerator, main, config, config.lr)
        self.ema = EMA(model, config.ema)
        self.adversary: Any = self._stage.adversary
        self._discriminator, self._discriminator_optimizer = None, None
        if self.adversary is not None:
            raw = self.adversary.to(accelerator.device)
            made = prepare(accelerator, raw, config, config.discriminator_lr)
            self._discriminator, self._discriminator_optimizer = made

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on to the last bit, on the CPU."""
        scaler = self.accelerator.scaler
        return {
            "preset": self.model.config.preset,
            "stage": self.config.stage,
            "history": self.history,
            "step": self.step,
            "model": _on_cpu(self.model.state_dict()),
            "ema": _on_cpu(self.ema.shadow),
            "optimizer": self._optimizer.state_dict(),
            "adversary": None if self.adversary is None else self.adversary.state_dict(),
            "adversary_optimizer": self._discriminator_optimizer and self._discriminator_optimizer.state_dict(),
            "scaler": scaler and scaler.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint. Raises what torch raises where it does not fit."""
        self.step, self.history = saved["step"], saved.get("history", self.history)
        self.model.load_state_dict(saved["model"])
        self.ema = EMA(self.model, self.config.ema, saved["ema"])
        load_optimizer(self._optimizer, saved["optimizer"])
        if self.adversary is not None:
            self.adversary.load_state_dict(saved["adversary"])
        if self._discriminator_optimizer is not None:
            self._discriminator_optimizer.load_state_dict(saved["adversary_optimizer"])
        if self.accelerator.scaler is not None and saved.get("scaler"):
            self.accelerator.scaler.load_state_dict(saved["scaler"])

    def prepare(self, pool: PairPool) -> None:
        """What the stage takes from the pairs before the first step of a run, or of what is left of it."""
        if self._stage.prepare is not None:
            with self.accelerator.autocast():
                self._stage.prepare(pool)
            if self.step == 0:
                self.ema = EMA(self.model, self.config.ema)

    @property
    def waits(self) -> bool:
        """Whether in the next step the discriminator learns alone, and the model stays as it is."""
        return self.config.gan > 0 and 0 <= self.step - self.config.gan_start < self.config.gan_warmup

    def learn(self, parts: list[Any], progress: float) -> dict[str, Any]:
        """One step of the networks on a batch in parts, so far into the budget; gives figures, on the device."""
        waits = self.waits
        factor = rate(self.config, learned_steps(self.config, self.step), progress)
        figures: dict[str, Any] = {"lr": set_rate(self._optimizer, self.config.lr * factor)}
        images = []
        if self.config.stage == "tokenizer":
            self.model.tokenizer.quantizer.train(not waits)  # the codebook learns inside
        for index, part in enumerate(parts):
            last = index + 1 == len(parts)
            self.model.tokenizer.quantizer.hold = not last
            with nullcontext() if last else self.accelerator.no_sync(self._main):
                with self.accelerator.autocast(), torch.set_grad_enabled(not waits):
                    outcome = self._main(part, self.step)
                if not waits:
                    self.accelerator.backward(outcome.loss / len(parts))
            _add(figures, {"loss": outcome.loss.detach()} | outcome.figures, len(parts))
            if outcome.images is not None:
                images.append(tuple(image.detach() for image in outcome.images))
        if not waits:
            figures["grad_norm"] = clip(self.accelerator, self._main, self.config.clip)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            self.ema.update(self.model)
        if images and self._discriminator is not None and self._discriminator_optimizer is not None:
            self._discriminate(images, figures, rate(self.config, self.step, progress))
        self.loss = figures["loss"]
        self.step += 1
        return figures

    def _discriminate(self, images: list[tuple[Tensor, ...]], figures: dict[str, Any], factor: float) -> None:
        network, optimizer = self._discriminator, self._discriminator_optimizer
        assert network is not None
        assert optimizer is not None
        set_rate(optimizer, self.config.discriminator_lr * factor)
        for index, pair in enumerate(images):
            with nullcontext() if index + 1 == len(images) else self.accelerator.no_sync(network):
                with self.accelerator.autocast():
                    judged = network(*pair)
                self.accelerator.backward(judged.loss / len(images))
            _add(figures, judged.figures, len(images))
        figures["d_grad_norm"] = clip(self.accelerator, network, self.config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def close(self) -> None:
        """A DistributedDataParallel that outlives its process group can hang as it goes."""
        self._main = self._discriminator = None


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.cpu() for key, value in state.items()}


def _add(figures: dict[str, Any], new: dict[str, Any], parts: int) -> None:
    """Take in the figures of one of so many parts of a step, as its share of their mean."""
    for key, value in new.items():
        figures[key] = figures.get(key, 0) + value / parts if parts > 1 else value
