"""MeasEval (SemEval-2021 Task 8): quantities, what they measure, units, modifiers and relations.

    score(gold_folder, predicted_folder)["overlap_f1"]          # the figure of the leaderboard

Source: eval/measeval-eval.py of github.com/harperco/MeasEval, default mode and `-m class`. A score is
the mean over rows, matched or one-sided, so it is no F1 of precision and recall; only what stands in a
set whose quantity was found counts, and two predictions on one quantity give two matched rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from kaggle_kit.core.errors import CorpusError, ScoreError
from kaggle_kit.core.restricted import quoted
from kaggle_kit.data.formats.base import Reading
from kaggle_kit.data.formats.measeval import OFFICIAL_ID, Row, table
from kaggle_kit.evaluation.metrics.ratios import ratios
from kaggle_kit.evaluation.metrics.score_files import folder_files

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


@dataclass
class Outcome:
    """The rows of one class: (exact match, overlap) of the matches, and how many have one side only."""

    matches: list[tuple[float, float]] = field(default_factory=list)
    predicted_only: int = 0
    gold_only: int = 0

    @property
    def rows(self) -> int:
        return len(self.matches) + self.predicted_only + self.gold_only

    @classmethod
    def sum(cls, outcomes: Iterable[Outcome]) -> Outcome:
        total = cls()
        for outcome in outcomes:
            total.matches += outcome.matches
            total.predicted_only += outcome.predicted_only
            total.gold_only += outcome.gold_only
        return total


def score(gold: Path, pred: Path) -> dict[str, float]:
    """All figures, 0 to 1, of two folders of TSVs (or of folders that hold them in `tsv/`).

    A class without rows has no figures. Without any match precision, recall and their F1 are 0,
    where the official program prints none. Raises ScoreError for files at which it stops.
    """
    return _figures(_outcomes(_rows(gold, _gold_fault), _rows(pred, _predicted_fault)))


def documents(gold: Path, pred: Path, metric: str) -> dict[str, dict[str, float]] | None:
    """Each document's mean over its rows, weighted by them; `overlap_f1` and `exact_match` are such means."""
    place = {"exact_match": 0, "overlap_f1": 1}.get(metric)
    if place is None:
        return None
    sides = [_by_document(_rows(gold, _gold_fault)), _by_document(_rows(pred, _predicted_fault))]
    totals = {
        name: Outcome.sum(_outcomes(*(side.get(name, []) for side in sides)).values())
        for name in sides[0] | sides[1]
    }
    return {
        name: {
            "value": sum(match[place] for match in total.matches) / (total.rows or 1),
            "weight": total.rows,
        }
        for name, total in totals.items()
    }


def _by_document(rows: Iterable[Row]) -> dict[str, list[Row]]:
    documents: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        documents[row.document].append(row)
    return documents


def _outcomes(wanted: list[Row], found: list[Row]) -> dict[str, Outcome]:
    """The rows of every class; sets correspond where their quantities met."""
    outcomes: dict[str, Outcome] = {}
    pairs: dict[str, Pairs] = {}
    corresponding: dict[SetKey, SetKey] = {}
    for name, kind in SPANS.items():
        mine, theirs = ([row for row in rows if row.type == kind] for rows in (found, wanted))
        pairs[name] = _pairs(mine, theirs, None if name == "quantity" else corresponding)
        outcomes[name] = _span_outcome(mine, theirs, pairs[name])
        if name == "quantity":
            corresponding = {
                _set(row): _set(pairs[name][_place(row)][-1]) for row in mine if _place(row) in pairs[name]
            }
    outcomes["unit"] = _value_outcome(found, wanted, corresponding, _units, per_value=False)
    outcomes["modifier"] = _value_outcome(found, wanted, corresponding, _modifiers, per_value=True)
    for name, (key, sources, targets) in RELATIONS.items():
        ends = (_joined(pairs, sources), _joined(pairs, targets))
        outcomes[name] = _relation_outcome(
            _relations(found, key), _relations(wanted, key), corresponding, *ends
        )
    return outcomes


def _figures(outcomes: dict[str, Outcome]) -> dict[str, float]:
    total = Outcome.sum(outcomes.values())
    right = len(total.matches)
    figures = ratios("row", right=right, predicted=right + total.predicted_only, gold=right + total.gold_only)
    for prefix, outcome in {"": total, **{f"{name}_": outcome for name, outcome in outcomes.items()}}.items():
        if outcome.rows:
            figures[f"{prefix}exact_match"] = sum(exact for exact, _ in outcome.matches) / outcome.rows
            figures[f"{prefix}overlap_f1"] = sum(overlap for _, overlap in outcome.matches) / outcome.rows
    return figures


def _rows(folder: Path, check: Callable[[Row], str | None]) -> list[Row]:
    paths = folder_files(folder, "*.tsv") or folder_files(folder, "tsv/*.tsv")
    if not paths:
        raise ScoreError(f"{folder}: found no .tsv file; expected <docId>.tsv files, if with the header only")
    rows: dict[Place, Row] = {}
    for path in paths:
        try:
            read = table(path, Reading(strict=True))
        except CorpusError as error:
            raise ScoreError(str(error)) from error
        for row in read:
            fault = "an annotation that was there before" if _place(row) in rows else check(row)
            if fault:
                raise ScoreError(f"{path}:{row.line}: found {fault}; the official scorer stops there")
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
        partners = [
            other for other in candidates.get(home, ()) if row.start <= other.end and other.start <= row.end
        ]
        if partners:
            pairs[_place(row)] = partners
    return pairs


def _span_outcome(predicted: list[Row], gold: list[Row], pairs: Pairs) -> Outcome:
    best: dict[tuple[str, str], float] = defaultdict(float)  # the scorer takes the maximum per annotation id
    for row in predicted:
        for partner in pairs.get(_place(row), ()):
            name = (row.document, row.id)
            best[name] = max(best[name], overlap(row, partner))
    matches = [
        (float((row.start, row.end) == (partner.start, partner.end)), best[row.document, row.id])
        for row in predicted
        for partner in pairs.get(_place(row), ())
    ]
    met = {_place(partner) for partners in pairs.values() for partner in partners}
    return Outcome(
        matches,
        predicted_only=sum(_place(row) not in pairs for row in predicted),
        gold_only=sum(_place(row) not in met for row in gold),
    )


def overlap(predicted: Row, gold: Row) -> float:
    """F1 of blank-separated parts; the shared stretch is cut from the predicted text; empty, it is one."""
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
    mine = [
        (corresponding.get(_set(row)), value)
        for row in predicted
        if row.type == "Quantity"
        for value in values(row)
    ]
    theirs = [(_set(row), value) for row in gold if row.type == "Quantity" for value in values(row)]
    matched = [item for item in mine for other in theirs if item == other]
    excused = {item if per_value else item[0] for item in matched}
    return Outcome(
        [(1.0, 1.0)] * len(matched),
        predicted_only=sum((item if per_value else item[0]) not in excused for item in mine),
        gold_only=sum((item if per_value else item[0]) not in excused for item in theirs),
    )


def _relations(rows: Iterable[Row], key: str) -> list[Relation]:
    """Only the first key of a row's JSON counts as its relation."""
    kept = (row for row in rows if row.type != "Quantity" and next(iter(row.other)) == key)
    return [(_place(row), row.other[key]) for row in kept]


def _joined(pairs: dict[str, Pairs], names: Iterable[str]) -> Pairs:
    joined: Pairs = {}
    for name in names:
        for place, partners in pairs[name].items():
            joined[place] = joined.get(place, []) + partners
    return joined


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
        home = corresponding.get(place[:2])
        ends = product(sources.get(place, ()), targets.get((*place[:2], target), ()))
        for source_partner, target_partner in ends:
            wanted = ((*home, source_partner.id), target_partner.id) if home else None
            matched += [(place, other[0]) for other in gold if other == wanted]
    return Outcome(
        [(1.0, 1.0)] * len(matched),
        predicted_only=sum(place not in {mine for mine, _ in matched} for place, _ in predicted),
        gold_only=sum(place not in {theirs for _, theirs in matched} for place, _ in gold),
    )
