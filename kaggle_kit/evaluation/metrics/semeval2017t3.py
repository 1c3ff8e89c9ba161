"""The official figures of 2016/2017 Task 3 (community question answering), as `ev.py` v2.2 prints them.

    score(gold_folder, predicted_folder)["map"]

Reference: the organisers' scorer package, `MAP_scripts`, without options.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.evaluation.metrics.common import file_lines, folder_files, ratios

CUTOFF = 10  # every official ranking figure looks at the first ten items of a query


class _Line(NamedTuple):
    query: bytes
    item: bytes
    score: float
    relevant: bool


def score(gold: Path, pred: Path) -> dict[str, float]:
    """Return all figures of one `.relevancy` and one `.pred` file, or of the folders that hold one each.

    `mrr_percent` is in percent, all else from 0 to 1. The official MAP divides a query's precisions by
    the relevant items among its first ten, so an item ranked eleventh costs nothing; `map_all_relevant`
    is the textbook figure, without cut-off and over all relevant items. Raises ScoreError where the
    official program stops: ids that differ, malformed lines, no line or no relevant item at all.
    """
    pairs = list(_aligned(_one_file(gold, "*.relevancy"), _one_file(pred, "*.pred")))
    if not any(truth.relevant for truth, _ in pairs):
        raise ScoreError(f"{gold}: none of the {len(pairs)} lines compared is relevant; at least one must be")
    rankings = list(_rankings(pairs).values())
    tops = [ranking[:CUTOFF] for ranking in rankings]
    return {
        "map": fmean(_average_precision(top) for top in tops),
        "avgrec": _average_recall(rankings),
        "mrr_percent": 100 * fmean(_reciprocal_rank(top) for top in tops),
        **_classification([(truth.relevant, guess.relevant) for truth, guess in pairs]),
        "map_all_relevant": fmean(_average_precision(ranking) for ranking in rankings),
    }


def documents(gold: Path, pred: Path, metric: str) -> dict[str, dict[str, float]] | None:
    """Return each query's own figure, by its id; the mean over queries is `map` or `map_all_relevant`."""
    if metric not in ("map", "map_all_relevant"):
        return None
    depth = CUTOFF if metric == "map" else None
    rankings = _rankings(_aligned(_one_file(gold, "*.relevancy"), _one_file(pred, "*.pred")))
    return {
        query.decode("utf-8"): {"value": _average_precision(ranking[:depth])}
        for query, ranking in rankings.items()
    }


def _rankings(pairs: Iterable[tuple[_Line, _Line]]) -> dict[bytes, list[bool]]:
    """Per query the relevance of its items, highest predicted score first, ties in file order."""
    queries: dict[bytes, list[tuple[float, bool]]] = {}
    for truth, guess in pairs:
        queries.setdefault(truth.query, []).append((guess.score, truth.relevant))
    return {
        query: [relevant for _, relevant in sorted(items, key=lambda item: item[0], reverse=True)]
        for query, items in queries.items()
    }


def _average_precision(ranking: Sequence[bool]) -> float:
    """Return the mean of the precisions at each relevant item."""
    found = accumulate(ranking)  # relevant items up to and including each rank
    precisions = [hits / rank for rank, hits in enumerate(found, start=1) if ranking[rank - 1]]
    return sum(precisions) / len(precisions) if precisions else 0.0


def _reciprocal_rank(ranking: Sequence[bool]) -> float:
    return 1 / (ranking.index(True) + 1) if True in ranking else 0.0


def _average_recall(rankings: Sequence[Sequence[bool]]) -> float:
    """Mean over k = 1..10 of the hits among the first k of all queries, over the most there could be."""
    depths = range(1, CUTOFF + 1)
    return fmean(
        sum(sum(ranking[:k]) for ranking in rankings) / sum(min(k, sum(ranking)) for ranking in rankings)
        for k in depths
    )


def _classification(labels: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of (true, predicted) labels; 0 where undefined."""
    right = sum(truth and guess for truth, guess in labels)
    truths, guesses = map(sum, zip(*labels, strict=True))
    accuracy = fmean(truth == guess for truth, guess in labels)
    return {"accuracy": accuracy, **ratios("{}", right=right, predicted=guesses, gold=truths)}


def _aligned(gold: Path, pred: Path) -> Iterator[tuple[_Line, _Line]]:
    """Gold and predicted lines side by side; what one file has more than the other is ignored."""
    for number, raw in enumerate(zip(file_lines(gold), file_lines(pred), strict=False), start=1):
        truth, guess = _line(raw[0], gold, number), _line(raw[1], pred, number)
        if truth[:2] != guess[:2]:
            expected, found = _shown(truth[:2]), _shown(guess[:2])
            raise ScoreError(f"{pred}:{number}: found {found}; the gold file has {expected} on this line")
        yield truth, guess


def _line(raw: bytes, path: Path, number: int) -> _Line:
    fields = raw.split()
    try:
        query, item, _, value, label = fields[:5]
        score = float(value)
        if not math.isfinite(score) or b"_" in value:  # Python's own way to write a number
            raise ValueError(value)
        return _Line(query, item, score, {b"true": True, b"false": False}[label])
    except (ValueError, KeyError) as error:
        expected = "query, item, rank, a finite score and true or false"
        found = quoted(_shown(fields), 80)
        raise ScoreError(f"{path}:{number}: found {found}; expected {expected}") from error


def _shown(fields: Iterable[bytes]) -> str:
    return b" ".join(fields).decode("utf-8", "replace")


def _one_file(place: Path, pattern: str) -> Path:
    if place.is_file():
        return place
    files = folder_files(place, pattern)
    if len(files) != 1:
        raise ScoreError(f"{place}: found {len(files)} files {pattern}; expected exactly one")
    return files[0]
