"""Answer ranking: one score per question–candidate sequence.

head = SequenceRankingHead(component, hidden_size=384, pooling="mean")
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec
from kaggle_kit.heads.dropout import FastDropout

POOLINGS = ("last", "mean")
MARGIN = 1.0  # in logits


class SequenceRankingHead(nn.Module):
    """A logit per sequence, pooled from the last real token (decoders) or the mean (encoders)."""

    def __init__(
        self, component: ComponentSpec, hidden_size: int, pooling: str, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; allowed: {', '.join(POOLINGS)}")
        self.pooling = pooling
        self.dropout = FastDropout(dropout)
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
        """Binary cross-entropy plus a pairwise hinge, summed over the candidates whose label is known.

        The first keeps 0.5 a fair threshold for the label, the second orders: `MARGIN` between each
        relevant and each irrelevant candidate of one question. A question's mean hinge counts once for
        each of its candidates here, so the sum is averaged over candidates like the first part. A
        question that the micro-batch holds in part gives the pairs it has.
        """
        known = targets["labels"] >= 0
        scores, labels, group = (values[known] for values in (logits, targets["labels"], targets["group"]))
        right_or_wrong = F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype), reduction="sum")
        return right_or_wrong + _hinge(scores, labels, group)


def _hinge(scores: Tensor, labels: Tensor, group: Tensor) -> Tensor:
    """Sum over questions of their number of candidates times the mean hinge of their pairs."""
    same = group[:, None] == group  # (candidates, candidates)
    ordered = same & (labels[:, None] > labels)  # row relevant, column irrelevant
    pairs = (same.to(scores.dtype) @ ordered.sum(1).to(scores.dtype)).clamp_min(1)  # of each one's question
    hinge = F.relu(MARGIN - (scores[:, None] - scores))
    per_pair = same.sum(1) / pairs  # candidates of the question / its pairs
    return (hinge * ordered * per_pair[:, None]).sum()


def _segment_mean(hidden: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Mean of each sequence's tokens. (tokens, hidden) -> (sequences, hidden)"""
    lengths = last - first + 1
    owner = torch.repeat_interleave(torch.arange(len(first), device=hidden.device), lengths)
    sums = hidden.new_zeros((len(first), hidden.shape[1])).index_add_(0, owner, hidden)
    return sums / lengths[:, None]
