"""Targets of ranking: is the candidate relevant, and which candidates answer the same question.

tensors(component, rows, starts)
# first, last (sequences,) places · labels (sequences,) 1, 0 or -1 unknown · group (sequences,) question
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Value
from torch import Tensor

from kaggle_kit.core.types import ComponentSpec, UnifiedSample
from kaggle_kit.data.pairs import PairSequence
from kaggle_kit.heads.arrays import long


def features(component: ComponentSpec) -> dict[str, Any]:
    return {f"relevant:{component.name}": Value("int8")}


def columns(
    component: ComponentSpec, sequences: Sequence[PairSequence], sample: UnifiedSample
) -> Iterator[dict[str, int]]:
    """1, 0, or -1 where the gold label is withheld."""
    for sequence in sequences:
        relevant = sample.pairs[sequence.pair].relevant
        yield {f"relevant:{component.name}": -1 if relevant is None else int(relevant)}


def tensors(component: ComponentSpec, rows: Mapping[str, Any], starts: np.ndarray) -> dict[str, Tensor]:
    return {
        "first": long(starts),
        "last": long(starts + np.asarray(rows["length"]) - 1),
        "labels": long(rows[f"relevant:{component.name}"]),
        "group": long(rows["group"]),
        "sizes": long(np.ones(len(starts))),
    }


def count(targets: Mapping[str, Tensor]) -> int:
    """Candidates whose label is known."""
    return int((targets["labels"] >= 0).sum())
