"""Generator and critic: a backbone and a bias-free linear head each (paper, "Generator" and "Critic").

Shapes: B batch, N tokens, V codes.
"""

from torch import Tensor, nn

from realsrt.models.transformer import Condition, Transformer, TransformerConfig


class Generator(nn.Module):
    """Predicts the code of every position."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.backbone: Transformer = config.build()
        self.to_logits = nn.Linear(config.width, config.codes, bias=False)

    def forward(self, ids_BN: Tensor, cond: Condition, mask_BN: Tensor) -> Tensor:
        """Logits (B, N, V)."""
        return self.to_logits(self.backbone(ids_BN, cond, mask_BN))


class Critic(nn.Module):
    """Scores how believable every token is."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.backbone: Transformer = config.build()
        self.to_logit = nn.Linear(config.width, 1, bias=False)

    def forward(self, ids_BN: Tensor, cond: Condition) -> Tensor:
        """Confidence (B, N): high = believable. The network is trained with 1 for "predicted", 0 for "real"; its sign
        is flipped here and nowhere else."""
        return -self.to_logit(self.backbone(ids_BN, cond)).squeeze(-1)
