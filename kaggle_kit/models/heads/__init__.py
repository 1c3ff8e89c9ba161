"""One head per file, all with the same small interface.

A head sees real tokens only: `hidden` is (tokens, hidden_size), one flat row without padding, and
`targets` are the tensors that `data/batch.py` builds for its kind.

    logits = head(hidden, targets)
    loss = head.loss(logits, targets)        # a sum; the trainer divides by what was counted
"""

from __future__ import annotations

from torch import nn

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import ComponentSpec, Kind
from kaggle_kit.models.heads.ranking import SequenceRankingHead
from kaggle_kit.models.heads.token import TokenClassificationHead

__all__ = ["SequenceRankingHead", "TokenClassificationHead", "build_head"]


def build_head(component: ComponentSpec, hidden_size: int, *, causal: bool) -> nn.Module:
    """The head of a component, float32. `causal` decides what a sequence is pooled from."""
    if component.kind is Kind.TOKENS:
        return TokenClassificationHead(component, hidden_size)
    if component.kind is Kind.RANKING:
        return SequenceRankingHead(component, hidden_size, pooling="last" if causal else "mean")
    raise ConfigError(f"component {component.name!r}: there is no head for {component.kind.value!r} yet")
