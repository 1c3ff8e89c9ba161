"""What stops a run that has failed, or warns of one that will: losses, gradients, float16's scale, memory.

trainer = MultiTaskTrainer(..., callbacks=[VRAMCallback(), RunLogCallback(run), LossCallback()])

The alarms stand behind the log, so that the line of the step that raised one is written.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import psutil
import torch
from transformers import TrainerState

from kaggle_kit.core.errors import KitError
from kaggle_kit.core.runtime import GIB, logger
from kaggle_kit.training.callbacks.base import FiguresCallback, StudyCallback

EXPLOSION_FACTOR = 10.0  # times the running median of a task's losses
MEDIAN_WINDOW = 100  # losses
PATIENCE = 3  # exploded losses in a row
MAX_SKIPPED_SHARE = 0.05  # of the steps
MIN_MEASUREMENTS = 10  # of memory, 500 steps: five points of noise rise one by one once in 120 times
MAX_LEAK = 0.1  # GiB per 1,000 steps


class TrainingAlarm(KitError):
    """A run that must not go on: the message names the step, the cause and what to try."""


def loss_fault(loss: float, recent: Sequence[float], start: float | None) -> str | None:
    """Say what is wrong with a task's loss, or return None.

    It explodes when it exceeds both `EXPLOSION_FACTOR` times the median of the `recent` losses and `start`,
    the level at which the task began; without the second condition, a task that has been learnt to a loss
    near 0 would raise the alarm at its first hard step. `start` is None until that level is known.
    """
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if start is None or loss <= max(EXPLOSION_FACTOR * (usual := median(recent)), start):
        return None
    return f"the loss is {loss:.4g}, over {EXPLOSION_FACTOR:g} times its running median {usual:.4g}"


class LossCallback(StudyCallback):
    """Stops a run by TrainingAlarm, naming task and step: at a figure that is not finite, or an explosion.

    An explosion lasts: `PATIENCE` losses of a task in a row. A single one over the mark is a hard batch, as
    a relation head with three pairs in it meets now and then. A gradient that is not finite is a fault
    where no loss scaler skips its step. The level at which a task begins is the median of its first
    `minimum` losses; the running median is taken over its last ones, without those over the mark.
    """

    remembered = ("start", "recent", "over")

    def __init__(self, minimum: int = 20) -> None:
        self.minimum = minimum
        self.start: dict[str, float] = {}
        self.recent: dict[str, list[float]] = {}
        self.over: dict[str, int] = {}  # losses over the mark in a row

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Raise TrainingAlarm for a loss or a gradient norm that is not finite, or a loss that explodes."""
        for task, loss in self.trainer.record["losses"].items():
            recent = self.recent.setdefault(task, [])
            fault = loss_fault(loss, recent, self.start.get(task))
            self.over[task] = self.over.get(task, 0) + 1 if fault else 0
            if fault and (self.over[task] == PATIENCE or not math.isfinite(loss)):
                earlier = ", ".join(f"{value:.4g}" for value in recent[-5:]) or "none"
                raise TrainingAlarm(
                    f"step {state.global_step}, task {task}: {fault} (the usual losses before: {earlier}). "
                    f"Lower training.learning_rate, add training.warmup, or look at this step's samples"
                )
            if not fault:
                recent.append(loss)
                del recent[:-MEDIAN_WINDOW]
                if len(recent) == self.minimum:
                    self.start.setdefault(task, median(recent))
        norm = self.trainer.record.get("grad_norm", 0.0)
        if self.trainer.accelerator.scaler is None and not math.isfinite(norm):
            tasks = ", ".join(self.trainer.record.get("nonfinite", ())) or "all that took part"
            raise TrainingAlarm(
                f"step {state.global_step}: the gradient norm is {norm} (tasks: {tasks}), and the step was "
                f"taken. Lower training.learning_rate, or look at this step's samples"
            )


class SkippedStepCallback(StudyCallback):
    """Logs `skipped` (steps so far) and `loss_scale`; stops a run that skips more than 5 % of its steps.

    Training in float16 multiplies the loss by a scale and skips a step whose gradients overflow; a few
    such steps are how the scale finds its level. A run that skips many has stopped learning although its
    losses look finite. Those before the first step that is taken do not count, since the scale starts high
    on purpose, and none do before `minimum` steps. A scale below 1 stops the run at once: gradients that
    overflow unscaled do so for another reason. Raises TrainingAlarm.
    """

    remembered = ("steps", "skipped", "leading")

    def __init__(self, minimum: int = 100) -> None:
        self.minimum = minimum
        self.steps = 0
        self.skipped = 0
        self.leading = 0  # skips before the first step that was taken

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the step, note whether the scaler skipped it, and log the loss scale."""
        accelerator, record = self.trainer.accelerator, self.trainer.record
        self.steps += 1
        self.skipped += bool(accelerator.optimizer_step_was_skipped)
        self.leading = self.skipped if self.skipped == self.steps else self.leading
        record["skipped"] = self.skipped
        if accelerator.scaler is not None:
            record["loss_scale"] = accelerator.scaler.get_scale()

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Raise TrainingAlarm where too many steps were skipped, or the loss scale fell below 1."""
        scale = self.trainer.record.get("loss_scale", 1.0)
        late = self.skipped - self.leading
        if scale < 1 or (self.steps >= self.minimum and late > MAX_SKIPPED_SHARE * self.steps):
            raise TrainingAlarm(
                f"step {state.global_step}: {late} of {self.steps} steps were skipped because gradients "
                f"overflowed in float16 (loss scale {scale:g}; allowed: {MAX_SKIPPED_SHARE:.0%}, and a scale "
                "of 1 or more). Lower training.learning_rate, or set profile.precision=float32 if it fits"
            )

    def summary(self) -> dict[str, Any]:
        """Return the optimiser steps of the run, and how many of them were skipped."""
        return {"steps": self.steps, "skipped": self.skipped}


class LeakVerdict(NamedTuple):
    """Whether memory leaks, its growth in GiB per 1,000 steps, and the figures behind the verdict."""

    leaking: bool
    gib_per_1000_steps: float
    reason: str


def leak_verdict(steps: Sequence[int], gib: Sequence[float]) -> LeakVerdict:
    """Judge whether memory still grows by more than `MAX_LEAK` GiB in 1,000 steps.

    The Theil–Sen slope (median over all pairs of measurements, so a single jump does not move it) of
    the later half of the run: caches fill and the longest batch comes early on. It leaks when the
    lower end of the slope's 99 % interval (Sen 1968) exceeds what is allowed.
    """
    if len(gib) < MIN_MEASUREMENTS:
        too_few = f"{len(gib)} measurements are too few to judge; need {MIN_MEASUREMENTS}"
        return LeakVerdict(False, 0.0, too_few)
    from scipy.stats import theilslopes  # half a second of imports, for runs that come this far

    later = slice(len(gib) // 2, None)
    slope, _, low, high = (1000 * float(v) for v in theilslopes(gib[later], steps[later], alpha=0.99))
    reason = (
        f"{slope:+.3f} GiB per 1,000 steps (99 % interval {low:+.3f} to {high:+.3f}) "
        f"over steps {steps[later][0]} to {steps[-1]}; allowed {MAX_LEAK:g}"
    )
    return LeakVerdict(low > MAX_LEAK, slope, reason)


def memory_gib(device: torch.device) -> dict[str, float]:
    """Return the GiB in use: on a GPU by tensors, by torch's allocator and by everything on the device.

    On a CPU it is the resident memory of this process.
    """
    if device.type != "cuda":
        return {"resident": psutil.Process().memory_info().rss / GIB}
    free, total = torch.cuda.mem_get_info(device)
    used = {"allocated": torch.cuda.memory_allocated(device), "reserved": torch.cuda.memory_reserved(device)}
    return {name: count / GIB for name, count in (used | {"device": total - free}).items()}


class VRAMCallback(FiguresCallback):
    """Logs `memory_gib` and whether it leaks every `every` steps; the summary: the peak, the last verdict.

    The verdict is on the memory of tensors (on a CPU: of the process), because the allocator's own
    cache may grow without any leak. A leak is warned of at once, and does not stop the run.
    """

    remembered = ("steps", "gib")

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.steps: list[int] = []
        self.gib: list[dict[str, float]] = []
        self._warned = False  # in this session

    @property
    def verdict(self) -> LeakVerdict:
        """Judge all measurements so far."""
        return leak_verdict(self.steps, [next(iter(measured.values())) for measured in self.gib])

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Measure and log the memory in GiB every `every` steps; warn at the first sign of a leak."""
        if state.global_step % self.every == 0:
            self.steps.append(state.global_step)
            self.gib.append(memory_gib(args.device))
            verdict = self.verdict
            self.trainer.record |= {"memory_gib": self.gib[-1], "leaking": verdict.leaking}
            if verdict.leaking and not self._warned:
                logger.warning("step %d: memory leaks, %s", state.global_step, verdict.reason)
            self._warned |= verdict.leaking

    def summary(self) -> dict[str, Any]:
        """Return the peak memory in GiB by kind and the last verdict; nothing without measurements."""
        if not self.gib:
            return {}
        peak = {name: max(measured[name] for measured in self.gib) for name in self.gib[0]}
        return {"peak_gib": peak, **self.verdict._asdict()}
