"""The assembled model: low-quality windows in, high-quality windows with their confidence out.

Shapes: B batch of windows, H W low-quality pixels, s scale (4), h w token grid, N = h·w tokens in raster order, D
latent channels.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from realsrt.config import ModelConfig
from realsrt.imaging.resize import upscale_bicubic
from realsrt.models.guide import Ground, Guide, tokens_from_map
from realsrt.models.heads import CodeCritic, Critic, Generator
from realsrt.models.passes import CachedDecoder
from realsrt.models.transformer import Condition, Transformer
from realsrt.sampling import SAMPLERS, SCHEDULES, Step
from realsrt.sampling.noise import Noise


@dataclass(frozen=True)
class CheckpointInfo:
    """Where weights came from: path or name, sha256 of the file, and what its header says of its making."""

    source: str = "random weights"
    sha256: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)


class SuperResolved(NamedTuple):
    """``image`` (B,3,sH,sW), as decoded: neither colour-corrected nor clamped; ``ids`` (B,h,w); ``confidence`` (B,h,w)
    in [0,1] or None; every step."""

    image: Tensor
    ids: Tensor
    confidence: Tensor | None
    steps: tuple[Step, ...]


class RealSRT(nn.Module):
    """Tokenizer, generator, critic and control, and the iterative generation that joins them (paper, section 3).

    ``RealSRT.from_pretrained`` is `load_model`, and ``model.push_to_hub`` is `push_to_hub`, of `realsrt.checkpoint`."""

    from_pretrained: ClassVar[Callable[..., "RealSRT"]]
    push_to_hub: Callable[..., str]

    def __init__(self, config: ModelConfig, info: CheckpointInfo | None = None) -> None:
        super().__init__()
        self.config = config
        self.info = info or CheckpointInfo()
        self.trunk = config.trunk.build() if config.trunk else None
        self.tokenizer = config.tokenizer.build()
        self.generator = Generator(config.generator)
        self.critic = (Critic if config.critic_head == "linear" else CodeCritic)(config.critic)
        self.control = config.control.build()
        self.sync_codebook()

    @torch.no_grad()
    def sync_codebook(self) -> None:
        """Give both transformers a copy of the tokenizer's codebook (done before training them)."""
        for head in (self.generator, self.critic):
            head.backbone.set_codebook(self.tokenizer.quantizer.weight)

    @property
    def parameter_count(self) -> int:
        """Numbers the model computes with: parameters, codebook copies and position tables, not the EMA statistics."""
        return sum(tensor.numel() for key, tensor in self.state_dict().items() if not key.endswith("_ema"))

    @property
    def needs_token_condition(self) -> bool:
        return "tokens" in (self.config.generator.condition, self.config.critic.condition)

    def guide(
        self, lq_BCHW: Tensor, ground: Ground | None = None, denoise: float | None = None, *, want_ids: bool = True
    ) -> Guide:
        """Everything that is computed once from windows of the low-quality image, RGB in [0,1].

        ``ground``: what the trunk found in the whole image, cut like the windows; without it the trunk looks at each
        window by itself. ``denoise``: its strength, 0 to 1; None: as it finds right. ``want_ids=False``: without token
        ids, which decoding does not need."""
        if self.trunk is None:
            guide = Guide(lq_BCHW, upscale_bicubic(lq_BCHW, self.config.scale))
        else:
            features, up = ground or self.trunk(lq_BCHW, denoise)
            guide = Guide(lq_BCHW, up, features)
        if not (want_ids and self.needs_token_condition):
            return guide
        return replace(guide, ids=self.tokenizer.encode(guide.up, guide).flatten(1))

    def condition(self, backbone: Transformer, guide: Guide) -> Condition:
        """The guide as ``backbone`` reads it."""
        if backbone.config.condition == "tokens":
            assert guide.ids is not None
            return backbone.condition(guide.ids, self._grid_shape(guide))
        assert guide.features is not None
        return backbone.condition(tokens_from_map(guide.features, self.config.fold), self._grid_shape(guide))

    def iterate(
        self,
        guide: Guide,
        *,
        num_steps: int = 4,
        want_confidence: bool = True,
        rng: torch.Generator | None = None,
        temperature: float = 0.0,
        sparse: bool = False,
        exit_confidence: float | None = None,
        ids_BN: Tensor | None = None,
        mask_BN: Tensor | None = None,
        top_k: int | None = None,
        noise: Noise | None = None,
    ) -> Iterator[Step]:
        """Generate the tokens of the guide's windows, yielding every step; confidences (B, N) in [0,1].

        Deterministic at temperature 0. ``want_confidence=False`` saves the last pass of the critic. ``sparse``: later
        steps compute masked positions only (see :class:`CachedDecoder`; an approximation).
        ``exit_confidence``: a window is left as it
        is from the step on after which its mean confidence is at least this; when all are, no further step comes.
        ``ids_BN`` with ``mask_BN``: tokens to go on from, and where to generate (True); the others stay. ``top_k`` and
        ``noise``, for temperatures above 0: see :func:`confidence_decode`.
        """
        passes = CachedDecoder(
            self.generator,
            self.critic,
            lambda backbone: self.condition(backbone, guide),
            sparse=sparse,
            may_leave=exit_confidence is not None,
        )
        shape = (guide.lq.shape[0], math.prod(self._grid_shape(guide)))
        blank_BN = torch.full(shape, self.config.generator.codes, device=guide.lq.device)
        if ids_BN is not None and mask_BN is not None:
            blank_BN = torch.where(mask_BN, blank_BN, ids_BN)
        told = self.critic.confidence
        steps = SAMPLERS[self.config.sampler](
            passes.predict,
            passes.score,
            blank_BN,
            num_steps=num_steps,
            schedule=SCHEDULES[self.config.schedule],
            rng=rng,
            mask_BN=mask_BN,
            temperature=temperature,
            top_k=top_k,
            noise=noise,
            last_confidence=want_confidence,
            should_stop=None if exit_confidence is None else lambda score_BN: told(score_BN).mean(1) >= exit_confidence,
        )
        for step in steps:
            yield step._replace(confidence=None if step.confidence is None else told(step.confidence))

    def _grid_shape(self, guide: Guide) -> tuple[int, int]:
        """(h, w) of the guide's windows."""
        return guide.lq.shape[-2] // self.config.fold, guide.lq.shape[-1] // self.config.fold

    def grid(self, ids_BN: Tensor, guide: Guide) -> Tensor:
        """A row of tokens, or of their confidences, (B, N) as the grid (B, h, w) of the guide's windows."""
        return ids_BN.unflatten(1, self._grid_shape(guide))

    def decode(self, ids_BN: Tensor, guide: Guide, *, fidelity: float = 1.0) -> Tensor:
        """Images (B,3,sH,sW) of tokens (B,N), steered by the input: ``fidelity`` scales the control residual
        (0 = tokens alone, 1 = the paper). Not clamped."""
        return self.decode_latent(self.tokenizer.lookup(self.grid(ids_BN, guide)), guide, fidelity)

    def decode_latent(self, z_BDhw: Tensor, guide: Guide, fidelity: float | Tensor = 1.0) -> Tensor:
        """As :meth:`decode`, from latents; ``fidelity`` may be a tensor (B,1,1,1)."""
        if isinstance(fidelity, Tensor) or fidelity != 0.0:
            z_BDhw, guide = self.control.steer(z_BDhw, guide, fidelity)
        return self.tokenizer.decode(z_BDhw, guide)

    def super_resolve(
        self,
        lq_BCHW: Tensor,
        *,
        num_steps: int = 4,
        fidelity: float = 1.0,
        want_confidence: bool = True,
        rng: torch.Generator | None = None,
        temperature: float = 0.0,
        sparse: bool = False,
        exit_confidence: float | None = None,
        denoise: float | None = None,
    ) -> SuperResolved:
        """One batch of windows: generate, then decode under control.

        Args:
            lq_BCHW: Windows (B,3,H,W), RGB in [0,1], of the side that the config says.
            num_steps, want_confidence, rng, temperature, sparse, exit_confidence: See :meth:`iterate`.
            fidelity: See :meth:`decode`.
            denoise: See :meth:`guide`.

        Returns:
            Images, ids, confidence and every step; see :class:`SuperResolved`.

        >>> from realsrt import presets
        >>> presets.build("tiny").super_resolve(torch.rand(2, 3, 64, 64)).image.shape
        torch.Size([2, 3, 256, 256])
        """
        guide = self.guide(lq_BCHW, denoise=denoise)
        steps = tuple(
            self.iterate(
                guide,
                num_steps=num_steps,
                want_confidence=want_confidence,
                rng=rng,
                temperature=temperature,
                sparse=sparse,
                exit_confidence=exit_confidence,
            )
        )
        final = steps[-1]
        confidence = None if final.confidence is None else self.grid(final.confidence, guide)
        image = self.decode(final.ids, guide, fidelity=fidelity)
        return SuperResolved(image, self.grid(final.ids, guide), confidence, steps)
