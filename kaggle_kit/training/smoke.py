"""The gate before a long run: 50 steps on 100 samples must learn, and must leave no trace.

    def trainer(steps, samples):
        plan = smoke_plan(encoded, settings, seed, steps=steps, samples=samples)
        return MultiTaskTrainer(model, PlanDataset(plan, encoded), training_arguments(..., steps=steps))

    report = smoke_test(trainer)
    report.first, report.last, report.skipped

What is trained is the run's own model, under its strategy; afterwards the model and the random states of
torch, numpy and Python are what they were. The trainer, with its optimiser, scaler and token counters, is
made for the test alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.plan import PlanSettings, StepPlan, TaskRows
from kaggle_kit.batches.sampler import MultiTaskBatchSampler
from kaggle_kit.training.callbacks.alarms import MAX_SKIPPED_SHARE, SkippedStepCallback, TrainingAlarm
from kaggle_kit.training.state import random_states, restore_random_states
from kaggle_kit.training.trainer import MultiTaskTrainer


class SmokeGateError(TrainingAlarm):
    """The gate did not open; `report` holds the whole curve."""

    def __init__(self, report: SmokeReport) -> None:
        self.report = report
        curve = ", ".join(f"{loss:.3g}" for loss in report.curve)
        super().__init__(
            f"smoke test failed: {'; '.join(report.faults)}. Loss by step: {curve}. "
            f"Check training.learning_rate and the labels of these samples before a long run"
        )


@dataclass(frozen=True)
class SmokeReport:
    """Result of the smoke test: losses, gradient norms, skipped steps.

    `first` and `last` are mean losses per task over the first and last tenth of its steps (at least one).
    """

    losses: tuple[Mapping[str, float], ...]  # per step: task -> mean loss, before any weighting
    gradient_norms: tuple[float, ...]
    skipped: int
    leading: int  # of these, before the first step that was taken: the scale starts high on purpose
    seconds: float

    @property
    def curve(self) -> list[float]:
        """Sum over the tasks, per step."""
        return [sum(step.values()) for step in self.losses]

    @property
    def first(self) -> dict[str, float]:
        """Mean loss of each task over the first tenth of its steps."""
        return {task: float(np.mean(seen[: _tenth(seen)])) for task, seen in self._by_task().items()}

    @property
    def last(self) -> dict[str, float]:
        """Mean loss of each task over the last tenth of its steps."""
        return {task: float(np.mean(seen[-_tenth(seen) :])) for task, seen in self._by_task().items()}

    @property
    def ratio(self) -> float:
        """Last loss over first, each summed over the tasks."""
        return sum(self.last.values()) / sum(self.first.values())

    @property
    def faults(self) -> list[str]:
        """Why the gate stays shut; empty when it opens."""
        faults = []
        if not self.ratio <= 0.5:  # a NaN fails too
            faults.append(f"the loss fell to {self.ratio:.0%} of its start; it must at least halve")
        infinite = [n for n, norm in enumerate(self.gradient_norms, 1) if not math.isfinite(norm)]
        if len(infinite) > self.skipped:  # float16 skips the step of an overflow and goes on
            faults.append(f"gradient norms are not finite at steps {infinite[:5]}")
        late = self.skipped - self.leading
        if late > MAX_SKIPPED_SHARE * len(self.losses):
            faults.append(f"{late} of {len(self.losses)} steps were skipped; allowed {MAX_SKIPPED_SHARE:.0%}")
        return faults

    def _by_task(self) -> dict[str, list[float]]:
        tasks = dict.fromkeys(task for step in self.losses for task in step)
        return {task: [step[task] for step in self.losses if task in step] for task in tasks}


def smoke_test(
    make_trainer: Callable[[int, int], MultiTaskTrainer], *, steps: int = 50, samples: int = 100
) -> SmokeReport:
    """Train `make_trainer(steps, samples)` and put its model back as it was before.

    Passes when the loss at least halves, every gradient norm that was not skipped is finite and at most
    5 % of the steps are skipped after the first that was taken; else raises SmokeGateError.
    """
    generators = random_states()
    trainer = make_trainer(steps, samples)
    watch = _Watch()
    watch.bind(trainer)
    trainer.add_callback(watch)
    begun = time.perf_counter()
    try:
        with _unchanged(trainer.model):
            trainer.train()
    finally:
        restore_random_states(*generators)
    seconds = time.perf_counter() - begun
    report = SmokeReport(tuple(watch.losses), tuple(watch.norms), watch.skipped, watch.leading, seconds)
    if report.faults:
        raise SmokeGateError(report)
    return report


def smoke_plan(
    encoded: Mapping[str, EncodedTask], settings: PlanSettings, seed: int, *, steps: int, samples: int
) -> StepPlan:
    """Plan `steps` steps over the first `samples` sequences, shared evenly by the tasks, in whole groups."""
    share = math.ceil(samples / len(encoded))
    rows = {}
    for name, task in encoded.items():
        bounds = TaskRows(task.lengths, task.groups).bounds
        stop = bounds[min(np.searchsorted(bounds, share), len(bounds) - 1)]
        rows[name] = TaskRows(task.lengths[:stop], task.groups[:stop])
    groups = sum(len(task.bounds) - 1 for task in rows.values())
    enough = math.ceil(steps * settings.effective_batch / groups)  # a group has at least one sequence
    cut = replace(settings, epochs=enough, max_steps=steps, target_tokens=None, targets=None)
    return MultiTaskBatchSampler(rows, cut, seed).plan()


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Put the model back bit for bit when the block ends: what trains, buffers, flags and mode.

    Only what trains is copied, and to main memory: the rest may be larger than the memory left.
    """
    moved = [*(p for p in model.parameters() if p.requires_grad), *model.buffers()]
    values = [tensor.detach().to("cpu", copy=True) for tensor in moved]
    flags = [(p, p.requires_grad) for p in model.parameters()]  # PEFT flips them with the active adapter
    training, forward = model.training, vars(model).get("forward")  # the library wraps it for float16
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(moved, values, strict=True):
                tensor.copy_(value)
        for parameter, flag in flags:
            parameter.grad = None
            parameter.requires_grad_(flag)
        model.train(training)
        vars(model).pop("forward", None)
        if forward is not None:
            model.forward = forward


class _Watch(SkippedStepCallback):
    """Takes down the curve; skipped steps are counted as in a run, and raise no alarm."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[dict[str, float]] = []
        self.norms: list[float] = []
        self._norm = math.nan

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        parameters = (p for group in kwargs["optimizer"].param_groups for p in group["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        self._norm = float(torch.nn.utils.get_total_norm(gradients))  # after clipping

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.losses.append(dict(self.trainer.record["losses"]))
        # transformers 5.0 clips inside its loop, where the trainer cannot record the norm before clipping
        self.norms.append(self.trainer.record.get("grad_norm", self._norm))


def _tenth(seen: list[float]) -> int:
    return max(1, len(seen) // 10)
