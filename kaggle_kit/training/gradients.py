"""One task's gradient of what several tasks share, taken by hand as the trainer takes it.

gradients = [shared_gradient(model, batches) for _, batches in step.by_task()]
gram_matrix(gradients)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kaggle_kit.models.multitask import MultiTaskModel


def task_loss(model: MultiTaskModel, batches: Sequence[Any]) -> Tensor:
    """The loss of one task in one step: each component's mean over all that its micro-batches count."""
    parts = {part.name: part.loss_weight for part in model.specs[batches[0].task].components}
    counted = {name: max(1, sum(batch.counts.get(name, 0) for batch in batches)) for name in parts}
    sums = [model.losses(batch, model(batch)) for batch in batches]
    return sum(parts[name] * value / counted[name] for found in sums for name, value in found.items())


def shared_gradient(model: MultiTaskModel, batches: Sequence[Any]) -> list[Tensor | None]:
    """The task's gradient: a tensor per parameter that several tasks train, None where it does not reach.

    `batches` are all of the task's micro-batches of one step. Leaves `.grad` as it is.
    """
    shared = [
        p for group in model.parameter_groups().values() if len(group.tasks) > 1 for p in group.parameters
    ]
    return list(torch.autograd.grad(task_loss(model, batches), shared, allow_unused=True))
