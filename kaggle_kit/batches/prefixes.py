"""Which rows of a batch begin alike: the candidates of a question all begin with the question.

    beginnings([[1, 5, 6, 7, 2], [1, 5, 6, 8]], groups=[0, 0], least=2)          # [3, 3]
    shared_prefixes(units=[0, 0], beginnings=[9, 9], lengths=[20, 15])           # (WHOLE, Prefix(0, 9))

What a group has in common does not depend on the batch its rows stand in, so a plan knows before training
how many tokens are computed once for several rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kaggle_kit.core.types import WHOLE, Prefix

LEAST = 8  # tokens; a shorter beginning is not worth the sharing


def beginnings(sequences: Sequence[np.ndarray], groups: np.ndarray, least: int = LEAST) -> np.ndarray:
    """How many tokens all rows of a row's group begin with, shape (rows,); 0 below `least`.

    The last token of a row is its own, whatever stands there.
    """
    rows = [np.asarray(ids) for ids in sequences]
    first: dict[int, int] = {}  # group -> its first row
    common: dict[int, int] = {}
    for number, group in enumerate(groups):
        other = rows[first.setdefault(group, number)]
        agree = min(_agree(rows[number], other), len(rows[number]) - 1)
        common[group] = min(agree, common.get(group, agree))
    return np.array([common[group] if common[group] >= least else 0 for group in groups], dtype=np.int64)


def shared_prefixes(
    units: Sequence[int], beginnings: Sequence[int], lengths: Sequence[int]
) -> tuple[Prefix, ...]:
    """For each row of a batch the beginning that it shares with the first row of its unit there.

    `units` are numbers, one a row: rows of one number were drawn together from one group. A row that is
    cut within the beginning shares less of it.
    """
    first: dict[int, int] = {}
    found = []
    for number, unit in enumerate(units):
        of = first.setdefault(unit, number)
        tokens = min(beginnings[number], lengths[number] - 1, lengths[of])
        found.append(Prefix(of, int(tokens)) if of != number and tokens >= LEAST else WHOLE)
    return tuple(found)


def _agree(one: np.ndarray, other: np.ndarray) -> int:
    """How many tokens two sequences have in common before they part."""
    length = min(len(one), len(other))
    parted = np.flatnonzero(one[:length] != other[:length])
    return int(parted[0]) if len(parted) else length
