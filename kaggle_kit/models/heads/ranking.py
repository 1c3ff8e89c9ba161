"""Answer ranking: one score per question–candidate sequence.

    head = SequenceRankingHead(component, hidden_size=384, pooling="mean")
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec

POOLINGS = ("last", "mean")


class SequenceRankingHead(nn.Module):
    """A logit per sequence, pooled from the last real token (decoders) or the mean (encoders)."""

    def __init__(self, component: ComponentSpec, hidden_size: int, pooling: str, dropout: float = 0.1) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; allowed: {', '.join(POOLINGS)}")
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(hidden_size, 1)

    def forward(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """(tokens, hidden) -> (sequences,)"""
        first, last = targets["first"], targets["last"]
        if self.pooling == "last":
            pooled = hidden.index_select(0, last).float()
        else:
            pooled = _segment_mean(hidden.float(), first, last)
        return self.score(self.dropout(pooled)).squeeze(-1)

    def loss(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Binary cross-entropy summed over the candidates whose label is known."""
        known = targets["labels"] >= 0
        return F.binary_cross_entropy_with_logits(
            logits[known], targets["labels"][known].to(logits.dtype), reduction="sum"
        )


def _segment_mean(hidden: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Mean of each sequence's tokens. (tokens, hidden) -> (sequences, hidden)"""
    lengths = last - first + 1
    owner = torch.repeat_interleave(torch.arange(len(first), device=hidden.device), lengths)
    sums = hidden.new_zeros((len(first), hidden.shape[1])).index_add_(0, owner, hidden)
    return sums / lengths[:, None]
