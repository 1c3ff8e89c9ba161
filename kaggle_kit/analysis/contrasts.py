"""Differences between two arms over seeds: RQ2, MIMIC exclusion, ablations and S5, judged alike.

    documents = contrasts("ablation", find_runs(Path("runs")))
    print(*in_words(documents), sep="\\n")
    contrast_table(documents)

A difference is that of means over seeds, with the variance of seeds and of documents (`stats`), a Welch test
and its p adjusted by Holm over all declared pairs and tasks of the question. One seed gives a difference and
no inference. Out of distribution two figures are compared: the score there, and the drop to it from inside.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kaggle_kit.analysis import stats
from kaggle_kit.analysis.comparability import assert_comparable
from kaggle_kit.analysis.contrast_arms import COMPARISONS, OUTSIDE, Comparison, Pair
from kaggle_kit.analysis.stats import Difference, difference_of
from kaggle_kit.analysis.survivorship import Unfinished, documents_by_arm, lost, unfinished_in_words
from kaggle_kit.analysis.verdict_inputs import marks_of, reported_split
from kaggle_kit.analysis.verdict_rule import Rule
from kaggle_kit.analysis.verdict_words import toys_in_words
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import KitError, unknown

HIGHER, LOWER, NOT_SHOWN, ONE_SEED = "higher", "lower", "no difference shown", "one seed: no inference"
SETTINGS = ("alpha", "test", "power", "resamples")  # of `experiment`, where it declares them
COLUMNS: tuple[str, ...] = ("comparison", "task", "figure", "first", "second", "seeds", "difference")
COLUMNS += ("low", "high", "p_holm", "detectable", "verdict")

Tables = Sequence[tuple[int, np.ndarray, np.ndarray]]  # sign and both arms, (seeds, documents, columns) each


def contrasts(
    question: str, runs: Sequence[RunFolder], *, model: str = "", split: str = "", as_they_stand: bool = False
) -> list[dict[str, Any]]:
    """Return a document for each comparison that the finished runs make; an empty list without any.

    Raises ConfigError for an unknown question or split, and IncomparableRuns.
    """
    if question not in COMPARISONS:
        raise unknown("question", question, COMPARISONS)
    comparisons = COMPARISONS[question](runs)
    of_model = [each for each in comparisons if not model or each.entries[0]["model"] == model]
    return [_judged(comparison, split, as_they_stand) for comparison in of_model]


def contrasts_or_refusals(question: str, runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Return `contrasts` for a page, which shows a refusal instead of stopping at it."""
    documents = []
    try:
        comparisons = COMPARISONS[question](runs)
    except KitError as refusal:
        return [{"question": question, "title": question, "reason": str(refusal)}]
    for comparison in comparisons:
        try:
            documents.append(_judged(comparison, "", False))
        except KitError as refusal:
            documents.append({"question": question, "title": comparison.title, "reason": str(refusal)})
    return documents


def contrast(tables: Tables, rule: Rule) -> tuple[float, Difference | None]:
    """Estimate first minus second of a sum of signed figures (inside − outside); None for one seed."""
    first = np.sum([sign * stats.scores(one) for sign, one, _ in tables], axis=0)
    second = np.sum([sign * stats.scores(other) for sign, _, other in tables], axis=0)
    if len(first) < 2:
        return float(first[0] - second[0]), None
    rng = np.random.default_rng(rule.seed)
    draws = [stats.resampled_differences(one, other, rule.resamples, rng) for _, one, other in tables]
    variance = sum(stats.document_variance(drawn) for drawn in draws)  # of corpora that are independent
    documents = min(one.shape[1] for _, one, _ in tables)
    difference = difference_of(first, second, variance, documents, rule.test)
    return difference.value, difference


def in_words(documents: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield each comparison's title, the marks of its runs, missing runs, and a sentence per contrast."""
    if not documents:
        yield "no finished runs of this question yet: nothing to compare"
    for document in documents:
        yield document["title"]
        if "reason" in document:
            yield f"the comparison is refused — {document['reason']}"
            continue
        yield from toys_in_words(document)
        yield from unfinished_in_words(document)
        yield from (f"{pair}: an arm has no finished run." for pair in document["missing"])
        yield from (_sentence(estimates, document["rule"]) for estimates in document["contrasts"])


def contrast_table(documents: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per contrast, in the metric's own unit."""
    rows = []
    for document in documents:
        named = {"comparison": document["title"]}
        rows += [named | one | {"seeds": len(one["seeds"])} for one in document.get("contrasts", ())]
    return pd.DataFrame(rows, columns=COLUMNS)


def _judged(comparison: Comparison, split: str, as_they_stand: bool) -> dict[str, Any]:
    split = reported_split(comparison.entries, split)
    experiment = comparison.entries[0].config["experiment"]
    rule = Rule(**{key: experiment[key] for key in SETTINGS if key in experiment})
    there = [pair for pair in comparison.pairs if {pair.first, pair.second} <= comparison.arms.keys()]
    family = (2 if comparison.outside else 1) * sum(len(pair.tasks) for pair in comparison.pairs)
    unfinished: Unfinished = {}
    estimates: list[dict[str, Any]] = []
    for pair in there:
        arms = {name: comparison.arms[name] for name in (pair.first, pair.second)}
        own_unfinished, missing = lost(comparison.question, arms, as_they_stand)
        unfinished |= own_unfinished
        assert_comparable(comparison.question, arms, pair.tasks, split, missing)
        seeds = sorted(missing | {entry.seed for runs in arms.values() for entry in runs})
        for task in pair.tasks:
            for figure, tables in _tables(comparison, pair, task, split, seeds).items():
                what = {"task": task, "figure": figure, "first": pair.first, "second": pair.second}
                estimates.append(what | {"seeds": seeds} | _estimates(tables, rule, family))
    # A declared contrast without runs, or with one seed, has shown nothing: its p is 1.
    p_values = [1.0 if each["p_value"] is None else each["p_value"] for each in estimates]
    for each, p in zip(estimates, stats.holm(p_values + [1.0] * (family - len(estimates))), strict=False):
        if each["p_value"] is not None:
            word = HIGHER if each["difference"] > 0 else LOWER
            each |= {"p_holm": p, "verdict": word if p <= rule.alpha else NOT_SHOWN}
    return {
        "question": comparison.question,
        "title": comparison.title,
        "split": split,
        "marks": marks_of(comparison.entries),
        "rule": {"alpha": rule.alpha, "test": rule.test, "power": rule.power, "family": family},
        "contrasts": estimates,
        "missing": [f"{pair.first} − {pair.second}" for pair in comparison.pairs if pair not in there],
        "unfinished": unfinished,
        "as_they_stand": as_they_stand,
        "inputs": [entry.id for entry in comparison.entries],
    }


def _tables(
    comparison: Comparison, pair: Pair, task: str, split: str, seeds: Sequence[int]
) -> dict[str, Tables]:
    """Return name of a figure -> its documents under all seeds, in both arms."""
    arms = {name: comparison.arms[name] for name in (pair.first, pair.second)}
    first, second = documents_by_arm(arms, task, split, seeds).values()
    if not comparison.outside:
        return {f"{arms[pair.first][0].primary(task, split).name} on {split}": [(1, first, second)]}
    there = {name: [comparison.outside[entry.id] for entry in runs] for name, runs in arms.items()}
    one, other = documents_by_arm(there, task, OUTSIDE, seeds).values()
    name = f"{there[pair.first][0].primary(task, OUTSIDE).name} on {OUTSIDE}"
    return {name: [(1, one, other)], "drop": [(1, first, second), (-1, one, other)]}


def _estimates(tables: Tables, rule: Rule, family: int) -> dict[str, Any]:
    """Return the estimates of one contrast as plain values; for one seed the difference alone."""
    value, estimate = contrast(tables, rule)
    low, high = estimate.interval(rule.alpha) if estimate else (None, None)
    return {
        "difference": value,
        "low": low,
        "high": high,
        "p_value": estimate.p_value if estimate else None,
        "documents": min(one.shape[1] for _, one, _ in tables),
        "p_holm": None,
        "detectable": estimate.detectable(rule.alpha / family, rule.power) if estimate else None,
        "verdict": ONE_SEED,
    }


def _sentence(estimates: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    what = f"{estimates['task']}, {estimates['figure']}: {estimates['first']} − {estimates['second']} ="
    if estimates["verdict"] == ONE_SEED:
        return f"{what} {estimates['difference']:+.4f}; {ONE_SEED}."
    interval = f"{1 - rule['alpha']:.0%} interval {estimates['low']:+.4f} to {estimates['high']:+.4f}"
    test = f"p = {estimates['p_holm']:.3g} after Holm over {rule['family']}"
    power = f"find a difference of {estimates['detectable']:.4f} with {rule['power']:.0%} power"
    sentence = f"{what} {estimates['difference']:+.4f}, {interval}, {test}: {estimates['verdict']}."
    return f"{sentence} {len(estimates['seeds'])} seeds {power}."
