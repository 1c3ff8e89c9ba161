"""What kind of error is each wrong mention and relation, and what would F1 be without errors of a kind?

    found = mention_errors(labels, gold, predicted)      # Errors: a case for every mention of either side
    found.gains(rng)                                     # n and ΔF1 of each category

Categories after TIDE (Bolya et al. 2020). Gold and predicted mentions are paired one to one, in this order:
*correct* (same place and label), *type* (same place), *boundary* (shared characters and label), *both*. Of
several pairings the one with the largest overlap (characters of both over characters of either) counts.
A prediction that is left over is a *duplicate* where it meets gold that is paired already, else *spurious*.
Gold that is left over is *missed*. The place of a relation is its two ends: *direction* has them swapped,
*both* is that with another label, and a relation has a *loose end* where one of them is no gold mention.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.types import ComponentSpec, UnifiedSample
from kaggle_kit.data.candidates import label_of

CORRECT, LOOSE, MISSED = "correct", "loose end", "missed"
OF_MENTIONS = ("type", "boundary", "both", "duplicate", "spurious", MISSED)
OF_RELATIONS = ("type", "direction", "both", "duplicate", LOOSE, "spurious", MISSED)
PAIRS = 3  # so many categories pair a gold item with a prediction
WITHOUT_GOLD = ("duplicate", LOOSE, "spurious")
NONE = "(none)"
ALPHA = 0.05
Samples = Sequence[UnifiedSample]
Fragments = tuple[tuple[int, int], ...]


class Place(NamedTuple):
    """A mention as errors know it."""

    fragments: Fragments
    label: str


class Link(NamedTuple):
    """A relation as errors know it; an end that names no mention is None."""

    source: Place | None
    target: Place | None
    label: str


Item = Place | Link
Side = list[tuple[Item, float | None]]  # the items of one side of a document, with their scores


class Case(NamedTuple):
    """A gold item, a prediction, or both as a pair. `score` is the prediction's.

    `nested`: within another mention of its own side, or around one. `outside`: predicted at offsets that the
    text does not have. Of a relation either end may be so.
    """

    document: str
    category: str
    gold: Item | None
    predicted: Item | None
    score: float | None
    discontiguous: bool
    nested: bool
    outside: bool


@dataclass(frozen=True)
class Errors:
    """All cases of a split. `documents` are all ids, those without a case too."""

    categories: tuple[str, ...]
    documents: tuple[str, ...]
    cases: tuple[Case, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Return all that a case may be: `correct` and the categories."""
        return (CORRECT, *self.categories)

    @property
    def table(self) -> pd.DataFrame:
        """Return a row per case, with the fields of `Case`."""
        types = dict.fromkeys(("discontiguous", "nested", "outside"), bool)
        return pd.DataFrame(self.cases, columns=Case._fields).astype(types)

    @property
    def counts(self) -> pd.DataFrame:
        """Count the cases of each document: (documents, columns)."""
        found = pd.crosstab(self.table["document"], self.table["category"])
        return found.reindex(index=self.documents, columns=self.columns, fill_value=0)

    def f1(self, counts: np.ndarray, mended: str = CORRECT) -> np.ndarray:
        """Return the strict F1 of counts (…, columns), as it would be were every case of a category mended.

        Pairs and missed gold become correct; a prediction without gold is taken away.
        """
        names = np.array(self.columns)
        right = np.isin(names, (CORRECT, mended)) & ~np.isin(names, WITHOUT_GOLD)
        sizes = np.where(right | np.isin(names, self.categories[:PAIRS]), 2, names != mended)
        return 2 * (counts @ right) / np.maximum(1, counts @ sizes)

    def gains(self, rng: np.random.Generator, draws: int = 1000) -> pd.DataFrame:
        """Return a row per category: n, its share of all errors, ΔF1 were it mended, with a 95 % interval.

        The interval draws documents with replacement.
        """
        counts = self.counts.to_numpy()
        drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws) @ counts
        total, rows = counts.sum(axis=0), []
        for name, n in zip(self.categories, total[1:], strict=True):
            gain, spread = (self.f1(each, name) - self.f1(each) for each in (total, drawn))
            low, high = np.quantile(spread, [ALPHA / 2, 1 - ALPHA / 2])
            row = {"category": name, "n": n, "share": n / max(1, total[1:].sum())}
            rows.append(row | {"ΔF1": gain, "low": low, "high": high})
        return pd.DataFrame(rows)

    def subsets(self) -> pd.DataFrame:
        """Return a row per subset: gold items, recall, and the cases of each column.

        A case belongs where its gold item does, and a prediction without one where it does itself.
        """
        table, rows = self.table, []
        masks = {"all": table.index >= 0, "in one piece": ~table["discontiguous"]}
        masks |= {"discontiguous": table["discontiguous"], "nested": table["nested"]}
        for name, mask in (masks | {"not in the text": table["outside"]}).items():
            counts = table[mask]["category"].value_counts().reindex(self.columns, fill_value=0)
            gold = table[mask]["gold"].notna().sum()
            recall = counts[CORRECT] / gold if gold else float("nan")
            rows.append({"subset": name, "gold": gold, "recall": recall, **counts})
        return pd.DataFrame(rows)

    def confusion(self) -> pd.DataFrame:
        """Count gold labels (rows) by predicted labels (columns); `(none)` is a case without that side."""
        sides = [self.table[side].map(_label) for side in ("gold", "predicted")]
        names = [*sorted({*sides[0], *sides[1]} - {NONE}), NONE]
        return pd.crosstab(*sides).reindex(index=names, columns=names, fill_value=0)


def mention_errors(labels: Collection[str], gold: Samples, predicted: Samples) -> Errors:
    """Classify mentions of these types. RunFolderError where the two sides have not the same documents."""

    def items(sample: UnifiedSample) -> Side:
        return [(Place(m.fragments, m.type), m.score) for m in sample.mentions if m.type in labels]

    def match(one: Place, two: Place) -> tuple[str, float]:
        alike = one.label == two.label
        if one.fragments == two.fragments:
            return CORRECT if alike else "type", 1.0
        return "boundary" if alike else "both", _overlap(one.fragments, two.fragments)

    return _errors(OF_MENTIONS, gold, predicted, items, match)


def relation_errors(component: ComponentSpec, gold: Samples, predicted: Samples) -> Errors:
    """Classify the relations of a component. RunFolderError as above.

    Raises ConfigError for relations between concepts, of which any pair of mentions may be the right one, and
    for a component that labels mentions.
    """
    if component.concepts or component.attribute:
        what = "labels mentions" if component.attribute else "relates concepts of a document"
        raise ConfigError(f"{component.name} {what}; only relations between mentions have such errors")

    def items(sample: UnifiedSample) -> Side:
        places = {m.id: Place(m.fragments, m.type) for m in sample.mentions}
        named = ((label_of(component, one), one) for one in sample.relations)
        return [
            (Link(places.get(one.source), places.get(one.target), label), one.score)
            for label, one in named
            if label is not None
        ]

    def match(one: Link, two: Link) -> tuple[str, float]:
        alike = one.label == two.label
        if one[:2] == two[:2]:
            return CORRECT if alike else "type", 1.0
        return "direction" if alike else "both", float(one[:2] == two[1::-1])

    found = _errors(OF_RELATIONS, gold, predicted, items, match)
    ends = {sample.document_id: set(_mentions(sample)) for sample in gold}
    cases = (
        case._replace(category=LOOSE)
        if case.category == "spurious" and not ends[case.document].issuperset((case.predicted or ())[:2])
        else case
        for case in found.cases
    )
    return replace(found, cases=tuple(cases))


def _errors(
    categories: tuple[str, ...],
    gold: Samples,
    predicted: Samples,
    items: Callable[[UnifiedSample], Side],
    match: Callable[[Any, Any], tuple[str, float]],
) -> Errors:
    """Classify the items of all documents. `match`: a pair's category and weight, 0 for no pair."""
    ids, told = (tuple(sample.document_id for sample in side) for side in (gold, predicted))
    if ids != told:
        found = f"{len(told)} documents were predicted and {len(ids)} are gold, or others or in another order"
        raise RunFolderError(f"{found}; give both sides of one split")
    cases = []
    for right, other in zip(gold, predicted, strict=True):
        size = float("inf") if right.text is None else len(right.text)
        nested = [_nested(_mentions(sample)) for sample in (right, other)]
        for category, one, (two, score) in _paired(categories, items(right), items(other), match):
            places = places_of(one or two)
            shape = any(len(place.fragments) > 1 for place in places)
            inner = not nested[one is None].isdisjoint(places)
            ends = [end for place in places_of(two) for end in place.fragments]
            outside = any(not 0 <= start < end <= size for start, end in ends)
            cases.append(Case(right.document_id, category, one, two, score, shape, inner, outside))
    return Errors(categories, ids, tuple(cases))


def _paired(
    categories: tuple[str, ...], gold: Side, predicted: Side, match: Callable[[Any, Any], tuple[str, float]]
) -> list[tuple[str, Item | None, tuple[Item | None, float | None]]]:
    """Return (category, gold item, (predicted item, score)) of every item of a document."""
    shape = len(predicted), len(gold)
    pairs = [match(one, two) for (two, _), (one, _) in product(predicted, gold)]
    kinds = np.array([kind for kind, _ in pairs], dtype=object).reshape(shape)
    weights = np.array([weight for _, weight in pairs], dtype=float).reshape(shape)
    scores = np.array([score or 0.0 for _, score in predicted]).reshape(-1, 1)
    surest = 1 + 1e-6 * scores  # decides of equals
    rows: np.ndarray = np.ones(shape[0], bool)
    columns: np.ndarray = np.ones(shape[1], bool)
    found: list[tuple[str, Item | None, tuple[Item | None, float | None]]] = []
    for category in (CORRECT, *categories[:PAIRS]):
        left = weights * surest * (kinds == category) * rows[:, None] * columns
        for row, column in zip(*linear_sum_assignment(left, maximize=True), strict=True):
            if left[row, column]:
                found.append((category, gold[column][0], predicted[row]))
                rows[row] = columns[column] = False
    alone = np.where(weights.any(axis=1), "duplicate", "spurious")
    found += [(str(alone[row]), None, predicted[row]) for row in np.flatnonzero(rows)]
    return found + [(MISSED, gold[column][0], (None, None)) for column in np.flatnonzero(columns)]


def _overlap(one: Fragments, two: Fragments) -> float:
    """Return the characters of both over the characters of either."""
    shared = sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a, b in product(one, two))
    return shared / (sum(end - start for start, end in (*one, *two)) - shared) if shared else 0.0


def _nested(mentions: Sequence[Place]) -> set[Place]:
    """Return the mentions that lie within another one's span, or around it."""
    numbers: dict[Fragments, int] = {}
    place = np.array([numbers.setdefault(one.fragments, len(numbers)) for one in mentions])
    first = np.array([min(one.fragments)[0] for one in mentions])
    last = np.array([max(one.fragments)[1] for one in mentions])
    meet = (first[:, None] < last) & (first < last[:, None]) & (place[:, None] != place)
    within = meet & (np.subtract.outer(first, first) * np.subtract.outer(last, last) <= 0)
    return {one for one, inner in zip(mentions, within.any(axis=1), strict=True) if inner}


def _mentions(sample: UnifiedSample) -> list[Place]:
    return [Place(mention.fragments, mention.type) for mention in sample.mentions]


def places_of(item: Item | None) -> list[Place]:
    """The mention itself, or the ends of a relation that are mentions."""
    return [item] if isinstance(item, Place) else [end for end in (item or ())[:2] if end]


def _label(item: Item | None) -> str:
    return item.label if item else NONE
