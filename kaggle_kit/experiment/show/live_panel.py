"""A panel of the training's progress, redrawn in place while it runs.

    show.live(exp)      # before exp.train()

The log's own lines go on beside it; they are what remains where nothing can be redrawn.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from html import escape
from statistics import fmean
from typing import Any

from IPython.display import display

from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.show.views import TITLE, View
from kaggle_kit.training.callbacks.base import StudyCallback

SECONDS = 5.0  # between two drawings
LAST = 20  # steps of a task behind its loss
COLUMNS = ("task", "tokens seen", "of those planned", f"loss, last {LAST} steps", "dev score")
BAR = '<progress value="{share:.4f}" max="1" style="width:8rem"></progress> {share:.0%}'
CELL = '<td style="text-align:left;padding:.2rem .6rem">{}</td>'


def live(exp: Experiment) -> None:
    """Have the training of every phase drawn in place: tokens, losses, dev scores and the pace."""
    panel = LivePanel()
    exp.phases = [replace(phase, watches=(*phase.watches, panel)) for phase in exp.phases]


class LivePanel(StudyCallback):
    """Draws at the first step, at the last, and in between at most every `seconds`.

    `show` is called as IPython's `display`: with `display_id` it gives a handle, or None where there is no
    notebook, and then nothing is drawn again.
    """

    def __init__(
        self,
        seconds: float = SECONDS,
        show: Callable[..., Any] = display,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds, self.show, self.clock = seconds, show, clock
        self._losses: dict[str, deque[float]] = {}
        self._scores: dict[str, float] = {}
        self._handle: Any = None
        self._drawn: float | None = None
        self._planned: Counter[str] = Counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Give each phase a panel of its own."""
        self._handle = self._drawn = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the step's losses and scores, and draw if a drawing is due."""
        record = self.trainer.record
        for task, loss in record["losses"].items():
            if math.isfinite(loss):
                self._losses.setdefault(task, deque(maxlen=LAST)).append(loss)
        scores = record.get("quick_evaluation", {})
        self._scores |= {name.partition(".")[0]: score for name, score in scores.items() if "." in name}
        now = self.clock()
        ends = control.should_training_stop or state.global_step >= state.max_steps
        if self._drawn is None:
            self._planned = self._totals(state.global_step)
            self._handle, self._drawn = self.show(self._view(state), display_id=True), now
        elif self._handle is not None and (ends or now - self._drawn >= self.seconds):
            self._handle.update(self._view(state))
            self._drawn = now

    def _totals(self, step: int) -> Counter[str]:
        """Return each task's tokens at the end of this phase: those seen so far, and those of steps ahead."""
        plan = self.trainer.train_dataset.plan
        totals = Counter({task: self.trainer.tokens.total.get(task, 0) for task in plan.tasks})
        for ahead in plan.steps[step:]:
            totals.update(ahead.tokens)
        return totals

    def _view(self, state: Any) -> View:
        record, total, lines, cells = self.trainer.record, self.trainer.tokens.total, [], [COLUMNS]
        for task, planned in self._planned.items():
            share = total.get(task, 0) / planned if planned else 1.0
            loss = f"{fmean(self._losses[task]):.4f}" if task in self._losses else "–"
            dev = f"{self._scores[task]:.4f}" if task in self._scores else "–"
            lines.append(f"{task}: {total.get(task, 0):,} tokens, {share:.0%}, loss {loss}, dev {dev}")
            cells.append((escape(task), f"{total.get(task, 0):,}", BAR.format(share=share), loss, dev))
        title = f"step {state.global_step:,} of {state.max_steps:,}"
        if "tokens_per_second" in record:
            title += f", {record['tokens_per_second']:,.0f} real tokens/s"
        if "eta_seconds" in record:
            hours, minutes = divmod(math.ceil(record["eta_seconds"] / 60), 60)
            title += f", {hours}:{minutes:02} h left"
        body = "".join(f"<tr>{''.join(map(CELL.format, row))}</tr>" for row in cells)
        return View(TITLE.format(title) + f"<table>{body}</table>", "\n".join([title, *lines]))
