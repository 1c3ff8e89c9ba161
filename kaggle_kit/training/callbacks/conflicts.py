"""Conflicts between the tasks' gradients, against what chance alone would give.

trainer = MultiTaskTrainer(..., callbacks=[GradientConflictCallback(every=10), RunLogCallback(run)])
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kaggle_kit.training.callbacks.base import StudyCallback


class GradientConflictCallback(StudyCallback):
    """Keeps the trainer's conflict report in the log of every `every`-th step, and sums up all of them.

    The report, `trainer.record["conflicts"]`, holds by parameter group the cosine of each pair of
    tasks' gradients and, on the steps where one task's batch was halved, the cosine of the two halves:

        {"shared": {"cosines": {"a × b": -0.1, ...}, "null": {"a": 0.2}}}

    Two gradients conflict when their cosine is below 0 (Yu et al. 2020). Noisy gradients do so half of
    the time, so a share of conflicts means something only beside the share among halves of one task.
    """

    remembered = ("pairs", "null")
    figures_at_step_end = True

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.pairs: dict[
            str, dict[str, list[float]]
        ] = {}  # group -> pair -> steps, conflicts, sum of cosines
        self.null: dict[str, list[float]] = {}  # group -> the same over all halved batches

    def on_step_end(self, args, state, control, **kwargs) -> None:
        report = self.trainer.record.get("conflicts", {})
        for group, found in report.items():
            for pair, cosine in found["cosines"].items():
                _add(self.pairs.setdefault(group, {}).setdefault(pair, [0, 0, 0.0]), cosine)
            for cosine in found.get("null", {}).values():
                _add(self.null.setdefault(group, [0, 0, 0.0]), cosine)
        if state.global_step % self.every:
            self.trainer.record.pop("conflicts", None)

    def summary(self) -> dict[str, Any]:
        """By group: rates of conflict and mean cosines per pair and over all, the null's, and the excess."""
        return {group: self._sum_up(group) for group in self.pairs}

    def _sum_up(self, group: str) -> dict[str, Any]:
        over_all = [sum(column) for column in zip(*self.pairs[group].values(), strict=True)]
        told = {
            "pairs": {pair: _rates(counts) for pair, counts in self.pairs[group].items()},
            **_rates(over_all),
        }
        if group in self.null:
            told["null"] = _rates(self.null[group])
            told["excess"] = told["conflict_rate"] - told["null"]["conflict_rate"]
        return told


def _add(counts: list[float], cosine: float) -> None:
    counts[0] += 1
    counts[1] += cosine < 0
    counts[2] += cosine


def _rates(counts: Iterable[float]) -> dict[str, float]:
    steps, conflicts, cosines = counts
    return {"steps": steps, "conflict_rate": conflicts / steps, "mean_cosine": cosines / steps}
