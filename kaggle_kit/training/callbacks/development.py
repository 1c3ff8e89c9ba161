"""The development curve: what a run scores on dev at fixed shares of its tokens.

    curve = DevelopmentCallback(evaluate, metric="selection", budget=2_353_665)
    trainer = MultiTaskTrainer(..., callbacks=[curve, RunLogCallback(run)])
    trainer.train()
    curve.curve[0]          # {"share": 0.1, "step": 261, "tokens": 235_913, "scores": {...}, "score": 0.7}

A baseline that was trained too long, or not long enough, is seen here although its last step is scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kaggle_kit.training.callbacks.base import StudyCallback
from kaggle_kit.training.callbacks.quick import trained, undisturbed

SHARES = tuple(tenth / 10 for tenth in range(1, 11))  # of the run's tokens


class DevelopmentCallback(StudyCallback):
    """Evaluates after the first step that reaches each of `SHARES` of `budget`, the tokens of all phases.

    `evaluate` gives `TASK.METRIC` of each task and `metric`, by which points are compared; where a quick
    evaluation was made after the same step, its figures serve. `begun` are the tokens of earlier phases.
    Neither weights nor random states change. With `keeps_best` a copy of the trained parameters at the
    best point (the first of equals) is kept in CPU memory, and in every checkpoint.
    """

    remembered = ("curve", "best_step")
    figures_at_step_end = True

    def __init__(
        self,
        evaluate: Callable[[], Mapping[str, float]],
        metric: str,
        *,
        budget: int,
        begun: int = 0,
        keeps_best: bool = False,
    ) -> None:
        self.evaluate = evaluate
        self.metric = metric
        self.budget = budget
        self.begun = begun
        self.keeps_best = keeps_best
        self.curve: list[dict[str, Any]] = []
        self.best_step: int | None = None  # of this trainer, where its weights are kept
        self.best_weights: dict[str, Tensor] = {}
        self._due: dict[int, list[float]] = {}  # step -> shares that are reached by it

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        plan = self.trainer.train_dataset.plan
        ends = self.begun + np.cumsum([sum(step.tokens.values()) for step in plan.steps])
        self._due = {}
        for share in SHARES:
            wanted = math.ceil(round(share * self.budget, 6))
            if self.begun < wanted <= ends[-1]:
                self._due.setdefault(int(np.searchsorted(ends, wanted)) + 1, []).append(share)

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs) -> None:
        if state.global_step not in self._due:
            return
        figures = self.trainer.record.get("quick_evaluation") or undisturbed(self.evaluate, model)
        point = {
            "step": self.trainer.tokens.step,
            "tokens": sum(self.trainer.tokens.total.values()),
            "scores": {name.partition(".")[0]: score for name, score in figures.items() if "." in name},
            "score": figures[self.metric],
        }
        earlier = best_point(self.curve)
        self.curve += [{"share": share, **point} for share in self._due[state.global_step]]
        self.trainer.record["development"] = self.curve[-1]
        if self.keeps_best and (earlier is None or point["score"] > earlier["score"]):
            self.best_step = state.global_step
            self.best_weights = {name: p.detach().cpu().clone() for name, p in trained(model, optimizer)}

    @contextmanager
    def at_best(self) -> Iterator[None]:
        """The trained parameters as they were at the best point, for as long as the block lasts."""
        parameters = trained(self.trainer.model, self.trainer.optimizer)
        last = {name: parameter.detach().clone() for name, parameter in parameters}
        with torch.no_grad():
            for name, parameter in parameters:
                parameter.copy_(self.best_weights[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in parameters:
                    parameter.copy_(last[name])


def best_point(curve: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The point of the highest score, the first of equals; None of an empty curve."""
    best = max(curve, key=lambda point: point["score"], default=None)
    return best and {name: best[name] for name in ("share", "step", "tokens", "score")}
