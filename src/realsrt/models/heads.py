"""Generator and critics: a backbone and a bias-free linear head each (paper, "Generator" and "Critic").

Shapes: B batch, N tokens, V codes, D width.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsrt.models.transformer import Condition, Transformer, TransformerConfig
from realsrt.nn.linear import Linear

KNOTS = 22
"""Of the map from a code critic's score to its confidence; the first and the last are at -16 and 16."""


def straight() -> Tensor:
    """The knots (2, K), scores and what they are mapped to, of the map that changes nothing."""
    return torch.linspace(-16, 16, KNOTS, device="cpu").expand(2, -1).clone()


class Generator(nn.Module):
    """Predicts the code of every token."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.backbone: Transformer = config.build()
        self.to_logits = Linear(config.width, config.codes, bias=False)

    def forward(self, ids_BN: Tensor, cond: Condition, mask_BN: Tensor, **some: Any) -> Tensor:
        """Logits (B, N, V); ``some`` as in :meth:`Transformer.forward`."""
        return self.to_logits(self.backbone(ids_BN, cond, mask_BN, **some))


class Critic(nn.Module):
    """Scores how believable every token is: the paper's, one logit from the features at a position."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.backbone: Transformer = config.build()
        self.to_logit = Linear(config.width, 1, bias=False)

    def forward(self, ids_BN: Tensor, cond: Condition, **some: Any) -> Tensor:
        """Score (B, N): high = believable. The network is trained with 1 for "predicted", 0 for "real"; its sign is
        flipped here and nowhere else."""
        return -self.to_logit(self.backbone(ids_BN, cond, **some)).flatten(1)

    def confidence(self, score_BN: Tensor) -> Tensor:
        """Scores as numbers in [0,1]."""
        return score_BN.sigmoid()


class CodeCritic(nn.Module):
    """Ours for small models: the features at a position give a distribution over codes, as the generator's do, and the
    score is how much likelier than chance the token there is, log(V·p), scaled and shifted. It can start from the
    generator's weights, and learns in minutes what a single logit has to find out from one bit a token.

    What is generated follows from the scores. What is told of them is their confidence, by a rising, piecewise linear
    map through ``knots`` (`recipes/confidence.py` fits it); weight files may lack these, and then the map is straight.
    """

    knots: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.backbone: Transformer = config.build()
        self.to_logits = Linear(config.width, config.codes, bias=False)
        self.gain = nn.Parameter(torch.ones(1))
        self.shift = nn.Parameter(torch.zeros(1))
        self.register_buffer("knots", straight())

    def forward(self, ids_BN: Tensor, cond: Condition, **some: Any) -> Tensor:
        """Score (B, N): high = believable."""
        logits_BNV = self.to_logits(self.backbone(ids_BN, cond, **some)).float()
        if (positions_BM := some.get("positions_BM")) is not None:
            ids_BN = ids_BN.gather(1, positions_BM)
        chosen_BN = logits_BNV.gather(-1, ids_BN[..., None]).squeeze(-1)
        likelier_BN = chosen_BN - logits_BNV.logsumexp(-1) + math.log(logits_BNV.shape[-1])
        return self.gain * likelier_BN + self.shift

    def confidence(self, score_BN: Tensor) -> Tensor:
        """Scores as numbers in [0,1], in the same order: the sigmoid of what the map makes of them."""
        at_K, to_K = self.knots
        turn_K = F.pad(to_K.diff() / at_K.diff(), (1, 1), value=1.0).diff()  # of the slope; outside it is 1
        return (score_BN + ((score_BN[..., None] - at_K).relu() * turn_K).sum(-1)).sigmoid()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.setdefault(prefix + "knots", straight())
        super()._load_from_state_dict(state_dict, prefix, *args)
