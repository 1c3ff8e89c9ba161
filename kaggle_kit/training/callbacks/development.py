"""Scores on development data while a run trains: quick evaluations, early stopping, the development curve.

quick = QuickEvaluationCallback(lambda: {"f1": ...}, metric="f1", every=200, patience=1500)
curve = DevelopmentCallback(evaluate, metric="selection", budget=2_353_665)
trainer = MultiTaskTrainer(..., callbacks=[quick, curve, RunLogCallback(run)])
trainer.train()
quick.best_step, quick.best_score, quick.stopped_at
curve.curve[0]          # {"share": 0.1, "step": 261, "tokens": 235_913, "scores": {...}, "score": 0.7}
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerControl, TrainerState

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import logger
from kaggle_kit.training.callbacks.base import FiguresCallback

SHARES = tuple(tenth / 10 for tenth in range(1, 11))  # of the run's tokens
Evaluate = Callable[[], Mapping[str, float]]


class EvaluationCallback(FiguresCallback):
    """Evaluates without a trace in the training, and may keep the trained parameters of the best step.

    `evaluate` gives figures by name, among them `metric`, by which steps are compared; higher is better.
    With `keeps_best` a copy of the best step's trained parameters lies in CPU memory (`best_weights`, by
    name); it is no part of `state()`, and checkpoints save it as tensors.
    """

    def __init__(self, evaluate: Evaluate, metric: str, keeps_best: bool) -> None:
        self.evaluate = evaluate
        self.metric = metric
        self.keeps_best = keeps_best
        self.best_step: int | None = None  # of this trainer
        self.best_weights: dict[str, Tensor] = {}

    def figures(self, model: nn.Module) -> dict[str, float]:
        """Return the figures of the moment; the model's mode and torch's random state stay as they are."""
        training = model.training
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            figures = dict(self.evaluate())
        model.train(training)
        if self.metric not in figures:
            given = ", ".join(figures)
            raise ConfigError(f"no metric {self.metric!r} to compare steps by; evaluate gives {given}")
        return figures

    def keep(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Note the best step and, with `keeps_best`, copy what trains."""
        self.best_step = step
        if self.keeps_best:
            parameters = trained_parameters(model, optimizer)
            self.best_weights = {name: p.detach().cpu().clone() for name, p in parameters}


class QuickEvaluationCallback(EvaluationCallback):
    """Evaluates every `every` steps and after the last one, on a few hundred development samples.

    The run stops at an evaluation that comes `patience` steps or more after the best one (None: never). With
    `keeps_best` the best step's parameters are put back at the end.
    """

    remembered = ("best_step", "best_score", "stopped_at")

    def __init__(
        self,
        evaluate: Evaluate,
        metric: str,
        *,
        every: int = 200,
        patience: float | None = None,
        keeps_best: bool = True,
    ) -> None:
        super().__init__(evaluate, metric, keeps_best)
        self.every = every
        self.patience = patience
        self.best_score: float | None = None
        self.stopped_at: int | None = None

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Evaluate where it is due, keep the best step, and stop the run when patience ends."""
        step = state.global_step
        if step % self.every and step != state.max_steps:
            return
        figures = self.figures(kwargs["model"])
        if figures[self.metric] > (-math.inf if self.best_score is None else self.best_score):  # no NaN is
            self.best_score = figures[self.metric]
            self.keep(step, kwargs["model"], kwargs["optimizer"])
        if self.patience is not None and step - (self.best_step or 0) >= self.patience:
            self.stopped_at, control.should_training_stop = step, True
            logger.info("stopped at step %d: no better %s since step %d", step, self.metric, self.best_step)
        best = {"best_step": self.best_step, "best_score": self.best_score}
        self.trainer.record["quick_evaluation"] = figures | best | {"stopped": self.stopped_at is not None}

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Put the best step's parameters back into the model, if they were kept."""
        if self.best_weights and self.best_step != state.global_step:
            _put(self.best_weights, trained_parameters(kwargs["model"], kwargs["optimizer"]))

    def summary(self) -> dict[str, Any]:
        """Return the metric, the best step and score, and the step of early stopping, if any."""
        names = ("metric", *self.remembered)
        return {} if self.best_step is None else {name: getattr(self, name) for name in names}


class DevelopmentCallback(EvaluationCallback):
    """Evaluates after the first step that reaches each of `SHARES` of `budget`, the tokens of all phases.

    A baseline that was trained too long, or not long enough, is seen here although its last step is scored.
    `evaluate` gives `TASK.METRIC` of each task beside `metric`; where a quick evaluation was made after the
    same step, its figures serve. `begun` are the tokens of earlier phases. The best point is the first of
    equals.
    """

    remembered = ("curve", "best_step")

    def __init__(
        self, evaluate: Evaluate, metric: str, *, budget: int, begun: int = 0, keeps_best: bool = False
    ) -> None:
        super().__init__(evaluate, metric, keeps_best)
        self.budget = budget
        self.begun = begun
        self.curve: list[dict[str, Any]] = []
        self._due: dict[int, list[float]] = {}  # step -> shares that are reached by it

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find the plan's step at which each share of the token budget is reached."""
        plan = self.trainer.train_dataset.plan
        ends = self.begun + np.cumsum([sum(step.tokens.values()) for step in plan.steps])
        self._due = {}
        for share in SHARES:
            wanted = math.ceil(round(share * self.budget, 6))
            if self.begun < wanted <= ends[-1]:
                self._due.setdefault(int(np.searchsorted(ends, wanted)) + 1, []).append(share)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Add a point to the curve for each share reached by this step, and keep the best one."""
        if state.global_step not in self._due:
            return
        figures = self.trainer.record.get("quick_evaluation") or self.figures(kwargs["model"])
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
            self.keep(state.global_step, kwargs["model"], kwargs["optimizer"])

    @contextmanager
    def at_best(self) -> Iterator[None]:
        """Put the parameters of the best point into the model for as long as the block lasts."""
        parameters = trained_parameters(self.trainer.model, self.trainer.optimizer)
        last = {name: parameter.detach().clone() for name, parameter in parameters}
        _put(self.best_weights, parameters)
        try:
            yield
        finally:
            _put(last, parameters)


def best_point(curve: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the point of the highest score, the first of equals; None of an empty curve."""
    best = max(curve, key=lambda point: point["score"], default=None)
    return None if best is None else {name: best[name] for name in ("share", "step", "tokens", "score")}


def trained_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    """Return (name, parameter) of all that the optimiser moves.

    Not those with `requires_grad`: PEFT flips that flag with the active adapter.
    """
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in moved]


@torch.no_grad()
def _put(weights: Mapping[str, Tensor], parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    for name, parameter in parameters:
        parameter.copy_(weights[name])
