"""What several tasks share, which micro-batches are read together, and one task's loss and gradient by hand.

gradients = [shared_gradient(model, batches) for _, batches in step.by_task()]
gram_matrix(gradients)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from kaggle_kit.batches.batch import MicroBatch
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.multitask import MultiTaskModel


@dataclass(frozen=True)
class TaskTotals:
    """What one task's losses of a step are means over: all that its micro-batches count, and their tokens."""

    counted: Mapping[str, int]  # component -> things
    tokens: int

    @classmethod
    def of(cls, model: MultiTaskModel, batches: Sequence[MicroBatch]) -> TaskTotals:
        """Add up all of one task's micro-batches of one step."""
        names = [part.name for part in model.specs[batches[0].task].components]
        counted = {name: max(1, sum(batch.counts.get(name, 0) for batch in batches)) for name in names}
        return cls(counted, sum(batch.tokens for batch in batches))


def batch_losses(
    model: MultiTaskModel, batch: MicroBatch, states: Mapping[int, Tensor], totals: TaskTotals
) -> dict[str, Tensor]:
    """Return the micro-batch's part of each component's mean loss over the step, not weighted."""
    sums = model.losses(batch, model.logits(batch, states))
    return {name: loss / totals.counted[name] for name, loss in sums.items()}


def component_losses(model: MultiTaskModel, batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
    """Return each component's mean loss over all that one task's micro-batches count, not weighted."""
    totals = TaskTotals.of(model, batches)
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for batch in batches:
        for name, loss in batch_losses(model, batch, model.states(batch), totals).items():
            parts[name].append(loss)
    return {name: torch.stack(several).sum() for name, several in parts.items()}


def task_loss(model: MultiTaskModel, batches: Sequence[MicroBatch]) -> Tensor:
    """Return the loss of one task in one step: its components' losses under their weights."""
    return weighted_sum(model, batches[0].task, component_losses(model, batches))


def weighted_sum(model: MultiTaskModel, task: str, losses: Mapping[str, Tensor]) -> Tensor:
    """Add up the losses of a task's components under their weights."""
    weights = {part.name: part.loss_weight for part in model.specs[task].components}
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def read_together(
    model: MultiTaskModel, batches: Sequence[MicroBatch], token_budget: int
) -> list[list[MicroBatch]]:
    """Put micro-batches of one kind into rows of at most `token_budget` tokens, first halves first.

    A backbone that reads padded rows reads each by itself. So is a first half of a task whose components'
    gradients are to be compared.
    """
    rows: list[list[MicroBatch]] = []
    open_row: dict[Hashable, list[MicroBatch]] = {}
    for batch in sorted(batches, key=lambda batch: batch.half or 0):
        alone = batch.half == 0 and len(model.specs[batch.task].components) > 1
        kind = (batch.half, model.row_kind(batch.task))
        row = open_row.get(kind, [])
        fits = sum(other.tokens for other in row) + batch.tokens <= token_budget
        if row and fits and model.reader.packs and not alone:
            row.append(batch)
            continue
        rows.append([batch])
        if not alone:
            open_row[kind] = rows[-1]
    return rows


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


def shared_gradient(model: MultiTaskModel, batches: Sequence[MicroBatch]) -> Tensor:
    """Return the task's gradient of all shared parameters, zero where it does not reach: (values,)

    `batches` are all of the task's micro-batches of one step. Leaves `.grad` as it is.
    """
    shared = shared_parameters(model)
    found = torch.autograd.grad(task_loss(model, batches), shared, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])
