"""Callbacks of the study's trainer: what is written at every step, and what stops a run that has failed.

callbacks = study_callbacks(run, QuickEvaluationCallback(evaluate, "semeval2014t7 strict_f1"))
trainer = MultiTaskTrainer(model, PlanDataset(plan, encoded), arguments, callbacks)
trainer.train()
run.finish(..., training=summary(callbacks))
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.training.callbacks.base import StudyCallback, TrainingAlarm
from kaggle_kit.training.callbacks.conflicts import GradientConflictCallback
from kaggle_kit.training.callbacks.development import DevelopmentCallback
from kaggle_kit.training.callbacks.log import RunLogCallback, TokenCallback
from kaggle_kit.training.callbacks.loss import LossCallback
from kaggle_kit.training.callbacks.progress import ProgressCallback
from kaggle_kit.training.callbacks.quick import QuickEvaluationCallback
from kaggle_kit.training.callbacks.skipped import SkippedStepCallback
from kaggle_kit.training.callbacks.speed import SpeedCallback
from kaggle_kit.training.callbacks.vram import VRAMCallback

__all__ = [
    "DevelopmentCallback",
    "GradientConflictCallback",
    "LossCallback",
    "ProgressCallback",
    "QuickEvaluationCallback",
    "RunLogCallback",
    "SkippedStepCallback",
    "SpeedCallback",
    "StudyCallback",
    "TokenCallback",
    "TrainingAlarm",
    "VRAMCallback",
    "study_callbacks",
    "summary",
]


def study_callbacks(
    run: RunFolder,
    quick: QuickEvaluationCallback | None = None,
    curve: DevelopmentCallback | None = None,
) -> list[StudyCallback]:
    """All of them in the order that keeps the log whole: first the figures, then the log, then the alarms."""
    figures = [TokenCallback(run), SpeedCallback(), VRAMCallback(), GradientConflictCallback()]
    log = [RunLogCallback(run), ProgressCallback()]
    return [*figures, *filter(None, (quick, curve)), *log, LossCallback(), SkippedStepCallback()]


def summary(callbacks: Iterable[StudyCallback]) -> dict[str, dict[str, Any]]:
    """What each callback has to say of the whole run, by its name; for the run's manifest."""
    return {type(callback).__name__: told for callback in callbacks if (told := callback.summary())}
