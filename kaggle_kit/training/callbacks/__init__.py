"""Callbacks of the study's trainer: what is written at every step, and what stops a run that has failed.

callbacks = study_callbacks(run, QuickEvaluationCallback(evaluate, "semeval2014t7 strict_f1"))
trainer = MultiTaskTrainer(model, PlanDataset(plan, encoded), arguments, callbacks)
trainer.train()
run.finish(..., training=summary(callbacks))
"""

from collections.abc import Iterable
from typing import Any

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.training.callbacks.alarms import LossCallback, SkippedStepCallback, VRAMCallback
from kaggle_kit.training.callbacks.base import StudyCallback
from kaggle_kit.training.callbacks.development import DevelopmentCallback, QuickEvaluationCallback
from kaggle_kit.training.callbacks.log import (
    GradientConflictCallback,
    ProgressCallback,
    RunLogCallback,
    SpeedCallback,
    TokenCallback,
)


def study_callbacks(
    run: RunFolder, quick: QuickEvaluationCallback | None = None, curve: DevelopmentCallback | None = None
) -> list[StudyCallback]:
    """Return all of them in the order that keeps the log whole: first figures, then the log, then alarms."""
    figures = [TokenCallback(run), SpeedCallback(), VRAMCallback(), GradientConflictCallback()]
    log = [RunLogCallback(run), ProgressCallback()]
    return [*figures, *filter(None, (quick, curve)), *log, LossCallback(), SkippedStepCallback()]


def summary(callbacks: Iterable[StudyCallback]) -> dict[str, dict[str, Any]]:
    """Return each callback's figures of the whole run, by its class's name; for the run's manifest."""
    return {type(callback).__name__: figures for callback in callbacks if (figures := callback.summary())}
