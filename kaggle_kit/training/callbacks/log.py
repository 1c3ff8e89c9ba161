"""The run folder's two logs, one line per optimiser step each.

MultiTaskTrainer(..., callbacks=[TokenCallback(run), SpeedCallback(), RunLogCallback(run)])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.callbacks.base import StudyCallback


class TokenCallback(StudyCallback):
    """`tokens.jsonl`: the real tokens of the step and of the run so far, per task.

    The counters are the trainer's (`trainer.tokens`) and part of its checkpoint.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.run.append_tokens(self.trainer.tokens.record())


class RunLogCallback(StudyCallback):
    """`events.jsonl`: the step's number (over all phases), its learning rate and all of `trainer.record`."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.send: Callable[[Mapping[str, Any]], None] | None = (
            None  # where else an event goes (experiment/tracking)
        )
        self._learning_rate = 0.0

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        callbacks = self.trainer.callback_handler.callbacks
        after = callbacks[callbacks.index(self) + 1 :]
        late = [type(c).__name__ for c in after if getattr(c, "figures_at_step_end", False)]
        if late:
            raise ConfigError(
                f"{', '.join(late)} stand(s) after RunLogCallback, which would miss their figures; "
                f"put RunLogCallback behind them, or take the list from study_callbacks()"
            )

    def on_pre_optimizer_step(self, args, state, control, lr_scheduler=None, **kwargs) -> None:
        self._learning_rate = lr_scheduler.get_last_lr()[
            0
        ]  # of this step: the schedule moves on before its end

    def on_step_end(self, args, state, control, **kwargs) -> None:
        event = {
            "step": self.trainer.tokens.step,
            **self.trainer.record,
            "learning_rate": self._learning_rate,
        }
        self.run.append_event(event)
        if self.send:
            self.send(event | {"tokens": self.trainer.tokens.total})
