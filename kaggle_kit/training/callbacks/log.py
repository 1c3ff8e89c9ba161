"""The run folder's two logs, one line per optimiser step each, and the figures that go into them.

MultiTaskTrainer(..., callbacks=[TokenCallback(run), SpeedCallback(), RunLogCallback(run)])
"""

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from transformers import TrainerControl, TrainerState

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.conflicts import ConflictCounts
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import logger
from kaggle_kit.training.callbacks.base import FiguresCallback, StudyCallback

PROGRESS_SECONDS = 30.0  # between two lines of progress: 1,200 in ten hours, about 100 bytes each


class TokenCallback(StudyCallback):
    """Writes `tokens.jsonl`: the real tokens of the step and of the run so far, per task.

    The counters are the trainer's (`trainer.tokens`) and part of its checkpoint.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Append the step's token counts to the run's `tokens.jsonl`."""
        self.run.append_tokens(self.trainer.tokens.record())


class SpeedCallback(FiguresCallback):
    """Logs seconds, samples/s and real tokens/s of each step, and the seconds that remain.

    A sample is one sequence that the backbone reads. The speeds are those of the step itself, from
    its first forward to its update; the time that remains follows from the tokens that the plan
    still holds and the wall time of this session per token, evaluations and saving included.
    """

    remembered = ("seconds", "samples", "tokens")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seconds = 0.0
        self.samples = 0
        self.tokens = 0
        self._session: tuple[float, int] = (0.0, 0)  # wall time and tokens when this session began
        self._begun = 0.0
        self._planned = np.zeros(0)  # (steps,) tokens of the plan up to and with each step

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Sum up the plan's tokens, and start the session's clock."""
        plan = self.trainer.train_dataset.plan
        self._planned = np.cumsum([sum(step.tokens.values()) for step in plan.steps])
        self._session = self.clock(), sum(self.trainer.tokens.total.values())

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the step's clock."""
        self._begun = self.clock()

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Log the step's seconds and speeds, and the seconds that remain."""
        seconds = self.clock() - self._begun
        done = state.global_step - 1
        samples = sum(len(b.rows) for b in self.trainer.train_dataset.plan.steps[done].micro_batches)
        tokens = sum(self.trainer.tokens.record()["tokens"].values())
        self.seconds += seconds
        self.samples += samples
        self.tokens += tokens
        begun, before = self._session
        seconds_per_token = (self.clock() - begun) / (sum(self.trainer.tokens.total.values()) - before)
        self.trainer.record |= {
            "seconds": seconds,
            "samples_per_second": samples / seconds,
            "tokens_per_second": tokens / seconds,
            "eta_seconds": seconds_per_token * float(self._planned[-1] - self._planned[done]),
        }

    def summary(self) -> dict[str, Any]:
        """Return mean samples/s and tokens/s over all sessions of the run."""
        counts = {"samples_per_second": self.samples, "tokens_per_second": self.tokens}
        return {name: count / self.seconds for name, count in counts.items()} if self.seconds else {}


class GradientConflictCallback(StudyCallback):
    """Sums up the conflicts of all steps, against what chance alone would give.

    `trainer.record["conflicts"]` is `ConflictReport.record()`. By parameter group it holds the cosine of
    each pair of tasks' gradients and, on the steps whose batches were halved, those between the halves and
    between the components of one task:

        {"shared": {"cosines": {"a × b": -0.1}, "halves": {"a × a": [0.2], "a × b": [0.1, -0.2, 0.0, 0.3]},
                    "components": {"a": {"ner × relations": -0.3}}}}
    """

    def __init__(self) -> None:
        self.counts = ConflictCounts()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the step's cosines to the counts."""
        self.counts.add(self.trainer.record.get("conflicts", {}))

    def state(self) -> dict[str, Any]:
        """Return a copy of the counts, for the checkpoint."""
        return {"table": copy.deepcopy(self.counts.table)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Count on from a checkpoint's counts."""
        self.counts.table = copy.deepcopy(state["table"])

    def summary(self) -> dict[str, Any]:
        """Return by group the conflicts and mean cosines of tasks, halves and components, and the excess."""
        return self.counts.summary()


class RunLogCallback(StudyCallback):
    """Writes `events.jsonl`: the step's number over all phases, its learning rate, all of `trainer.record`.

    `send`, if set, is where else an event goes (`experiment/tracking`).
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.send: Callable[[Mapping[str, Any]], None] | None = None
        self._learning_rate = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raise ConfigError if a callback that logs figures stands behind this one."""
        callbacks = self.trainer.callback_handler.callbacks
        after = callbacks[callbacks.index(self) + 1 :]
        if late := [type(c).__name__ for c in after if isinstance(c, FiguresCallback)]:
            raise ConfigError(
                f"{', '.join(late)} stand(s) after RunLogCallback, which would miss their figures; "
                f"put RunLogCallback behind them, or take the list from study_callbacks()"
            )

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read the learning rate that this step will use."""
        # Of this step: the schedule moves on before its end.
        self._learning_rate = kwargs["lr_scheduler"].get_last_lr()[0]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Append the step's record to `events.jsonl`, and send it on."""
        tokens = self.trainer.tokens
        event = {"step": tokens.step, **self.trainer.record, "learning_rate": self._learning_rate}
        self.run.append_event(event)
        if self.send:
            self.send(event | {"tokens": tokens.total})


class ProgressCallback(StudyCallback):
    """Says a line after the first step, after the last, and in between at most one in 30 seconds.

    It takes the place of the library's bar, which redraws itself at every step: a page that trains for ten
    hours keeps everything that is ever printed, and Kaggle keeps it once more in the log.
    """

    def __init__(
        self, say: Callable[[str], None] = logger.info, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.say = say
        self.clock = clock
        self._due = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let the first step report at once."""
        self._due = self.clock()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report the step, the loss, the speed and the time left, where a line is due."""
        now, record = self.clock(), self.trainer.record
        ends = control.should_training_stop or state.global_step >= state.max_steps
        if now < self._due and not ends:
            return
        self._due = now + PROGRESS_SECONDS
        parts = [
            f"step {state.global_step} of {state.max_steps}",
            f"loss {sum(record['losses'].values()):.4g}",
        ]
        if "tokens_per_second" in record:
            hours, minutes = divmod(round(record["eta_seconds"] / 60), 60)
            parts += [f"{record['tokens_per_second']:,.0f} tokens/s", f"{hours}:{minutes:02} h left"]
        self.say(", ".join(parts))
