"""The alarm for float16 runs whose gradients keep overflowing.

Training in float16 multiplies the loss by a scale and skips a step whose gradients overflow; a few
such steps are how the scale finds its level. A run that skips many has stopped learning although its
losses look finite.

    trainer = MultiTaskTrainer(..., callbacks=[..., RunLogCallback(run), SkippedStepCallback()])
"""

from __future__ import annotations

from typing import Any

from kaggle_kit.training.callbacks.base import StudyCallback, TrainingAlarm


class SkippedStepCallback(StudyCallback):
    """Logs `skipped` (steps so far) and `loss_scale`; stops a run that skips more than `limit` of its steps.

    Those before the first step that is taken do not count, since the scale starts high on purpose, and none
    do before `minimum` steps. A scale below 1 stops the run at once: gradients that overflow unscaled do so
    for another reason. Raises TrainingAlarm.
    """

    remembered = ("steps", "skipped", "leading")

    def __init__(self, limit: float = 0.05, minimum: int = 100) -> None:
        self.limit = limit
        self.minimum = minimum
        self.steps = 0
        self.skipped = 0
        self.leading = 0  # skips before the first step that was taken

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.steps += 1
        self.skipped += bool(self.trainer.accelerator.optimizer_step_was_skipped)
        self.leading = self.skipped if self.skipped == self.steps else self.leading
        self.trainer.record["skipped"] = self.skipped
        if self.trainer.accelerator.scaler is not None:
            self.trainer.record["loss_scale"] = self.trainer.accelerator.scaler.get_scale()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        scale = self.trainer.record.get("loss_scale", 1.0)
        late = self.skipped - self.leading
        if scale >= 1 and (self.steps < self.minimum or late <= self.limit * self.steps):
            return
        raise TrainingAlarm(
            f"step {state.global_step}: {late} of {self.steps} steps were skipped because "
            f"gradients overflowed in float16 (loss scale {scale:g}; allowed: {self.limit:.0%}, and a scale "
            f"of 1 or more). Lower training.learning_rate, or set profile.precision=float32 if memory allows"
        )

    def summary(self) -> dict[str, Any]:
        return {"steps": self.steps, "skipped": self.skipped}
