"""How fast the run is and when it will end.

trainer = MultiTaskTrainer(..., callbacks=[SpeedCallback(), RunLogCallback(run)])
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kaggle_kit.training.callbacks.base import StudyCallback


class SpeedCallback(StudyCallback):
    """Seconds, samples/s and real tokens/s of each step, and the seconds that remain.

    A sample is one sequence that the backbone reads. The speeds are those of the step itself, from
    its first forward to its update; the time that remains follows from the tokens that the plan
    still holds and the wall time of this session per token, evaluations and saving included.
    """

    remembered = ("seconds", "samples", "tokens")
    figures_at_step_end = True

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seconds = 0.0
        self.samples = 0
        self.tokens = 0
        self._session: tuple[float, int] = (0.0, 0)  # wall time and tokens when this session began
        self._begun = 0.0
        self._planned = np.zeros(0)  # (steps,) tokens of the plan up to and with each step

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        plan = self.trainer.train_dataset.plan
        self._planned = np.cumsum([sum(step.tokens.values()) for step in plan.steps])
        self._session = self.clock(), self._counted()

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self._begun = self.clock()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        seconds = self.clock() - self._begun
        done = state.global_step - 1
        samples = sum(len(b.rows) for b in self.trainer.train_dataset.plan.steps[done].micro_batches)
        tokens = sum(self.trainer.tokens.record()["tokens"].values())
        self.seconds += seconds
        self.samples += samples
        self.tokens += tokens
        begun, before = self._session
        seconds_per_token = (self.clock() - begun) / (self._counted() - before)
        self.trainer.record |= {
            "seconds": seconds,
            "samples_per_second": samples / seconds,
            "tokens_per_second": tokens / seconds,
            "eta_seconds": seconds_per_token * float(self._planned[-1] - self._planned[done]),
        }

    def summary(self) -> dict[str, Any]:
        if not self.seconds:
            return {}
        speeds = {name: getattr(self, name) / self.seconds for name in ("samples", "tokens")}
        return {f"{name}_per_second": speed for name, speed in speeds.items()}

    def _counted(self) -> int:
        return sum(self.trainer.tokens.total.values())
