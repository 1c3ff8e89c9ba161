"""Answer ranking: one score per question-candidate sequence.

    head = SequenceRankingHead(component, hidden_size=384, last_token=False)
    targets = tensors(component, rows, starts)
    # first, last (sequences,) places · labels (sequences,) 1, 0 or -1 unknown · group (sequences,) question
    # known (labels,) the sequences whose label is known

The probability orders the candidates, and from `RELEVANT_FROM` on they are labelled relevant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.types import ComponentSpec, UnifiedSample
from kaggle_kit.data.passages import PairSequence
from kaggle_kit.heads.arrays import Columns, Records, Scored, long
from kaggle_kit.heads.arrays import split as split
from kaggle_kit.heads.dropout import HEAD_DROPOUT, FastDropout


def features(component: ComponentSpec) -> dict[str, str]:
    """Return the names and Arrow types of the component's columns in a token file."""
    return {f"relevant:{component.name}": "int8"}


def columns(component: ComponentSpec, sequences: Sequence[PairSequence], sample: UnifiedSample) -> Records:
    """Yield each candidate's relevance: 1, 0, or -1 where the gold label is withheld."""
    for sequence in sequences:
        relevant = sample.pairs[sequence.pair].relevant
        yield {f"relevant:{component.name}": -1 if relevant is None else int(relevant)}


def tensors(component: ComponentSpec, rows: Columns, starts: np.ndarray) -> dict[str, Tensor]:
    """Return the targets of a micro-batch whose rows begin at `starts`, by the names above."""
    labels = np.asarray(rows[f"relevant:{component.name}"])
    return {
        "first": long(starts),
        "last": long(starts + np.asarray(rows["length"]) - 1),
        "labels": long(labels),
        "known": long(np.flatnonzero(labels >= 0)),
        "group": long(rows["group"]),
        "sizes": long(np.ones(len(starts))),
    }


def count(targets: Mapping[str, Tensor]) -> int:
    """Count the candidates whose label is known."""
    return len(targets["known"])


MARGIN = 1.0  # in logits


class SequenceRankingHead(nn.Module):
    """A logit per sequence, pooled from the last real token (decoders) or the mean (encoders)."""

    def __init__(self, component: ComponentSpec, hidden_size: int, *, last_token: bool) -> None:
        super().__init__()
        self.last_token = last_token
        self.dropout = FastDropout(HEAD_DROPOUT)
        self.score = nn.Linear(hidden_size, 1)

    def forward(self, hidden: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Score each sequence: (tokens, hidden) -> (sequences,)"""
        first, last = targets["first"], targets["last"]
        pooled = (
            hidden.index_select(0, last) if self.last_token else _segment_mean(hidden.float(), first, last)
        )
        return self.score(self.dropout(pooled.float())).squeeze(-1)

    def loss(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Sum binary cross-entropy and a pairwise hinge over the candidates whose label is known.

        The first keeps 0.5 a fair threshold for the label, the second orders: `MARGIN` between each
        relevant and each irrelevant candidate of one question. A question's mean hinge counts once for
        each of its candidates here, so the sum is averaged over candidates like the first part. A
        question that the micro-batch holds in part gives the pairs it has.
        """
        every = (logits, targets["labels"], targets["group"])
        scores, labels, group = (values.index_select(0, targets["known"]) for values in every)
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
    """Mean of each sequence's tokens; no token is another's. (tokens, hidden) -> (sequences, hidden)"""
    lengths, places = last - first + 1, torch.arange(len(first), device=hidden.device)
    owner = torch.repeat_interleave(places, lengths, output_size=len(hidden))
    sums = hidden.new_zeros((len(first), hidden.shape[1])).index_add_(0, owner, hidden)
    return sums / lengths[:, None]


RELEVANT_FROM = 0.5  # probability from which a candidate is labelled relevant


def decode(component: ComponentSpec, head: nn.Module, scored: Scored) -> list[UnifiedSample]:
    """Return the samples with the gold pairs, whose labels and scores are the model's."""
    probability = torch.cat(list(scored.outputs)).sigmoid().tolist()
    pairs = [list(sample.pairs) for sample in scored.gold]
    places = zip(scored.table["document"], scored.table["pair"], probability, strict=True)
    for document, place, score in places:
        own = pairs[document]
        own[place] = replace(own[place], score=score, relevant=score >= RELEVANT_FROM, label=None)
    samples = zip(scored.predicted, pairs, strict=True)
    return [replace(sample, pairs=tuple(ranked)) for sample, ranked in samples]
