"""Callbacks of the study's trainer; each owns its state.

MultiTaskTrainer(..., callbacks=[RunLogCallback(run)])
"""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback

from kaggle_kit.core.artifacts import RunFolder


class RunLogCallback(TrainerCallback):
    """One line per optimiser step in `events.jsonl` and one in `tokens.jsonl`.

    The trainer binds itself on construction (`bind`); stock callbacks see no such thing and run as ever.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.trainer: Any = None
        self._begun = 0.0

    def bind(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self._begun = time.perf_counter()

    def on_step_end(self, args, state, control, lr_scheduler=None, **kwargs) -> None:
        seconds = time.perf_counter() - self._begun
        counted = self.trainer.tokens.record()
        tokens = sum(counted["tokens"].values())
        self.run.append_event(
            {
                "step": state.global_step,
                **self.trainer.record,
                "learning_rate": lr_scheduler.get_last_lr()[0],
                "seconds": seconds,
                "tokens_per_second": tokens / seconds,
            }
        )
        self.run.append_tokens(counted)
