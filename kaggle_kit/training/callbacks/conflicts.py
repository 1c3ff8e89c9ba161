"""Conflicts between the tasks' gradients, against what chance alone would give.

trainer = MultiTaskTrainer(..., callbacks=[GradientConflictCallback(every=10), RunLogCallback(run)])
"""

from __future__ import annotations

from typing import Any

from kaggle_kit.core.conflicts import ConflictCounts
from kaggle_kit.training.callbacks.base import StudyCallback


class GradientConflictCallback(StudyCallback):
    """Keeps the trainer's conflict report in the log of every `every`-th step, and sums up all of them.

    `trainer.record["conflicts"]` is `ConflictReport.record()`. By parameter group it holds the cosine of
    each pair of tasks' gradients and, on the steps whose batches were halved, those between the halves and
    between the components of one task:

        {"shared": {"cosines": {"a × b": -0.1}, "halves": {"a × a": [0.2], "a × b": [0.1, -0.2, 0.0, 0.3]},
                    "components": {"a": {"ner × relations": -0.3}}}}
    """

    remembered = ("table",)
    figures_at_step_end = True

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.counts = ConflictCounts()

    @property
    def table(self) -> dict[str, Any]:
        return self.counts.table

    @table.setter
    def table(self, kept: dict[str, Any]) -> None:
        self.counts.table = kept

    def on_step_end(self, args, state, control, **kwargs) -> None:
        record = self.trainer.record.get("conflicts", {})
        self.counts.add(record)
        if state.global_step % self.every and not any("halves" in found for found in record.values()):
            self.trainer.record.pop("conflicts", None)

    def summary(self) -> dict[str, Any]:
        """By group: conflicts, their rates and mean cosines, those of halves and components, the excess."""
        return self.counts.summary()
