"""Conflicts between the tasks' gradients, against what chance alone would give.

trainer = MultiTaskTrainer(..., callbacks=[GradientConflictCallback(every=10), RunLogCallback(run)])
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from kaggle_kit.training.callbacks.base import StudyCallback


class GradientConflictCallback(StudyCallback):
    """Keeps the trainer's conflict report in the log of every `every`-th step, and sums up all of them.

    `trainer.record["conflicts"]` is `ConflictReport.record()`: by parameter group the cosine of each
    pair of tasks' gradients and, on the steps where one task's batch was halved, that of the halves:

        {"shared": {"cosines": {"a × b": -0.1, ...}, "null": {"a": 0.2}}}

    Two gradients conflict when their cosine is below 0 (Yu et al. 2020). Noisy gradients do so half of
    the time, so a share of conflicts means something only beside the share among halves of one task.
    """

    remembered = ("pairs", "null")
    figures_at_step_end = True

    def __init__(self, every: int = 1) -> None:
        self.every = every
        # [steps, conflicts, sum of cosines] by group and pair, and by group over all halved batches
        self.pairs: dict[str, dict[str, list[float]]] = {}
        self.null: dict[str, list[float]] = {}

    def on_step_end(self, args, state, control, **kwargs) -> None:
        for group, found in self.trainer.record.get("conflicts", {}).items():
            for pair, cosine in found["cosines"].items():
                _add(self.pairs.setdefault(group, {}), pair, cosine)
            for cosine in found["null"].values():
                _add(self.null, group, cosine)
        if state.global_step % self.every:
            self.trainer.record.pop("conflicts", None)

    def summary(self) -> dict[str, Any]:
        """By group: conflicts, their rates and mean cosines per pair and over all, the null's, the excess."""
        return {group: self._sum_up(group) for group, pairs in self.pairs.items() if pairs}

    def _sum_up(self, group: str) -> dict[str, Any]:
        pairs = self.pairs[group]
        over_all = [sum(column) for column in zip(*pairs.values(), strict=True)]
        told = {**_rates(over_all), "pairs": {pair: _rates(counts) for pair, counts in pairs.items()}}
        if group in self.null:
            told["null"] = _rates(self.null[group])
            told["excess"] = told["conflict_rate"] - told["null"]["conflict_rate"]
        return told


def _add(table: dict[str, list[float]], key: str, cosine: float) -> None:
    if math.isfinite(cosine):  # else a gradient overflowed in float16 and its step was skipped
        counted = table.setdefault(key, [0, 0, 0.0])
        table[key] = [old + new for old, new in zip(counted, (1, cosine < 0, cosine), strict=True)]


def _rates(counts: Iterable[float]) -> dict[str, float]:
    steps, conflicts, cosines = counts
    rates = {"conflict_rate": conflicts / steps, "mean_cosine": cosines / steps}
    return {"steps": steps, "conflicts": conflicts, **rates}
