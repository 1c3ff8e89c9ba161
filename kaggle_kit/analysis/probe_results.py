"""Probes of several models beside each other: figures per layer, and whether one tells more than another.

    table = layer_table(items, outcome, rng)                  # accuracy, control, selectivity, compression
    tests = layer_tests(items, shared, base, rng)             # differences of accuracy; p over documents
    in_words("notes, entity type", {"shared adapter": table, …}, tests)

Intervals and tests take documents as a whole: items of one document do not vary independently.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from kaggle_kit.analysis.error_comparison import sign_flip_p
from kaggle_kit.evaluation.probing import Items, Outcome

DRAWS, ALPHA = 1000, 0.05
ENDS = (ALPHA / 2, 1 - ALPHA / 2)
FIGURES = ("accuracy", "control", "selectivity", "compression")


def layer_table(items: Items, outcome: Outcome, rng: np.random.Generator) -> pd.DataFrame:
    """Return a row per layer: each of `FIGURES` with `low` and `high` end of its 95 % interval, and `n`.

    Accuracies are shares of 1. Compression is how many times shorter the online code is than log2 K a label.
    """
    asked, fixed = items.documents[outcome.asked], np.full(len(items), np.log2(len(items.classes)))
    rows = []
    for layer, parts in enumerate(zip(outcome.right, outcome.control, outcome.bits, strict=True)):
        right, control, bits = parts
        row = {"layer": float(layer)}
        for name, some in zip(FIGURES, (right, control, right - control), strict=False):
            row |= _ratio(name, asked, some, np.ones(len(some)), rng)
        rows.append(row | _ratio("compression", items.documents, fixed, bits, rng))
    return pd.DataFrame(rows)


def layer_tests(items: Items, one: Outcome, other: Outcome, rng: np.random.Generator) -> pd.DataFrame:
    """Return a row per layer but the embeddings: accuracy of one less the other's, its 95 % interval, p.

    p is that of a two-sided sign-flip test over documents. No adapter changes layer 0, so it is not tested.
    """
    asked, rows = items.documents[one.asked], []
    for layer, change in enumerate((one.right - other.right)[1:], 1):
        row: dict[str, float] = {"layer": layer, "documents": len(np.unique(asked))}
        row |= _ratio("difference", asked, change, np.ones(len(asked)), rng)
        rows.append(row | {"p": sign_flip_p(_sums(asked, change), rng)})
    return pd.DataFrame(rows)


def beats(tests: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `layer_tests`, with `p, Holm` of the whole family, that show a gain."""
    return tests[(tests["difference"] > 0) & (tests["p, Holm"] <= ALPHA)]


def reach_in_words(tests: pd.DataFrame) -> str:
    """Say how small a p of the whole family can be at all: signs of d documents have 2 ** d orders."""
    least = min(1.0, len(tests) * 2.0 ** (1 - tests["documents"].max()))
    verdict = "no gain can be shown" if least > ALPHA else "a gain at one layer can be shown"
    documents = f"{tests['documents'].max()} documents asked and {len(tests)} tests"
    return f"With {documents} no adjusted p is below {least:.2g}: {verdict}."


def in_words(what: str, tables: Mapping[str, pd.DataFrame], tests: pd.DataFrame) -> str:
    """Say where each model is read best, and at which layers the first one beats the base.

    `tables` are `layer_table`s by model, the first one's that of the adapter in question; `tests` the rows of
    `layer_tests` of this property, with `p, Holm`.
    """
    told = []
    for name, table in tables.items():
        best = table.loc[table["accuracy"].idxmax()]
        ends = "{accuracy:.1%} ({accuracy low:.1%} to {accuracy high:.1%})".format(**best)
        points = f"{100 * best['selectivity']:+.1f} points above control"
        told.append(f"{name} {ends} at layer {best['layer']:.0f}, {points}")
    better, worse = beats(tests), tests[(tests["difference"] < 0) & (tests["p, Holm"] <= ALPHA)]
    at = ", ".join(map(str, better["layer"]))
    layers = f"layer{'s' if len(better) > 1 else ''} {at}" if at else "no layer"
    least = ", ".join(map(str, worse["layer"]))
    against = f"; it is worse at {least}" if least else ""
    return f"{what}, read best: {'; '.join(told)}. The adapter beats the base at {layers}{against} (Holm)."


def _ratio(
    name: str, documents: np.ndarray, part: np.ndarray, whole: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """Return the ratio of two sums over n items, its 95 % interval over drawn documents, and n, by name."""
    sums = np.column_stack([_sums(documents, part), _sums(documents, whole)])
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=DRAWS) @ sums
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], ENDS)
    ends = {f"{name} low": low, f"{name} high": high, f"{name} n": len(part)}
    return {name: part.sum() / whole.sum()} | ends


def _sums(documents: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum values over the items of each document: (n,) -> (documents,)"""
    return np.bincount(np.unique(documents, return_inverse=True)[1], values)
