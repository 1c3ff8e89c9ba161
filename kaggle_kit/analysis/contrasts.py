"""Differences between two arms over seeds: RQ2, MIMIC exclusion, ablations and S5, judged alike.

    documents = contrasts("ablation", find_runs(Path("runs")))
    print(*in_words(documents), sep="\\n")
    contrast_table(documents)

A difference is that of means over seeds, with the variance of seeds and of documents (`stats`), a Welch test
and its p adjusted by Holm over all declared pairs and tasks of the question. One seed gives a difference and
no inference. Out of distribution two figures are compared: the score there, and the drop to it from inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kaggle_kit.analysis.comparability import assert_comparable, documents_of
from kaggle_kit.analysis.contrast_arms import COMPARISONS, OUTSIDE, Comparison, Pair
from kaggle_kit.analysis.stats import (
    Difference,
    difference_of,
    document_variance,
    holm,
    resampled_differences,
    scores,
)
from kaggle_kit.analysis.survivorship import Unfinished, filled, lost, unfinished_in_words
from kaggle_kit.analysis.verdict_inputs import Entry, reported_split
from kaggle_kit.analysis.verdict_rule import Rule
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError, KitError, nearest

HIGHER, LOWER, NOT_SHOWN, ONE_SEED = "higher", "lower", "no difference shown", "one seed: no inference"
SETTINGS = ("alpha", "test", "power", "resamples")  # of `experiment`, where it declares them
MARKS = ("smoke", "practice", "restricted")

Tables = Sequence[tuple[int, np.ndarray, np.ndarray]]  # sign and both arms, (seeds, documents, columns) each


def contrasts(
    question: str,
    runs: Sequence[RunFolder],
    *,
    model: str = "",
    split: str = "",
    as_they_stand: bool = False,
) -> list[dict[str, Any]]:
    """One document for each comparison that the finished runs make; an empty list where they make none.

    Raises ConfigError for an unknown question or split, and IncomparableRuns.
    """
    found = _comparisons(question, runs)
    asked = [each for each in found if not model or each.entries[0]["model"] == model]
    return [_judged(comparison, split, as_they_stand) for comparison in asked]


def shown(question: str, runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """`contrasts` for a page, which shows a refusal instead of stopping at it."""
    found = []
    try:
        comparisons = _comparisons(question, runs)
    except KitError as refusal:
        return [_refused(question, question, refusal)]
    for comparison in comparisons:
        try:
            found.append(_judged(comparison, "", False))
        except KitError as refusal:
            found.append(_refused(question, comparison.title, refusal))
    return found


def contrast(tables: Tables, rule: Rule) -> tuple[float, Difference | None]:
    """First minus second of signed figures added up, such as inside minus outside; None for one seed."""
    first, second = (sum(table[0] * scores(table[arm]) for table in tables) for arm in (1, 2))
    if len(first) < 2:
        return float(first[0] - second[0]), None
    rng = np.random.default_rng(rule.seed)
    draws = [resampled_differences(one, other, rule.resamples, rng) for _, one, other in tables]
    variance = sum(document_variance(drawn) for drawn in draws)  # documents of other corpora are independent
    documents = min(one.shape[1] for _, one, _ in tables)
    difference = difference_of(first, second, variance, documents, rule.test)
    return difference.value, difference


def in_words(documents: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of each comparison its title, what marks its runs and is missing, and a sentence on every contrast."""
    if not documents:
        yield "no finished runs of this question yet: nothing to compare"
    for document in documents:
        yield document["title"]
        yield from _sentences(document)


def _sentences(document: Mapping[str, Any]) -> Iterator[str]:
    if "reason" in document:
        yield f"the comparison is refused — {document['reason']}"
        return
    if toys := [mark for mark in MARKS[:2] if mark in document["marks"]]:
        yield f"NOT A RESULT: these are {' and '.join(toys)} runs."
    yield from unfinished_in_words(document)
    for pair in document["missing"]:
        yield f"{pair}: an arm has no finished run."
    for found in document["contrasts"]:
        yield _sentence(found, document)


def contrast_table(documents: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per contrast, in the metric's own unit."""
    columns = ["task", "figure", "first", "second", "seeds", "difference", "low", "high", "p_holm"]
    columns += ["detectable", "verdict"]
    rows = [
        {"comparison": document["title"], **found, "seeds": len(found["seeds"])}
        for document in documents
        for found in document.get("contrasts", ())
    ]
    return pd.DataFrame(rows, columns=["comparison", *columns])


def _comparisons(question: str, runs: Sequence[RunFolder]) -> list[Comparison]:
    if question not in COMPARISONS:
        known = f"{', '.join(COMPARISONS)}{nearest(question, COMPARISONS)}"
        raise ConfigError(f"question is {question!r}; allowed: {known}")
    return COMPARISONS[question](runs)


def _refused(question: str, title: str, refusal: KitError) -> dict[str, Any]:
    return {"question": question, "title": title, "reason": str(refusal)}


def _judged(comparison: Comparison, split: str, as_they_stand: bool) -> dict[str, Any]:
    split = reported_split(comparison.entries, split)
    experiment = comparison.entries[0].config["experiment"]
    rule = Rule(**{key: experiment[key] for key in SETTINGS if key in experiment})
    there = [pair for pair in comparison.pairs if {pair.first, pair.second} <= comparison.arms.keys()]
    unfinished: Unfinished = {}
    found: list[dict[str, Any]] = []
    for pair in there:
        arms = {name: comparison.arms[name] for name in (pair.first, pair.second)}
        named, missing = lost(comparison.question, arms, as_they_stand)
        unfinished |= named
        assert_comparable(comparison.question, arms, pair.tasks, split, missing)
        seeds = sorted(missing | {entry.seed for runs in arms.values() for entry in runs})
        for task in pair.tasks:
            for figure, tables in _tables(comparison, pair, task, split, seeds).items():
                what = {"task": task, "figure": figure, "first": pair.first, "second": pair.second}
                found.append(what | {"seeds": seeds} | _estimates(tables, rule))
    family = (2 if comparison.outside else 1) * sum(len(pair.tasks) for pair in comparison.pairs)
    return {
        "question": comparison.question,
        "title": comparison.title,
        "split": split,
        "marks": [mark for mark in MARKS if any(e["flags"].get(mark) for e in comparison.entries)],
        "rule": {"alpha": rule.alpha, "test": rule.test, "power": rule.power, "family": family},
        "contrasts": _decided(found, family, rule),
        "missing": [f"{pair.first} − {pair.second}" for pair in comparison.pairs if pair not in there],
        "unfinished": unfinished,
        "as_they_stand": as_they_stand,
        "inputs": [entry.id for entry in comparison.entries],
    }


def _tables(
    comparison: Comparison, pair: Pair, task: str, split: str, seeds: Sequence[int]
) -> dict[str, Tables]:
    """Name of a figure -> what makes it, of both arms and all seeds."""
    first, second = (comparison.arms[name] for name in (pair.first, pair.second))

    def both(entries: Sequence[Entry], where: str) -> tuple[np.ndarray, np.ndarray]:
        _, parts = documents_of(entries, task, where)
        mine, theirs = parts[: len(first)], parts[len(first) :]
        return filled(mine, first, seeds, first=True), filled(theirs, second, seeds, first=False)

    inside = both([*first, *second], split)
    name = first[0].primary(task, split).name
    if not comparison.outside:
        return {f"{name} on {split}": [(1, *inside)]}
    entries = [comparison.outside[entry.id] for entry in (*first, *second)]
    outside = both(entries, OUTSIDE)
    there = entries[0].primary(task, OUTSIDE).name
    return {f"{there} on {OUTSIDE}": [(1, *outside)], "drop": [(1, *inside), (-1, *outside)]}


def _estimates(tables: Tables, rule: Rule) -> dict[str, Any]:
    value, difference = contrast(tables, rule)
    low, high = difference.interval(rule.alpha) if difference else (None, None)
    return {
        "difference": value,
        "low": low,
        "high": high,
        "p_value": difference.p_value if difference else None,
        "documents": min(one.shape[1] for _, one, _ in tables),
        "estimate": difference,
    }


def _decided(found: Sequence[dict[str, Any]], family: int, rule: Rule) -> list[dict[str, Any]]:
    """The estimates with p values adjusted over the declared family, and what they show.

    A declared contrast without runs, or with one seed, has shown nothing: its p is 1.
    """
    p_values = [each["p_value"] if each["estimate"] else 1.0 for each in found]
    adjusted = holm(p_values + [1.0] * (family - len(found)))
    decided = []
    for each, p in zip(found, adjusted, strict=False):
        words = {"p_holm": None, "detectable": None, "verdict": ONE_SEED}
        if estimate := each["estimate"]:
            word = (HIGHER if each["difference"] > 0 else LOWER) if p <= rule.alpha else NOT_SHOWN
            detectable = estimate.detectable(rule.alpha / family, rule.power)
            words = {"p_holm": p, "detectable": detectable, "verdict": word}
        decided.append({key: value for key, value in each.items() if key != "estimate"} | words)
    return decided


def _sentence(found: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    rule, seeds = document["rule"], len(found["seeds"])
    what = f"{found['task']}, {found['figure']}: {found['first']} − {found['second']} ="
    if found["verdict"] == ONE_SEED:
        return f"{what} {found['difference']:+.4f}; {ONE_SEED}."
    interval = f"{1 - rule['alpha']:.0%} interval {found['low']:+.4f} to {found['high']:+.4f}"
    test = f"p = {found['p_holm']:.3g} after Holm over {rule['family']}"
    power = f"{seeds} seeds find a difference of {found['detectable']:.4f} with {rule['power']:.0%} power"
    return f"{what} {found['difference']:+.4f}, {interval}, {test}: {found['verdict']}. {power}."
