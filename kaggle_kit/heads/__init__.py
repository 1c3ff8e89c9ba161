"""One head per file, all with the same small interface.

A head sees real tokens only: `hidden` is (tokens, hidden_size), one flat row without padding, and
`targets` are the tensors that `data/targets` builds for its kind.

    logits = head(hidden, targets)
    loss = head.loss(logits, targets)        # a sum; the trainer divides by what was counted
"""

from __future__ import annotations

from torch import nn

from kaggle_kit.core.types import ComponentSpec, Kind
from kaggle_kit.heads.ranking_head import SequenceRankingHead
from kaggle_kit.heads.relation_head import RelationExtractionHead
from kaggle_kit.heads.span_head import SpanClassificationHead
from kaggle_kit.heads.token_head import TokenClassificationHead

__all__ = [
    "RelationExtractionHead",
    "SequenceRankingHead",
    "SpanClassificationHead",
    "TokenClassificationHead",
    "build_head",
]

HEADS = {
    Kind.TOKENS: TokenClassificationHead,
    Kind.SPANS: SpanClassificationHead,
    Kind.RELATIONS: RelationExtractionHead,
}


def build_head(component: ComponentSpec, hidden_size: int, *, decoder: bool) -> nn.Module:
    """The head of a component, float32. A ranking head pools a decoder's last token, an encoder's mean."""
    if component.kind is Kind.RANKING:
        return SequenceRankingHead(component, hidden_size, pooling="last" if decoder else "mean")
    return HEADS[component.kind](component, hidden_size)
