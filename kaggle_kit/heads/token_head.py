"""BIO/BIOES tagging: one linear layer over the word's token, decoded by Viterbi.

head = TokenClassificationHead(component, hidden_size=384)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.tags import may_follow, tag_names
from kaggle_kit.core.types import ComponentSpec
from kaggle_kit.heads.dropout import FastDropout

IMPOSSIBLE = -1e4  # added to the score of a transition that the scheme forbids


class TokenClassificationHead(nn.Module):
    """Scores every tag of every word."""

    def __init__(self, component: ComponentSpec, hidden_size: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.tags = tag_names(component.labels, component.scheme)
        self.scheme = component.scheme
        self.dropout = FastDropout(dropout)
        self.score = nn.Linear(hidden_size, len(self.tags))

    def forward(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """(tokens, hidden) -> (words, tags)"""
        return self.score(self.dropout(hidden.index_select(0, targets["index"]).float()))

    def loss(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Cross-entropy summed over the words."""
        return F.cross_entropy(logits, targets["labels"], reduction="sum")

    def decode(self, logits: Tensor) -> tuple[list[str], Tensor]:
        """The best legal tag sequence of one document's words, and each word's probability of its tag.

        Viterbi over the words with forbidden transitions; `logits` is (words, tags).
        """
        scores = logits.float().log_softmax(-1)
        path = viterbi(scores, *self._transitions(scores.device))
        return [self.tags[tag] for tag in path], scores.exp()[
            torch.arange(len(path)), torch.tensor(path, dtype=torch.long)
        ]

    def _transitions(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        def penalty(legal: bool) -> float:
            return 0.0 if legal else IMPOSSIBLE

        between = [[penalty(may_follow(a, b, self.scheme)) for b in self.tags] for a in self.tags]
        first = [penalty(may_follow(None, tag, self.scheme)) for tag in self.tags]
        last = [penalty(may_follow(tag, None, self.scheme)) for tag in self.tags]
        return tuple(torch.tensor(values, device=device) for values in (between, first, last))


def viterbi(scores: Tensor, between: Tensor, first: Tensor, last: Tensor) -> list[int]:
    """The highest-scoring path. scores (words, tags), between (tags, tags) from row to column."""
    if len(scores) == 0:
        return []
    best = scores[0] + first
    back = []
    for row in scores[1:]:
        value, previous = (best[:, None] + between).max(0)
        back.append(previous)
        best = value + row
    path = [int((best + last).argmax())]
    for previous in reversed(back):
        path.append(int(previous[path[-1]]))
    return path[::-1]
