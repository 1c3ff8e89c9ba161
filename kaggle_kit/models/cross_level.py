"""What level 2 learns from level 1: attention over its entity features, or their concatenation.

    hidden = hidden + cross(hidden, entities, layout)      # all (tokens, width)

Both are low-rank, so that they hardly count against parameter parity, and end in a zero matrix, so
that level 2 starts as if there were no level 1 (as LoRA's B does). Inputs are RMS-normalised without
parameters: hidden states of decoders hold values that differ by a factor of thousands.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.attention import packed_attention
from kaggle_kit.models.packing import PackedLayout

CROSS_LEVELS = ("attention", "concatenation")


class CrossLevelAttention(nn.Module):
    """Each token asks the entity features of its own sequence; a causal backbone asks backwards only."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, rank, bias=False) for _ in range(3))
        self.output = _starts_at_zero(nn.Linear(rank, width, bias=False))

    def forward(self, hidden: Tensor, entities: Tensor, layout: PackedLayout) -> Tensor:
        """(tokens, width), (tokens, width) -> (tokens, width)"""
        hidden, entities = (_normalised(states, self.output) for states in (hidden, entities))
        rows = self.query(hidden), self.key(entities), self.value(entities)  # (tokens, rank) each
        mixed, _ = packed_attention(self, *(row[None, None] for row in rows), None, packed=layout)
        return self.output(mixed[0, :, 0])  # (1, tokens, one head, rank) -> (tokens, width)

    def weights(self, hidden: Tensor, entities: Tensor, layout: PackedLayout) -> Iterator[Tensor]:
        """How tokens spread their attention, for each group of the layout: (sequences, queries, keys).

        Rows sum to 1. Those of padding are as meaningless as in the group's own grids.
        """
        query = self.query(_normalised(hidden, self.output))
        key = self.key(_normalised(entities, self.output))
        for number, group in enumerate(layout.groups):
            scores = query[group.queries] @ key[group.keys].transpose(1, 2) * key.shape[-1] ** -0.5
            yield torch.softmax(scores + layout.bias(number, None, scores.dtype)[:, 0], -1)


class CrossLevelConcatenation(nn.Module):
    """Each token gets its own entity features only."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(2 * width, rank, bias=False)
        self.output = _starts_at_zero(nn.Linear(rank, width, bias=False))

    def forward(self, hidden: Tensor, entities: Tensor, layout: PackedLayout) -> Tensor:
        """(tokens, width), (tokens, width) -> (tokens, width)"""
        both = [_normalised(states, self.output) for states in (hidden, entities)]
        return self.output(F.gelu(self.down(torch.cat(both, -1))))


def build_cross_level(kind: str, width: int, rank: int) -> nn.Module:
    if kind not in CROSS_LEVELS:
        raise ConfigError(f"cross_level is {kind!r}; allowed: {', '.join(CROSS_LEVELS)}")
    return {"attention": CrossLevelAttention, "concatenation": CrossLevelConcatenation}[kind](width, rank)


def cross_level_parameters(kind: str, width: int, rank: int) -> int:
    """Parameters of the module, in closed form."""
    return {"attention": 4, "concatenation": 3}[kind] * width * rank


def _starts_at_zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    return linear


def _normalised(states: Tensor, like: nn.Linear) -> Tensor:
    return F.rms_norm(states.to(like.weight.dtype), states.shape[-1:])
