"""What the tasks' gradients did to each other in one step, read off their Gram matrices.

report = pcgrad.combine()
report.groups["shared"].cosines     # {("ner", "relations"): -0.12, ...}
report.record()                     # the same, ready for the run's log
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import isfinite
from typing import Any

import torch
from torch import Tensor


def cosines(gram: Tensor) -> Tensor:
    """(K, K) cosines of the gradients behind a Gram matrix; 0 against a zero gradient."""
    norms = gram.diagonal().clamp(min=0).sqrt()  # rounding may leave a difference just below 0
    products = norms.outer(norms)
    return torch.where(products == 0, 0.0, gram / products)


def cosine_of_halves(gram: Tensor) -> float:
    """The cosine between the gradients of a batch's two halves.

    `gram` is the (2, 2) Gram matrix of (first half, whole batch); the second half is the difference.
    """
    difference = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=gram.dtype)
    return cosines(difference @ gram @ difference.T)[0, 1].item()


@dataclass(frozen=True)
class GroupConflicts:
    """One parameter group and the tasks that reached it.

    `gram` is the (K, K) matrix before projection, under whatever scale the losses carried;
    `weights` are the K factors by which the original gradients entered the update: all 1 where
    nothing conflicts, NaN where a row is not finite. `null` holds, for a task whose batch was halved,
    the cosine between the halves: random gradients conflict about half the time, so the cosines
    between tasks say something only beside it.
    """

    tasks: tuple[str, ...]
    gram: Tensor
    weights: Tensor
    null: Mapping[str, float] = field(default_factory=dict)

    @property
    def nonfinite(self) -> tuple[str, ...]:
        """The tasks whose gradient holds an infinity or a NaN, or whose squared norm overflows."""
        finite = self.gram.diagonal().isfinite().tolist()
        return tuple(task for task, ok in zip(self.tasks, finite, strict=True) if not ok)

    @property
    def cosines(self) -> dict[tuple[str, str], float]:
        """The cosine of every unordered pair of tasks; below 0 they conflict."""
        matrix = cosines(self.gram).tolist()
        pairs = combinations(range(len(self.tasks)), 2)
        return {(self.tasks[i], self.tasks[j]): matrix[i][j] for i, j in pairs}


@dataclass(frozen=True)
class ConflictReport:
    """One step, by parameter group; a group that no task reached is not in it."""

    groups: Mapping[str, GroupConflicts]

    @property
    def nonfinite(self) -> tuple[str, ...]:
        """The tasks with a non-finite gradient in any group.

        A gradient scaler skips such a step; without one, `LossCallback` ends the run.
        """
        return tuple(dict.fromkeys(task for group in self.groups.values() for task in group.nonfinite))

    def record(self) -> dict[str, Any]:
        """Cosines and null by group, for the run's log: `{"shared": {"cosines": {"a × b": …}, …}}`.

        Without the pairs of a task whose gradient is not finite: one NaN would spoil a run's means.
        """
        return {
            name: {
                "cosines": {f"{a} × {b}": c for (a, b), c in group.cosines.items() if isfinite(c)},
                "null": {task: c for task, c in group.null.items() if isfinite(c)},
            }
            for name, group in self.groups.items()
        }
