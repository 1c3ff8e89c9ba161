"""Quick evaluation while training, early stopping, and the best weights back at the end.

quick = QuickEvaluationCallback(lambda: {"f1": ...}, metric="f1", every=200, patience=1500)
trainer = MultiTaskTrainer(..., callbacks=[quick, RunLogCallback(run)])
trainer.train()
quick.best_step, quick.best_score, quick.stopped_at
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import logger
from kaggle_kit.training.callbacks.base import StudyCallback


class QuickEvaluationCallback(StudyCallback):
    """Calls `evaluate` every `every` steps and after the last one; higher is better.

    `evaluate` is the page's: it scores the model on a few hundred development samples. The run stops at
    an evaluation that comes `patience` steps or more after the best one (None: never). With `restore_best`
    a copy of the best trained parameters is kept in CPU memory (`best_weights`, by name) and put back at
    the end; it is no part of `state()`, so a checkpoint has to save it as tensors.
    """

    remembered = ("best_step", "best_score", "stopped_at")
    figures_at_step_end = True

    def __init__(
        self,
        evaluate: Callable[[], Mapping[str, float]],
        metric: str,
        *,
        every: int = 200,
        patience: float | None = None,
        restore_best: bool = True,
    ) -> None:
        self.evaluate = evaluate
        self.metric = metric
        self.every = every
        self.patience = patience
        self.restore_best = restore_best
        self.best_step: int | None = None
        self.best_score: float | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.stopped_at: int | None = None

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs) -> None:
        step = state.global_step
        if step % self.every and step != state.max_steps:
            return
        figures = self._evaluate(model)
        best = -math.inf if self.best_score is None else self.best_score
        if figures[self.metric] > best:  # which a NaN never is
            self.best_step, self.best_score = step, figures[self.metric]
            if self.restore_best:
                self.best_weights = {name: p.detach().cpu().clone() for name, p in trained(model, optimizer)}
        if self.patience is not None and step - (self.best_step or 0) >= self.patience:
            self.stopped_at, control.should_training_stop = step, True
            logger.info("stopped at step %d: no better %s since step %d", step, self.metric, self.best_step)
        self.trainer.record["quick_evaluation"] = {
            **figures,
            "best_step": self.best_step,
            "best_score": self.best_score,
            "stopped": self.stopped_at is not None,
        }

    def on_train_end(self, args, state, control, model=None, optimizer=None, **kwargs) -> None:
        if not self.best_weights or self.best_step == state.global_step:
            return
        with torch.no_grad():
            for name, parameter in trained(model, optimizer):
                parameter.copy_(self.best_weights[name])

    @property
    def keeps_best(self) -> bool:
        return self.restore_best

    def summary(self) -> dict[str, Any]:
        if self.best_step is None:
            return {}
        names = ("metric", "best_step", "best_score", "stopped_at")
        return {name: getattr(self, name) for name in names}

    def _evaluate(self, model: nn.Module) -> dict[str, float]:
        figures = undisturbed(self.evaluate, model)
        if self.metric not in figures:
            raise ConfigError(
                f"no metric {self.metric!r} to stop early by; evaluate gives {', '.join(figures)}"
            )
        return figures


def undisturbed(evaluate: Callable[[], Mapping[str, float]], model: nn.Module) -> dict[str, float]:
    """The figures of the moment; neither the model's mode nor torch's random state is touched by it."""
    training = model.training
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        figures = dict(evaluate())
    model.train(training)
    return figures


def trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter) of all that the optimiser moves.

    Not those with `requires_grad`: PEFT flips that flag with the active adapter.
    """
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in moved]
