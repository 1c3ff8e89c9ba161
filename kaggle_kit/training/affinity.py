"""What a step on one task does to another task's loss: the lookahead affinity of TAG.

    watch = AffinityCallback(probes, every=10, step_size=0.01)
    trainer.add_callback(watch)                 # measures while the trainer trains, and leaves no trace
    watch.affinity["ner"]["relations"]          # 1 - L_relations(θ after a step on ner) / L_relations(θ)

Fifty, Amid, Zhao, Yu, Anil and Finn, NeurIPS 2021 (arXiv 2109.04617), eq. 1, with a plain gradient step on
the parameters that the tasks share, averaged over several points of a training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kaggle_kit.batches.batch import MicroBatch, PlanDataset
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.training.callbacks import StudyCallback

SCALE = 1024.0  # on losses while their gradient is taken: float16 would lose the small ones

Affinity = dict[str, dict[str, float]]


def lookahead(
    loss: Callable[[str], Tensor], tasks: Iterable[str], shared: Sequence[Tensor], step_size: float
) -> Affinity:
    """One measurement: `loss(task)` at the parameters as they stand and after a step on each task.

    The shared parameters are put back bit for bit, and no `.grad` is touched. A task whose loss is 0 has
    nothing to gain: NaN.
    """
    tasks = list(tasks)
    kept = [parameter.detach().clone() for parameter in shared]
    before, found = {}, {}
    with torch.no_grad():
        before = {task: loss(task).item() for task in tasks}
    for task in tasks:
        gradients = torch.autograd.grad(SCALE * loss(task), shared, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(shared, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(gradient, alpha=step_size / SCALE)
            after = {other: loss(other).item() for other in tasks}
            for parameter, value in zip(shared, kept, strict=True):
                parameter.copy_(value)
        found[task] = {
            other: 1 - after[other] / before[other] if before[other] else math.nan for other in tasks
        }
    return found


class AffinityCallback(StudyCallback):
    """Measures every `every` steps on the next batch of every task's probe.

    `probes` are plans of one task each, whose steps are the batches. The model measures in evaluation
    mode, so dropout draws nothing.
    """

    remembered = ("points", "sums")

    def __init__(self, probes: Mapping[str, PlanDataset], *, every: int, step_size: float) -> None:
        if step_size <= 0 or every < 1:
            raise ConfigError(f"step_size={step_size}, every={every}; allowed: above 0, and at least 1")
        self.probes = dict(probes)
        self.every = every
        self.step_size = step_size
        self.points = 0
        self.sums: Affinity = {task: dict.fromkeys(probes, 0.0) for task in probes}

    @property
    def affinity(self) -> Affinity:
        """task of the step -> task of the loss -> mean over the points; NaN before the first."""
        return {
            task: {other: total / self.points if self.points else math.nan for other, total in row.items()}
            for task, row in self.sums.items()
        }

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
        if state.global_step % self.every:
            return
        model = self.trainer.accelerator.unwrap_model(model)
        batches = {name: self._batches(name) for name in self.probes}
        mode = model.training
        model.eval()
        found = lookahead(
            lambda task: self._loss(model, batches[task]),
            self.probes,
            shared_parameters(model),
            self.step_size,
        )
        model.train(mode)
        self.points += 1
        for task, row in found.items():
            for other, value in row.items():
                self.sums[task][other] += value

    def summary(self) -> dict[str, Any]:
        return {"points": self.points, "affinity": self.affinity}

    def _batches(self, task: str) -> list[MicroBatch]:
        probe = self.probes[task]
        step = probe[self.points % len(probe)]
        return [batch.to(self.trainer.args.device) for batch in step.micro_batches]

    def _loss(self, model: MultiTaskModel, batches: Sequence[MicroBatch]) -> Tensor:
        with self.trainer.compute_loss_context_manager():
            return task_loss(model, batches)


def task_loss(model: MultiTaskModel, batches: Sequence[MicroBatch]) -> Tensor:
    """One task's loss over a batch, before weighting, as the trainer counts it."""
    parts = {part.name: part.loss_weight for part in model.specs[batches[0].task].components}
    counted = {name: max(1, sum(batch.counts.get(name, 0) for batch in batches)) for name in parts}
    total = torch.zeros((), device=batches[0].input_ids.device)
    for batch in batches:
        sums = model.losses(batch, model(batch))
        total = total + sum(parts[name] * value / counted[name] for name, value in sums.items())
    return total


def shared_parameters(model: MultiTaskModel) -> list[Tensor]:
    """What trains and more than one task touches. Raises ConfigError where there is nothing."""
    found = [
        parameter
        for group in model.parameter_groups().values()
        for parameter in group.parameters
        if len(group.tasks) > 1 and parameter.requires_grad
    ]
    if not found:
        raise ConfigError(
            "no parameter is shared by several tasks; measure affinity under strategy=s2_shared"
        )
    return found
