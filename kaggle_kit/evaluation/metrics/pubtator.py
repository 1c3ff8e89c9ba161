"""Mentions and relations compared as sets: strict, relaxed, and strict over the discontiguous ones alone.

    score(Path("gold.PubTator.txt"), Path("predictions"))["strict_f1"]
    mention_figures(gold_samples, predicted_samples)["discontiguous_strict_recall"]

Strict is the measure of BC5CDR and the NCBI disease corpus: document, type and offsets are equal.
Relaxed asks for one shared character and the same type, one to one, as many pairs as can be had.
Relations are BC5CDR's official measure: document, type and both concepts are equal, wherever mentions stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.formats import Reading, read
from kaggle_kit.data.formats.pubtator import concept_relations
from kaggle_kit.evaluation.metrics.common import counts, ratios, score_errors

Span = tuple[str, tuple[tuple[int, int], ...]]  # type, pieces in order
Related = tuple[str, str, str]  # type, concept, concept


def score(gold: Path, pred: Path) -> dict[str, float]:
    """`mention_figures` and `relation_figures` of two PubTator files or folders of them.

    Raises ScoreError for malformed ones.
    """
    figures = mention_figures(*(_read(place) for place in (gold, pred)))
    return figures | relation_figures(*(_relations(place) for place in (gold, pred)))


def documents(gold: Path, pred: Path, metric: str) -> dict[str, dict[str, int]] | None:
    """What each document adds to `strict_f1`, `relaxed_f1` or `relation_f1`."""
    if metric not in ("strict_f1", "relaxed_f1", "relation_f1"):
        return None
    if metric == "relation_f1":
        wanted, found = (_relations(place) for place in (gold, pred))
    else:
        wanted, found = (_spans(_read(place)) for place in (gold, pred))
    sides = {name: (wanted.get(name, set()), found.get(name, set())) for name in wanted | found}
    return {
        name: counts(
            right=_paired(mine, theirs) if metric == "relaxed_f1" else len(mine & theirs),
            predicted=len(theirs),
            gold=len(mine),
        )
        for name, (mine, theirs) in sides.items()
    }


@score_errors()
def _read(place: Path) -> list[UnifiedSample]:
    return read("pubtator", place, Reading(strict=True))


@score_errors()
def _relations(place: Path) -> dict[str, set[Related]]:
    return concept_relations(place)


def relation_figures(
    gold: Mapping[str, set[Related]], predicted: Mapping[str, set[Related]]
) -> dict[str, float]:
    """Precision, recall and F1, 0 to 1, over (document, type, concept, concept).

    Empty where neither side has a relation: a corpus of mentions alone.
    """
    return _strict("relation", gold, predicted) if _size(gold) or _size(predicted) else {}


def mention_figures(gold: Iterable[UnifiedSample], predicted: Iterable[UnifiedSample]) -> dict[str, float]:
    """Precision, recall and F1, 0 to 1: `strict_*`, `relaxed_*` and `discontiguous_strict_*`.

    The last are left out where no mention has several pieces. Repeated mentions count once.
    Predictions in documents without gold are wrong ones.
    """
    wanted, found = _spans(gold), _spans(predicted)
    figures = _strict("strict", wanted, found)
    figures |= ratios("relaxed_{}", right=_relaxed(wanted, found), predicted=_size(found), gold=_size(wanted))
    wanted, found = ({name: _pieced(spans) for name, spans in side.items()} for side in (wanted, found))
    if _size(wanted) or _size(found):
        figures |= _strict("discontiguous_strict", wanted, found)
    return figures


def _spans(samples: Iterable[UnifiedSample]) -> dict[str, set[Span]]:
    spans: dict[str, set[Span]] = {}
    for sample in samples:
        pieces = ((mention.type, tuple(sorted(mention.fragments))) for mention in sample.mentions)
        spans.setdefault(sample.document_id, set()).update(pieces)
    return spans


def _pieced(spans: set[Span]) -> set[Span]:
    return {span for span in spans if len(span[1]) > 1}


def _size(spans: Mapping[str, set]) -> int:
    return sum(map(len, spans.values()))


def _strict(name: str, gold: Mapping[str, set], predicted: Mapping[str, set]) -> dict[str, float]:
    right = sum(len(spans & predicted.get(document, set())) for document, spans in gold.items())
    return ratios(f"{name}_{{}}", right=right, predicted=_size(predicted), gold=_size(gold))


def _relaxed(gold: dict[str, set[Span]], predicted: dict[str, set[Span]]) -> int:
    return sum(_paired(spans, predicted.get(document, set())) for document, spans in gold.items())


def _paired(gold: set[Span], predicted: set[Span]) -> int:
    """The size of a largest one-to-one pairing of meeting spans of the same type."""
    if not gold or not predicted:
        return 0
    meeting = np.array([[_meet(wanted, found) for found in predicted] for wanted in gold])
    partners = maximum_bipartite_matching(csr_array(meeting))
    return int((partners >= 0).sum())


def _meet(one: Span, other: Span) -> bool:
    pieces = ((a, b) for a in one[1] for b in other[1])
    return one[0] == other[0] and any(a[0] < b[1] and b[0] < a[1] for a, b in pieces)
