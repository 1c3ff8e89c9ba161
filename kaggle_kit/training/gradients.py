"""What several tasks share, and one task's loss and gradient of it, taken by hand as the trainer takes them.

gradients = [shared_gradient(model, batches) for _, batches in step.by_task()]
gram_matrix(gradients)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from kaggle_kit.batches.batch import MicroBatch
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.multitask import MultiTaskModel


def component_counts(model: MultiTaskModel, batches: Sequence[MicroBatch]) -> dict[str, int]:
    """Return how many things each component's loss is a mean over, in all of one task's micro-batches."""
    names = [part.name for part in model.specs[batches[0].task].components]
    return {name: max(1, sum(batch.counts.get(name, 0) for batch in batches)) for name in names}


def component_losses(model: MultiTaskModel, batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
    """Return each component's mean loss over all that one task's micro-batches count, not weighted."""
    counted = component_counts(model, batches)
    sums: dict[str, list[Tensor]] = defaultdict(list)
    for batch in batches:
        for name, loss in model.losses(batch, model(batch)).items():
            sums[name].append(loss)
    return {name: torch.stack(several).sum() / counted[name] for name, several in sums.items()}


def task_loss(model: MultiTaskModel, batches: Sequence[MicroBatch]) -> Tensor:
    """Return the loss of one task in one step: its components' losses under their weights."""
    weights = {part.name: part.loss_weight for part in model.specs[batches[0].task].components}
    losses = component_losses(model, batches)
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def shared_groups(model: MultiTaskModel) -> dict[str, list[Parameter]]:
    """Return what trains of each group that more than one task touches, by the group's name."""
    groups = model.parameter_groups().items()
    touched = {name: group.parameters for name, group in groups if len(group.tasks) > 1}
    shared = {name: [p for p in parameters if p.requires_grad] for name, parameters in touched.items()}
    return {name: parameters for name, parameters in shared.items() if parameters}


def shared_parameters(model: MultiTaskModel) -> list[Parameter]:
    """Return what trains and more than one task touches. Raises ConfigError where there is nothing."""
    found = [parameter for parameters in shared_groups(model).values() for parameter in parameters]
    if not found:
        raise ConfigError("no parameter is shared by several tasks; take a strategy that shares: s2_shared")
    return found


def shared_gradient(model: MultiTaskModel, batches: Sequence[MicroBatch]) -> list[Tensor | None]:
    """Return the task's gradient: a tensor per shared parameter, None where the task does not reach.

    `batches` are all of the task's micro-batches of one step. Leaves `.grad` as it is.
    """
    shared = shared_parameters(model)
    return list(torch.autograd.grad(task_loss(model, batches), shared, allow_unused=True))
