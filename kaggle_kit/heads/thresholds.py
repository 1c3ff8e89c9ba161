"""Choose on development data the threshold of P(no relation) below which a candidate is a relation.

    choose_threshold(part, links, gold, predicted)   # (all of dev, for its half 0, for its half 1)
    threshold_of(head.thresholds.tolist(), sample)

A threshold chosen on dev may be reported on dev only if no document decides on itself. So dev is
cross-fitted: its documents fall into two halves by their id, and each half is decided by the best threshold
of the other. Every other split, and every later prediction, is decided by the best threshold on all of dev.
"""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from kaggle_kit.core.types import ComponentSpec, UnifiedSample
from kaggle_kit.data.candidates import gold, in_order

CHOOSING = "dev"
UNDECIDED = 0.5  # without development data; the class weights of data/candidates.py assume it
GRID = tuple(step / 20 for step in range(1, 20))  # coarse, so that few documents choose no odd place


def half_of(document_id: str) -> int:
    """Return 0 or 1, by the id alone."""
    return hashlib.sha256(f"half {document_id}".encode()).digest()[0] % 2


def threshold_of(thresholds: Sequence[float], sample: UnifiedSample) -> float:
    """Return the threshold that decides a sample's candidates, of the three that a head keeps."""
    return thresholds[1 + half_of(sample.document_id) if sample.split == CHOOSING else 0]


def choose_thresholds(
    component: ComponentSpec,
    links: Sequence[Sequence[Any]],
    samples: Sequence[UnifiedSample],
    predicted: Sequence[UnifiedSample],
) -> tuple[float, float, float]:
    """Choose three thresholds: on all samples, for half 0 (on half 1), and for half 1 (on half 0).

    `links` are all candidates between the predicted mentions of each sample.
    """
    scores = []
    for sample, candidates, prediction in zip(samples, links, predicted, strict=True):
        scores.append((half_of(sample.document_id), *_scored(component, sample, candidates, prediction)))

    def best(left_out: int | None) -> float:
        rows = [row for half, some, _ in scores if half != left_out for row in some]
        return best_threshold(rows, sum(total for half, _, total in scores if half != left_out))

    return best(None), best(0), best(1)


def best_threshold(candidates: Iterable[tuple[float, bool]], gold: int) -> float:
    """Return the threshold of `GRID` with the highest F1; of equals, the nearest to `UNDECIDED`.

    `candidates` are (P(none), whether the prediction would be right); `gold` is how many there are to find.
    Where nothing is right, the threshold is `UNDECIDED`.
    """
    candidates = list(candidates)

    def f1(threshold: float) -> float:
        predictions = [right for none, right in candidates if none < threshold]
        return 2 * sum(predictions) / max(1, len(predictions) + gold)

    return max(GRID, key=lambda threshold: (f1(threshold), -abs(threshold - UNDECIDED)))


def _scored(
    component: ComponentSpec, sample: UnifiedSample, links: Sequence[Any], predicted: UnifiedSample
) -> tuple[list[tuple[float, bool]], int]:
    """((P(none), right) of each candidate, gold relations) of a sample; mentions match by place and type.

    Between concepts the surest pair of their mentions decides; a mention that gold lacks is its own concept.
    """
    mentions = {mention.id: (mention.fragments, mention.type) for mention in sample.mentions}
    concepts = {(m.fragments, m.type): m.concepts for m in sample.mentions} if component.concepts else {}
    items = {
        (tuple(mentions.get(end, end) for end in ends), label) for ends, label in gold(component, sample)
    }
    places = [(mention.fragments, mention.type) for mention in predicted.mentions]
    surest: dict[Any, float] = {}
    for link in links:
        ends = [places[number] for number in (link.source, link.target) if number >= 0]
        for pair in product(*(concepts.get(end) or (end,) for end in ends)):
            if component.concepts:
                pair = in_order(link.label, pair)
            surest[pair, link.label] = min(link.none, surest.get((pair, link.label), 1.0))
    return [(none, item in items) for item, none in surest.items()], len(items)
