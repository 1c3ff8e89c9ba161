"""What a step on one task does to another task's loss: the lookahead affinity of TAG.

    watch = AffinityCallback(probes, every=10, step_size=0.01)
    trainer.add_callback(watch)                 # measures while the trainer trains, and leaves no trace
    watch.affinity["ner"]["relations"]          # 1 - L_relations(θ after a step on ner) / L_relations(θ)

Fifty, Amid, Zhao, Yu, Anil and Finn, NeurIPS 2021 (arXiv 2109.04617), eq. 1, with a plain gradient step on
the parameters that the tasks share, averaged over several points of a training.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerState

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.callbacks.base import StudyCallback
from kaggle_kit.training.gradients import shared_parameters, task_loss

SCALE = 1024.0  # on losses while their gradient is taken: float16 would lose the small ones

Affinity = dict[str, dict[str, float]]


def lookahead(
    loss: Callable[[str], Tensor], tasks: Iterable[str], shared: Sequence[Tensor], step_size: float
) -> Affinity:
    """Measure once: `loss(task)` at the parameters as they stand and after a step on each task.

    The shared parameters are put back bit for bit, and no `.grad` is touched. A task whose loss is 0 has
    nothing to gain: NaN.
    """
    tasks = list(tasks)
    originals = [parameter.detach().clone() for parameter in shared]
    with torch.no_grad():
        before = {task: loss(task).item() for task in tasks}
    affinity = {}
    for task in tasks:
        gradients = torch.autograd.grad(SCALE * loss(task), shared, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(shared, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(gradient, alpha=step_size / SCALE)
            after = {other: loss(other).item() for other in tasks}
            for parameter, value in zip(shared, originals, strict=True):
                parameter.copy_(value)
        affinity[task] = {o: 1 - after[o] / before[o] if before[o] else math.nan for o in tasks}
    return affinity


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
        points = self.points or math.nan
        return {
            task: {other: total / points for other, total in row.items()} for task, row in self.sums.items()
        }

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Measure the affinities on every `every`-th step and add them to the sums."""
        if state.global_step % self.every:
            return
        model = self.trainer.accelerator.unwrap_model(kwargs["model"])
        steps = {task: probe[self.points % len(probe)].to(args.device) for task, probe in self.probes.items()}

        def loss(task: str) -> Tensor:
            with self.trainer.compute_loss_context_manager():
                return task_loss(model, steps[task].micro_batches)

        mode = model.training
        model.eval()
        affinity = lookahead(loss, self.probes, shared_parameters(model), self.step_size)
        model.train(mode)
        self.points += 1
        for task, row in affinity.items():
            for other, value in row.items():
                self.sums[task][other] += value

    def summary(self) -> dict[str, Any]:
        """Return the number of measurements and the mean affinity of each pair of tasks."""
        return {"points": self.points, "affinity": self.affinity}
