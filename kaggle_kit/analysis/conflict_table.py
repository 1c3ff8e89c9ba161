"""The conflicts between a run's gradients as one table, for its page.

print(conflict_table(run).to_string(index=False))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.conflicts import ConflictCounts

COLUMNS = ("parameters", "gradients of", "pair", "measured", "conflicts", "mean cosine", "excess")
KINDS = {"pairs": "two tasks", "halves": "half batches", "components": "components of a task"}


def conflict_table(run: RunFolder) -> pd.DataFrame:
    """One row for each pair of gradients: how many cosines, the share below 0, their mean.

    `excess` is the share between half batches of two tasks beyond that within either (NaN elsewhere).
    Empty where the strategy has no gradient surgery.
    """
    counts = ConflictCounts()
    for event in run.events():
        counts.add(event.get("conflicts", {}))
    return pd.DataFrame([row for found in counts.summary().items() for row in _rows(*found)], columns=COLUMNS)


def _rows(group: str, found: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for kind, words in KINDS.items():
        for pair, rates in found.get(kind, {}).items():
            excess = found.get("excess_by_pair", {}).get(pair) if kind == "halves" else None
            figures = (rates["steps"], round(rates["conflict_rate"], 3), round(rates["mean_cosine"], 3))
            yield group, words, pair, *figures, None if excess is None else round(excess, 3)
