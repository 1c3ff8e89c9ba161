"""Which sequences of a batch begin alike: the candidates of a question all begin with the question.

shared_prefixes([[1, 5, 6, 7, 2], [1, 5, 6, 8]], least=2)     # (WHOLE, Prefix(of=0, tokens=3))
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kaggle_kit.core.types import WHOLE, Prefix

LEAST = 8  # tokens; a shorter beginning is not worth the sharing


def shared_prefixes(sequences: Sequence[np.ndarray], least: int = LEAST) -> tuple[Prefix, ...]:
    """For each sequence the longest beginning that an earlier one has too, its last token left out.

    Only sequences that agree in their first `least` tokens are compared.
    """
    alike: dict[bytes, list[int]] = {}
    found = []
    rows = [np.asarray(ids) for ids in sequences]
    for number, ids in enumerate(rows):
        earlier = alike.setdefault(ids[:least].tobytes(), [])
        tokens, of = max(((_agree(ids, rows[other]), -other) for other in earlier), default=(0, 0))
        tokens = min(tokens, len(ids) - 1)
        found.append(Prefix(-of, tokens) if tokens >= least else WHOLE)
        earlier.append(number)
    return tuple(found)


def _agree(one: np.ndarray, other: np.ndarray) -> int:
    """How many tokens two sequences have in common before they part."""
    length = min(len(one), len(other))
    parted = np.flatnonzero(one[:length] != other[:length])
    return int(parted[0]) if len(parted) else length
