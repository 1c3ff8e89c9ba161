"""What the study's callbacks share: a trainer to look at, a state to keep, a summary to give.

A callback finds the step's losses and gradient norm in `trainer.record` and puts its own figures
there; `RunLogCallback` writes the record once a step. Stock callbacks know nothing of it and run as
ever.
"""

import copy
from typing import Any

from transformers import TrainerCallback


class StudyCallback(TrainerCallback):
    """A callback that owns its state: `state()` is plain JSON and part of every checkpoint."""

    remembered: tuple[str, ...] = ()  # the attributes that make up the state

    def bind(self, trainer: Any) -> None:
        """Take the trainer; it calls this on construction."""
        self.trainer = trainer

    def state(self) -> dict[str, Any]:
        """Return a copy of the attributes named in `remembered`, for the checkpoint."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self.remembered}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a state; KeyError for that of another kind of callback."""
        for name in self.remembered:
            setattr(self, name, copy.deepcopy(state[name]))

    def summary(self) -> dict[str, Any]:
        """Return figures of the whole run, for its manifest; empty where there are none."""
        return {}


class FiguresCallback(StudyCallback):
    """A callback that puts figures into `trainer.record` at a step's end: it must stand before the log."""
