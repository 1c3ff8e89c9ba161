"""Mentions and relations compared as sets: strict, relaxed, and strict over the discontiguous ones alone.

    score(Path("gold.PubTator.txt"), Path("predictions"))["strict_f1"]
    mention_figures(gold_samples, predicted_samples)["discontiguous_strict_recall"]

Strict is the measure of BC5CDR and the NCBI disease corpus: document, type and offsets are equal.
Relaxed asks for one shared character and the same type, one to one, as many pairs as can be had.
Relations are BC5CDR's official measure: document, type and both concepts are equal, wherever mentions stand.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from kaggle_kit.core.types import UnifiedSample
from kaggle_kit.data.formats import Reading, read
from kaggle_kit.data.formats.pubtator import concept_relations
from kaggle_kit.evaluation.metrics.common import counts, ratios, score_errors, summed

Span = tuple[str, tuple[tuple[int, int], ...]]  # type, pieces in order
Related = tuple[str, str, str]  # type, concept, concept
Sets = dict[str, set[Any]]  # document -> what stands in it


def score(gold: Path, pred: Path) -> dict[str, float]:
    """Return `mention_figures` of two PubTator files or folders, and `relation_*` where there are relations.

    Raises ScoreError for malformed ones.
    """
    figures = mention_figures(_read(gold), _read(pred))
    return figures | _optional("relation_{}", _relations(gold), _relations(pred))


def documents(gold: Path, pred: Path, metric: str) -> dict[str, dict[str, int]] | None:
    """Return each document's counts for `strict_f1`, `relaxed_f1` or `relation_f1`."""
    if metric not in ("strict_f1", "relaxed_f1", "relation_f1"):
        return None
    if metric == "relation_f1":
        found = _document_counts(_relations(gold), _relations(pred))
    else:
        found = _document_counts(_spans(_read(gold)), _spans(_read(pred)), relaxed=metric == "relaxed_f1")
    return {name: counts(**sizes) for name, sizes in found.items()}


@score_errors()
def _read(place: Path) -> list[UnifiedSample]:
    return read("pubtator", place, Reading(strict=True))


@score_errors()
def _relations(place: Path) -> dict[str, set[Related]]:
    return concept_relations(place)


def mention_figures(gold: Iterable[UnifiedSample], predicted: Iterable[UnifiedSample]) -> dict[str, float]:
    """Compute precision, recall and F1, 0 to 1: `strict_*`, `relaxed_*` and `discontiguous_strict_*`.

    The last are left out where no mention has several pieces. Repeated mentions count once.
    Predictions in documents without gold are wrong ones.
    """
    wanted, found = _spans(gold), _spans(predicted)
    figures = _figures("strict_{}", wanted, found) | _figures("relaxed_{}", wanted, found, relaxed=True)
    return figures | _optional("discontiguous_strict_{}", _discontiguous(wanted), _discontiguous(found))


def _spans(samples: Iterable[UnifiedSample]) -> dict[str, set[Span]]:
    spans: dict[str, set[Span]] = {}
    for sample in samples:
        pieces = ((mention.type, tuple(sorted(mention.fragments))) for mention in sample.mentions)
        spans.setdefault(sample.document_id, set()).update(pieces)
    return spans


def _discontiguous(documents: dict[str, set[Span]]) -> dict[str, set[Span]]:
    return {name: {span for span in spans if len(span[1]) > 1} for name, spans in documents.items()}


def _document_counts(gold: Sets, predicted: Sets, relaxed: bool = False) -> dict[str, dict[str, int]]:
    """Document -> the counts of `ratios`."""
    sides = {name: (gold.get(name, set()), predicted.get(name, set())) for name in gold | predicted}
    return {
        name: {
            "right": _pair_count(wanted, found) if relaxed else len(wanted & found),
            "predicted": len(found),
            "gold": len(wanted),
        }
        for name, (wanted, found) in sides.items()
    }


def _figures(pattern: str, gold: Sets, predicted: Sets, relaxed: bool = False) -> dict[str, float]:
    return ratios(pattern, **summed(_document_counts(gold, predicted, relaxed).values()))


def _optional(pattern: str, gold: Sets, predicted: Sets) -> dict[str, float]:
    """Empty where neither side has any: a corpus without relations, or without mentions of several pieces."""
    return _figures(pattern, gold, predicted) if any([*gold.values(), *predicted.values()]) else {}


def _pair_count(gold: set[Span], predicted: set[Span]) -> int:
    """Return the size of a largest one-to-one pairing of meeting spans of the same type."""
    if not gold or not predicted:
        return 0
    meeting = np.array([[_meet(wanted, found) for found in predicted] for wanted in gold])
    partners = maximum_bipartite_matching(csr_array(meeting))
    return int((partners >= 0).sum())


def _meet(one: Span, other: Span) -> bool:
    pieces = ((a, b) for a in one[1] for b in other[1])
    return one[0] == other[0] and any(a[0] < b[1] and b[0] < a[1] for a, b in pieces)
