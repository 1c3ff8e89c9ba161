"""The alarm for losses that are not finite or explode, and for gradients that are not finite.

trainer = MultiTaskTrainer(..., callbacks=[..., RunLogCallback(run), LossCallback()])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from kaggle_kit.training.callbacks.base import StudyCallback, TrainingAlarm


def loss_fault(loss: float, recent: Sequence[float], start: float | None, factor: float) -> str | None:
    """What is wrong with a task's loss, or None.

    It explodes when it exceeds both `factor` times the median of the `recent` losses and `start`, the
    level at which the task began; without the second condition, a task that has been learnt to a loss
    near 0 would raise the alarm at its first hard step. `start` is None until that level is known.
    """
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if start is None:
        return None
    usual = median(recent)
    if loss > max(factor * usual, start):
        return f"the loss is {loss:.4g}, over {factor:g} times its running median {usual:.4g}"
    return None


class LossCallback(StudyCallback):
    """Stops a run by TrainingAlarm, naming task and step: at a figure that is not finite, or an explosion.

    An explosion lasts: `patience` losses of a task in a row. A single one over the mark is a hard batch, as
    a relation head with three pairs in it meets now and then. A gradient that is not finite is a fault
    where no loss scaler skips its step. The level at which a task begins is the median of its first
    `minimum` losses; the running median is taken over its last `window`, without those over the mark.
    """

    remembered = ("start", "recent", "over")

    def __init__(self, factor: float = 10.0, window: int = 100, minimum: int = 20, patience: int = 3) -> None:
        self.factor = factor
        self.window = window
        self.minimum = minimum
        self.patience = patience
        self.start: dict[str, float] = {}
        self.recent: dict[str, list[float]] = {}
        self.over: dict[str, int] = {}  # losses over the mark in a row

    def on_step_end(self, args, state, control, **kwargs) -> None:
        for task, loss in self.trainer.record["losses"].items():
            recent = self.recent.setdefault(task, [])
            fault = loss_fault(loss, recent, self.start.get(task), self.factor)
            self.over[task] = self.over.get(task, 0) + 1 if fault else 0
            if fault and (self.over[task] == self.patience or not math.isfinite(loss)):
                earlier = ", ".join(f"{value:.4g}" for value in recent[-5:]) or "none"
                raise TrainingAlarm(
                    f"step {state.global_step}, task {task}: {fault} (the usual losses before: {earlier}). "
                    f"Lower training.learning_rate, add training.warmup, or look at this step's samples"
                )
            if fault:
                continue
            recent.append(loss)
            del recent[: -self.window]
            if len(recent) == self.minimum:
                self.start.setdefault(task, median(recent))
        self._check_gradient(state.global_step)

    def _check_gradient(self, step: int) -> None:
        norm = self.trainer.record.get("grad_norm", 0.0)
        if self.trainer.accelerator.scaler is None and not math.isfinite(norm):
            tasks = ", ".join(self.trainer.record.get("nonfinite", ())) or "all that took part"
            raise TrainingAlarm(
                f"step {step}: the gradient norm is {norm} (tasks: {tasks}), and the step was taken. "
                f"Lower training.learning_rate, or look at this step's samples"
            )
