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


def component_losses(model: MultiTaskModel, batches: Sequence[Any]) -> dict[str, Tensor]:
    """Each component's mean loss over all that one task's micro-batches count, before it is weighted."""
    counted = {
        part.name: max(1, sum(batch.counts.get(part.name, 0) for batch in batches))
        for part in model.specs[batches[0].task].components
    }
    sums = [model.losses(batch, model(batch)) for batch in batches]
    return {
        name: torch.stack([found[name] for found in sums if name in found]).sum() / count
        for name, count in counted.items()
        if any(name in found for found in sums)
    }


def task_loss(model: MultiTaskModel, batches: Sequence[Any]) -> Tensor:
    """The loss of one task in one step: its components' losses under their weights."""
    weights = {part.name: part.loss_weight for part in model.specs[batches[0].task].components}
    losses = component_losses(model, batches)
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def shared_gradient(model: MultiTaskModel, batches: Sequence[Any]) -> list[Tensor | None]:
    """The task's gradient: a tensor per parameter that several tasks train, None where it does not reach.

    `batches` are all of the task's micro-batches of one step. Leaves `.grad` as it is.
    """
    shared = [
        p for group in model.parameter_groups().values() if len(group.tasks) > 1 for p in group.parameters
    ]
    return list(torch.autograd.grad(task_loss(model, batches), shared, allow_unused=True))
