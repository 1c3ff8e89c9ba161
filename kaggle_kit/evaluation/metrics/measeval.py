"""MeasEval (SemEval-2021 Task 8): quantities, what they measure, units, modifiers and relations.

    score(gold_folder, predicted_folder)["overlap_f1"]          # the figure of the leaderboard

Source: eval/measeval-eval.py of github.com/harperco/MeasEval, default mode and `-m class`. A score is
the mean over rows, matched or one-sided, so it is no F1 of precision and recall; only what stands in a
set whose quantity was found counts, and two predictions on one quantity give two matched rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Set
from dataclasses import dataclass
from itertools import product
from operator import itemgetter
from pathlib import Path

from kaggle_kit.core.errors import ScoreError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.data.formats.base import Reading
from kaggle_kit.data.formats.measeval import OFFICIAL_ID, Row, table
from kaggle_kit.evaluation.metrics.common import folder_files, named, ratios, score_errors

SPANS = {
    "quantity": "Quantity",
    "measured_entity": "MeasuredEntity",
    "measured_property": "MeasuredProperty",
    "qualifier": "Qualifier",
}
RELATIONS = {  # class -> key in the JSON, classes of the source, classes of the target
    "has_quantity": ("HasQuantity", ("measured_entity", "measured_property"), ("quantity",)),
    "has_property": ("HasProperty", ("measured_entity",), ("measured_property",)),
    "qualifies": ("Qualifies", ("qualifier",), ("measured_entity", "measured_property", "quantity")),
}

SetKey = tuple[str, int]  # document, annotSet
Place = tuple[str, int, str]  # document, annotSet, annotId
Pairs = dict[Place, list[Row]]  # predicted annotation -> its gold partners
Relation = tuple[Place, str]  # source, id of the target in the same set


@dataclass(frozen=True)
class Outcome:
    """The rows of one class: (exact match, overlap) of the matches, and how many have one side only."""

    matches: list[tuple[float, float]]
    predicted_only: int
    gold_only: int

    @property
    def rows(self) -> int:
        """Number of rows: matches, and those that one side only has."""
        return len(self.matches) + self.predicted_only + self.gold_only

    @classmethod
    def sum(cls, outcomes: Collection[Outcome]) -> Outcome:
        """Add up the outcomes of several classes or documents."""
        matches = [match for outcome in outcomes for match in outcome.matches]
        predicted_only = sum(outcome.predicted_only for outcome in outcomes)
        return cls(matches, predicted_only, sum(outcome.gold_only for outcome in outcomes))


def score(gold: Path, pred: Path) -> dict[str, float]:
    """Return all figures, 0 to 1, of two folders of TSVs (or of folders that hold them in `tsv/`).

    A class without rows has no figures. Without any match precision, recall and their F1 are 0,
    where the official program prints none. Raises ScoreError for files at which it stops.
    """
    return _figures(_outcomes(_rows(gold, _gold_fault), _rows(pred, _predicted_fault)))


def documents(gold: Path, pred: Path, metric: str) -> dict[str, dict[str, float]] | None:
    """Return each document's mean over its rows, weighted by them, for `overlap_f1` or `exact_match`."""
    place = {"exact_match": 0, "overlap_f1": 1}.get(metric)
    if place is None:
        return None
    wanted, found = _rows(gold, _gold_fault), _rows(pred, _predicted_fault)
    means: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row.document for row in [*wanted, *found]):
        own = ([row for row in rows if row.document == name] for rows in (wanted, found))
        total = Outcome.sum(_outcomes(*own).values())
        value = sum(match[place] for match in total.matches) / (total.rows or 1)
        means[name] = {"value": value, "weight": total.rows}
    return means


def _outcomes(wanted: list[Row], found: list[Row]) -> dict[str, Outcome]:
    """Return the rows of every class; sets correspond where their quantities met."""
    outcomes: dict[str, Outcome] = {}
    pairs: dict[str, Pairs] = {}
    corresponding: dict[SetKey, SetKey] = {}
    for name, kind in SPANS.items():
        mine, theirs = ([row for row in rows if row.type == kind] for rows in (found, wanted))
        pairs[name] = _pairs(mine, theirs, None if name == "quantity" else corresponding)
        outcomes[name] = _span_outcome(mine, theirs, pairs[name])
        if name == "quantity":
            met = pairs[name]
            corresponding = {_set(row): _set(met[_place(row)][-1]) for row in mine if _place(row) in met}
    for name, values, per_value in (("unit", _units, False), ("modifier", _modifiers, True)):
        mine, theirs = ([row for row in rows if row.type == "Quantity"] for rows in (found, wanted))
        outcomes[name] = _value_outcome(mine, theirs, corresponding, values, per_value)
    for name, (key, *ends) in RELATIONS.items():
        sources, targets = ({k: v for kind in kinds for k, v in pairs[kind].items()} for kinds in ends)
        both = _relations(found, key), _relations(wanted, key)
        outcomes[name] = _relation_outcome(*both, corresponding, sources, targets)
    return outcomes


def _figures(outcomes: dict[str, Outcome]) -> dict[str, float]:
    total = Outcome.sum(outcomes.values())
    right = len(total.matches)
    sizes = {"predicted": right + total.predicted_only, "gold": right + total.gold_only}
    figures = ratios("row_{}", right=right, **sizes)
    for pattern, outcome in [("{}", total), *((f"{name}_{{}}", one) for name, one in outcomes.items())]:
        if outcome.rows:
            exact, overlaps = map(sum, zip(*outcome.matches, strict=True)) if outcome.matches else (0, 0)
            means = {"exact_match": exact / outcome.rows, "overlap_f1": overlaps / outcome.rows}
            figures |= named(pattern, means)
    return figures


def _rows(folder: Path, check: Callable[[Row], str | None]) -> list[Row]:
    paths = folder_files(folder, "*.tsv") or folder_files(folder, "tsv/*.tsv")
    if not paths:
        raise ScoreError(f"{folder}: found no .tsv file; expected <docId>.tsv files, if with the header only")
    rows: dict[Place, Row] = {}
    for path in paths:
        with score_errors():
            read = table(path, Reading(strict=True))
        for row in read:
            fault = "an annotation that was there before" if _place(row) in rows else check(row)
            if fault:
                raise ScoreError(f"{path}:{row.line.number}: found {fault}; the official scorer stops there")
            rows[_place(row)] = row
    return list(rows.values())


def _gold_fault(row: Row) -> str | None:
    bare = row.type != "Quantity" and not row.other
    return f"a {row.type} without relation" if bare else None


def _predicted_fault(row: Row) -> str | None:
    """What the official program's own validation of submissions refuses."""
    if len(row.text) != row.end - row.start:
        return f"a text of {len(row.text)} characters for the span {row.start}-{row.end}"
    if not OFFICIAL_ID.fullmatch(row.id):
        return f"annotId {quoted(row.id, 40)}, not of the form T1-1"
    return _gold_fault(row)


def _set(row: Row) -> SetKey:
    return (row.document, row.annot_set)


def _place(row: Row) -> Place:
    return (row.document, row.annot_set, row.id)


def _pairs(
    predicted: Iterable[Row], gold: Iterable[Row], corresponding: dict[SetKey, SetKey] | None
) -> Pairs:
    """Spans that meet (ends count as positions): in one document for quantities, else in a set's gold set."""
    candidates: dict[object, list[Row]] = defaultdict(list)
    for row in gold:
        candidates[row.document if corresponding is None else _set(row)].append(row)
    pairs: Pairs = {}
    for row in predicted:
        home = row.document if corresponding is None else corresponding.get(_set(row))
        near = candidates.get(home, ())
        partners = [other for other in near if row.start <= other.end and other.start <= row.end]
        if partners:
            pairs[_place(row)] = partners
    return pairs


def _span_outcome(predicted: list[Row], gold: list[Row], pairs: Pairs) -> Outcome:
    met = [(row, partner) for row in predicted for partner in pairs.get(_place(row), ())]
    best: dict[tuple[str, str], float] = defaultdict(float)  # the scorer takes the maximum per annotation id
    for row, partner in met:
        name = (row.document, row.id)
        best[name] = max(best[name], overlap(row, partner))
    matches = [
        (float((row.start, row.end) == (partner.start, partner.end)), best[row.document, row.id])
        for row, partner in met
    ]
    found = {_place(partner) for _, partner in met}
    missed = sum(_place(row) not in found for row in gold)
    return Outcome(matches, sum(_place(row) not in pairs for row in predicted), missed)


def overlap(predicted: Row, gold: Row) -> float:
    """Compute the F1 of blank-separated parts; the shared stretch is cut from the predicted text."""
    start, end = max(predicted.start, gold.start), min(predicted.end, gold.end)
    stretch = predicted.text[start - predicted.start : end - predicted.start]
    shared, mine, theirs = (len(text.split(" ")) for text in (stretch, predicted.text, gold.text))
    precision, recall = shared / mine, shared / theirs
    return 2 * precision * recall / (precision + recall)


def _units(row: Row) -> list[str]:
    return [row.other["unit"]] if row.other.get("unit") else []


def _modifiers(row: Row) -> list[str]:
    return list(row.other.get("mods", ()))


def _value_outcome(
    predicted: list[Row],
    gold: list[Row],
    corresponding: dict[SetKey, SetKey],
    values: Callable[[Row], list[str]],
    per_value: bool,
) -> Outcome:
    """Units and modifiers. `per_value`: a set is excused for the matched value only, not as a whole."""
    mine = [(corresponding.get(_set(row)), value) for row in predicted for value in values(row)]
    theirs = [(_set(row), value) for row in gold for value in values(row)]
    matched = [item for item in mine for other in theirs if item == other]
    excuse = (lambda item: item) if per_value else itemgetter(0)
    excused = set(map(excuse, matched))
    return _sure(len(matched), map(excuse, mine), excused, map(excuse, theirs), excused)


def _relations(rows: Iterable[Row], key: str) -> list[Relation]:
    """Only the first key of a row's JSON counts as its relation."""
    kept = (row for row in rows if row.type != "Quantity" and next(iter(row.other)) == key)
    return [(_place(row), row.other[key]) for row in kept]


def _relation_outcome(
    predicted: list[Relation],
    gold: list[Relation],
    corresponding: dict[SetKey, SetKey],
    sources: Pairs,
    targets: Pairs,
) -> Outcome:
    """A match for every combination of partners whose gold set holds the relation between them."""
    matched: list[tuple[Place, Place]] = []  # predicted source, gold source
    for place, target in predicted:
        for source, end in product(sources.get(place, ()), targets.get((*place[:2], target), ())):
            other = (*corresponding[place[:2]], source.id)
            matched += [(place, other)] if (other, end.id) in gold else []
    mine, theirs = {place for place, _ in matched}, {other for _, other in matched}
    return _sure(len(matched), (place for place, _ in predicted), mine, (place for place, _ in gold), theirs)


def _sure(
    matches: int, predicted: Iterable[object], met: Set[object], gold: Iterable[object], found: Set[object]
) -> Outcome:
    """Return the outcome of a class whose matches are exact; a side's row counts alone where it met none."""
    alone = sum(item not in met for item in predicted)
    return Outcome([(1.0, 1.0)] * matches, alone, sum(item not in found for item in gold))
