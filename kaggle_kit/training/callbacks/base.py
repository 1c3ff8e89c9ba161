"""What the study's callbacks share: a trainer to look at, a state to keep, a summary to give.

A callback finds the step's losses and gradient norm in `trainer.record` and puts its own figures
there; `RunLogCallback` writes the record once a step. Stock callbacks know nothing of it and run as
ever.
"""

from __future__ import annotations

import copy
from typing import Any

from transformers import TrainerCallback

from kaggle_kit.core.errors import KitError


class TrainingAlarm(KitError):
    """A run that must not go on: the message names the step, the cause and what to try."""


class StudyCallback(TrainerCallback):
    """A callback that owns its state: `state()` is plain JSON and part of every checkpoint."""

    remembered: tuple[str, ...] = ()  # the attributes that make up the state
    figures_at_step_end = False  # such a callback must stand before the log in the trainer's list

    def bind(self, trainer: Any) -> None:
        """Called by the trainer on construction."""
        self.trainer = trainer

    def state(self) -> dict[str, Any]:
        return {name: copy.deepcopy(getattr(self, name)) for name in self.remembered}

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises KeyError for the state of another kind of callback."""
        for name in self.remembered:
            setattr(self, name, copy.deepcopy(state[name]))

    def summary(self) -> dict[str, Any]:
        """Figures of the whole run, for its manifest; empty where there is nothing to say."""
        return {}
