"""How far training is, in a line now and then.

trainer = MultiTaskTrainer(..., callbacks=[SpeedCallback(), ProgressCallback()])

It takes the place of the library's bar, which redraws itself at every step: a page that trains for ten
hours keeps everything that is ever printed, and Kaggle keeps it once more in the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from kaggle_kit.core.runtime import logger
from kaggle_kit.training.callbacks.base import StudyCallback

PER_SESSION = 1200  # lines of a session of ten hours, about 100 bytes each


class ProgressCallback(StudyCallback):
    """A line after the first step, after the last, and in between at most one every `seconds`."""

    def __init__(
        self,
        seconds: float = 10 * 3600 / PER_SESSION,
        say: Callable[[str], None] = logger.info,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self.say = say
        self.clock = clock
        self._said: float | None = None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._said = None

    def on_step_end(self, args, state, control, **kwargs) -> None:
        now = self.clock()
        ends = control.should_training_stop or state.global_step >= state.max_steps
        if self._said is None or ends or now - self._said >= self.seconds:
            self._said = now
            self.say(self._line(state.global_step, state.max_steps))

    def _line(self, step: int, steps: int) -> str:
        record = self.trainer.record
        parts = [f"step {step} of {steps}", f"loss {sum(record['losses'].values()):.4g}"]
        if "tokens_per_second" in record:
            parts.append(f"{record['tokens_per_second']:,.0f} tokens/s")
        if "eta_seconds" in record:
            minutes = round(record["eta_seconds"] / 60)
            parts.append(f"{minutes // 60}:{minutes % 60:02} h left")
        return ", ".join(parts)
