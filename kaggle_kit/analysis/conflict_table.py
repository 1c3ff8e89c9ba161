"""The conflicts between a run's gradients as one table, for its page.

print(conflict_table(run).to_string(index=False))
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.conflicts import ConflictCounts

COLUMNS = ("parameters", "gradients of", "pair", "measured", "conflicts", "mean cosine", "excess")
KINDS = {"pairs": "two tasks", "halves": "half batches", "components": "components of a task"}


def conflict_counts(events: Iterable[Mapping[str, Any]]) -> ConflictCounts:
    """Count the conflicts of every step of a run's log."""
    counts = ConflictCounts()
    for event in events:
        counts.add(event.get("conflicts", {}))
    return counts


def conflict_table(run: RunFolder) -> pd.DataFrame:
    """Return a row for each pair of gradients: how many cosines, the share below 0, their mean.

    `excess` is the share between half batches of two tasks beyond that within either (NaN elsewhere).
    Empty where the strategy has no gradient surgery.
    """
    rows = []
    for group, counts in conflict_counts(run.events()).summary().items():
        for kind, words in KINDS.items():
            excess = counts.get("excess_by_pair", {}) if kind == "halves" else {}
            for pair, rates in counts.get(kind, {}).items():
                figures = (rates["steps"], rates["conflict_rate"], rates["mean_cosine"], excess.get(pair))
                rows.append((group, words, pair, *figures))
    return pd.DataFrame(rows, columns=COLUMNS).round(3)
