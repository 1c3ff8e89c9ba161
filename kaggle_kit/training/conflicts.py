"""What the tasks' gradients did to each other in one step, read off their Gram matrices.

report = pcgrad.combine()
report.groups["shared"].cosines     # {"ner × relations": -0.12, ...}
report.record()                     # the same, ready for the run's log
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import isfinite, nan
from typing import Any

import torch
from torch import Tensor

from kaggle_kit.core.conflicts import PAIR, pair_of


def cosines(gram: Tensor, of_zero: float = 0.0) -> Tensor:
    """Return (K, K) cosines of the gradients behind a Gram matrix; `of_zero` against a zero gradient."""
    norms = gram.diagonal().clamp(min=0).sqrt()  # rounding may leave a difference just below 0
    products = norms.outer(norms)
    return torch.where(products == 0, of_zero, gram / products)


def followed(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the plain sum of K gradients follows: two tensors of shape (K,).

    The first holds each gradient's cosine with the sum, the second its share of the sum's squared length.
    The shares add up to 1; a negative one belongs to a gradient that the sum goes against.
    """
    products = gram.sum(dim=1)  # with the sum
    squared = products.sum()
    return products / (gram.diagonal() * squared).sqrt(), products / squared


def cosines_of_halves(tasks: Sequence[str], gram: Tensor) -> dict[str, list[float]]:
    """Return the cosines between half batches, by pair of tasks: one within a task, four between two.

    `gram` is the (2K, 2K) Gram matrix of the K first halves, then the K whole batches; a second half is
    the difference. NaN where one of them is zero.
    """
    count = len(tasks)
    halves = torch.eye(2 * count, dtype=gram.dtype)
    halves[count:, :count] = -torch.eye(count)
    matrix = cosines(halves @ gram @ halves.T, of_zero=nan)
    found = {pair_of(task, task): [matrix[i, i + count].item()] for i, task in enumerate(tasks)}
    for i, j in combinations(range(count), 2):
        four = matrix[[i, i, i + count, i + count], [j, j + count, j, j + count]]
        found[pair_of(tasks[i], tasks[j])] = four.tolist()
    return found


def cosines_of(names: Sequence[str], gram: Tensor, of_zero: float = 0.0) -> dict[str, float]:
    """Return the cosine of every pair, `a × b`, of the gradients behind a (K, K) Gram matrix."""
    matrix = cosines(gram, of_zero).tolist()
    return {f"{names[i]}{PAIR}{names[j]}": matrix[i][j] for i, j in combinations(range(len(names)), 2)}


@dataclass(frozen=True)
class GroupConflicts:
    """One parameter group and the tasks that reached it.

    `gram` is the (K, K) matrix before projection, under whatever scale the losses carried;
    `weights` are the K factors by which the original gradients entered the update: all 1 where
    nothing conflicts, NaN where a row is not finite. `halves` holds the cosines between half batches, within
    a task and between tasks (`core/conflicts.py` says what they are for); `components` those between the
    losses of one task's components. Both are empty on a step whose batches were not halved.
    """

    tasks: tuple[str, ...]
    gram: Tensor
    weights: Tensor
    halves: Mapping[str, list[float]] = field(default_factory=dict)
    components: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def nonfinite(self) -> tuple[str, ...]:
        """The tasks whose gradient holds an infinity or a NaN, or whose squared norm overflows."""
        finite = self.gram.diagonal().isfinite().tolist()
        return tuple(task for task, ok in zip(self.tasks, finite, strict=True) if not ok)

    @property
    def cosines(self) -> dict[str, float]:
        """The cosine of every unordered pair of tasks; below 0 they conflict."""
        return cosines_of(self.tasks, self.gram)

    def record(self) -> dict[str, Any]:
        """Return what is finite of all cosines, as plain values: one NaN would spoil a run's means."""
        found: dict[str, Any] = {"cosines": _finite(self.cosines)}
        if self.halves:
            found["halves"] = {pair: [*filter(isfinite, several)] for pair, several in self.halves.items()}
        if self.components:
            found["components"] = {task: _finite(pairs) for task, pairs in self.components.items()}
        return found


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
        """Return by group, for the run's log: `{"shared": {"cosines": {"a × b": …}, "halves": …}, …}`."""
        return {name: group.record() for name, group in self.groups.items()}


def _finite(cosines: Mapping[str, float]) -> dict[str, float]:
    return {pair: cosine for pair, cosine in cosines.items() if isfinite(cosine)}
