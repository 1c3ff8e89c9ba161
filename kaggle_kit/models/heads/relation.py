"""Relations between the mentions of a passage, every candidate pair scored from one encoding.

    head = RelationExtractionHead(component, hidden_size=384)

A mention is [first token; last token; type]; a pair is [source; target; source * target; distance].
The relation of an event to the document time is a pair too: its target is a learnt document node.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec
from kaggle_kit.models.dropout import FastDropout

WIDTH = 128  # of a mention's representation
TYPE, DISTANCE = 16, 16  # sizes of the embeddings
DISTANCES = (-math.inf, -32, -16, -8, -4, -2, 0, 1, 2, 4, 8, 16, 32)  # lower bounds of the classes, in words

# What "no relation" weighs in the loss. The threshold that is best for F1 is half of the best F1
# (Lipton et al. 2014); weighing the negatives by w moves the decision from 1/2 to w / (1 + w), here
# to 1/3, which is right where an F1 of 2/3 can be had.
NONE_WEIGHT = 0.5


class RelationExtractionHead(nn.Module):
    """Logits of `no relation` and of each label, per candidate."""

    def __init__(self, component: ComponentSpec, hidden_size: int, dropout: float = 0.1) -> None:
        super().__init__()
        types = {name for names in component.candidates for name in names}
        self.entity_type = nn.Embedding(max(1, len(types)), TYPE)
        self.mention = nn.Linear(2 * hidden_size + TYPE, WIDTH)
        self.document = nn.Parameter(torch.zeros(1, WIDTH))
        self.source = nn.Linear(WIDTH, WIDTH)
        self.target = nn.Linear(WIDTH, WIDTH)
        self.distance = nn.Embedding(len(DISTANCES), DISTANCE)
        self.pair = nn.Linear(3 * WIDTH + DISTANCE, WIDTH)
        self.score = nn.Linear(WIDTH, 1 + len(component.labels))
        self.dropout = FastDropout(dropout)
        self.register_buffer("distances", torch.tensor(DISTANCES), persistent=False)
        weights = torch.ones(1 + len(component.labels))
        weights[0] = NONE_WEIGHT
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """(tokens, hidden) -> (candidates, classes), class 0 is no relation"""
        nodes = torch.cat([self._mentions(hidden, targets), self.document])  # (mentions + 1, WIDTH)
        source = self.source(nodes)[targets["source"]]
        target = self.target(nodes)[targets["target"]]
        bucket = torch.bucketize(targets["distance"].float(), self.distances, right=True) - 1
        pair = torch.cat([source, target, source * target, self.distance(bucket)], dim=-1)
        return self.score(self.dropout(F.gelu(self.pair(pair))))

    def loss(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Cross-entropy summed over the candidates, those without a relation weighing NONE_WEIGHT.

        It is averaged over candidates.
        """
        return F.cross_entropy(logits, targets["labels"], weight=self.weights.to(logits), reduction="sum")

    def _mentions(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        ends = [hidden.index_select(0, targets[end]).float() for end in ("first", "last")]
        return F.gelu(
            self.mention(self.dropout(torch.cat([*ends, self.entity_type(targets["types"])], dim=-1)))
        )
