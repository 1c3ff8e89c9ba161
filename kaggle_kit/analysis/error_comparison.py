"""Two runs on the same documents: which errors does one make that the other does not?

table = compared(single_task, multi_task, rng)     # Errors of each; a negative change is a gain
"""

from collections import Counter

import numpy as np
import pandas as pd
from scipy.stats import permutation_test

from kaggle_kit.analysis.error_types import CORRECT, Errors
from kaggle_kit.analysis.stats import holm
from kaggle_kit.core.errors import IncomparableRuns

ALL = "all errors"
RESAMPLES = 9999


def compared(one: Errors, other: Errors, rng: np.random.Generator) -> pd.DataFrame:
    """Return a row per category: errors `before`, `removed` and `added` by the other run, change, p.

    An error is known by its category and gold item, or without one by its prediction. p is that of a paired
    sign-flip test over documents, exact where few differ, adjusted over categories (Holm) but for the sum.
    Raises IncomparableRuns where the documents or their gold differ.
    """
    gold = [Counter((case.document, case.gold) for case in each.cases if case.gold) for each in (one, other)]
    sides = zip((one, other), gold, strict=True)
    if (one.documents, gold[0]) != (other.documents, gold[1]):
        one_has, other_has = (f"{len(e.documents)} documents with {n.total()} gold items" for e, n in sides)
        other_gold = f"{one_has} and {other_has}, or other ones"
        raise IncomparableRuns("documents", f"{other_gold}; name runs of one split")
    before, after = one.counts, other.counts
    moved = after - before
    moved[ALL] = moved.drop(columns=CORRECT).sum(axis=1)
    rows = []
    for name in (*one.categories, ALL):
        first, second = (_known(each, name) for each in (one, other))
        row = {"category": name, "before": first.total(), "removed": (first - second).total()}
        row |= {"added": (second - first).total(), "change": second.total() - first.total()}
        rows.append(row | {"p": sign_flip_p(moved[name].to_numpy(), rng)})
    table = pd.DataFrame(rows)
    return table.assign(**{"p, Holm": [*holm(table["p"][:-1]), float("nan")]})


def sign_flip_p(differences: np.ndarray, rng: np.random.Generator) -> float:
    """Return the two-sided p of paired differences that would be as likely negative as positive."""
    moved = differences[differences != 0]
    if len(moved) < 2:
        return 1.0
    found = permutation_test(
        (moved, np.zeros_like(moved)),
        lambda x, y, axis: (x - y).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=rng,
    )
    return float(found.pvalue)


def _known(errors: Errors, name: str) -> Counter:
    wanted = errors.categories if name == ALL else (name,)
    cases = (case for case in errors.cases if case.category in wanted)
    return Counter((case.document, case.category, case.gold or case.predicted) for case in cases)
