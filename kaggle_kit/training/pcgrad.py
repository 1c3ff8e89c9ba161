"""PCGrad on the shared parameters: one Gram matrix, one projection of coefficients, one combination.

    pcgrad = PCGradOptimizer(optimizer, {"shared": shared_parameters}, generator)
    for task in tasks:
        loss(task).backward()           # as many micro-batches as the task has
        pcgrad.collect(task)
    report = pcgrad.combine()           # .grad now holds the projected sum; then unscale, clip, step

Gradient surgery (Yu et al., NeurIPS 2020, arXiv 2001.06782, algorithm 1) lets every task's gradient
go through the others in a random order and lose the part that opposes them. Whatever is subtracted
is a multiple of another *original* gradient, so every projected gradient stays a linear combination
of the K originals, and its inner products follow from the K × K Gram matrix alone. The projection
therefore happens on K × K coefficients in float64, and the gradients are read twice, never copied.

Parameters are projected per group, over the tasks that reach the group; private parameters are in no
group, so they neither dilute the norms nor get another task's weight. The method is positively
homogeneous, so gradients may carry a loss scale, and weights on the task losses may be applied
before or after it with the same result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from kaggle_kit.core.errors import ConfigError, KitError
from kaggle_kit.training.conflicts import ConflictReport, GroupConflicts, cosines_of, cosines_of_halves

Row = list[Tensor | None]  # one task's gradient of one group, None where the task does not reach

# Terms per dot product. A float32 sum is accurate over this many, and the sum of the blocks is float64;
# smaller blocks cost more in calls than they gain in precision (benchmarks/pcgrad.py).
BLOCK = 1 << 17


def gram_matrix(rows: Sequence[Row]) -> Tensor:
    """Compute inner products of K gradients, each a list of tensors: (K, K), float64, on the CPU.

    Where some are kept on the CPU, one parameter's at a time joins the last gradient's device.
    """
    products: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
    for column in zip(*rows, strict=True):  # one parameter, all tasks
        held = [(k, gradient) for k, gradient in enumerate(column) if gradient is not None]
        blocks = [(k, gradient.to(held[-1][1].device).reshape(-1).split(BLOCK)) for k, gradient in held]
        for (i, left), (j, right) in combinations_with_replacement(blocks, 2):
            products[i, j].extend(map(torch.dot, left, right))
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    if products:
        sums = torch.stack([torch.stack(dots).sum(dtype=torch.float64) for dots in products.values()])
        i, j = torch.tensor(list(products)).T
        gram[i, j] = gram[j, i] = sums.cpu()  # the only synchronisation with the device
    return gram


def project_coefficients(gram: Tensor, generator: torch.Generator) -> Tensor:
    """Project K gradients by PCGrad, in coefficient space.

    `gram` is the (K, K) float64 matrix of the gradients' inner products. Row i of the (K, K) result
    holds the projected gradient of task i as coefficients of the originals; the update is the sum
    of the rows. Draws one `torch.randperm(K)` per task.
    """
    coefficients = torch.eye(len(gram), dtype=gram.dtype)
    for i, projected in enumerate(coefficients):  # views: the rows are updated in place
        for j in torch.randperm(len(gram), generator=generator).tolist():
            inner = gram[j] @ projected  # <g_i^PC, g_j>, against the original g_j
            if j != i and inner < 0 and gram[j, j] > 0:
                projected[j] -= inner / gram[j, j]
    return coefficients


class PCGradOptimizer:
    """Holds the tasks' gradients of the shared parameters and combines them once per step.

    `shared` names disjoint groups of parameters that `optimizer` moves; a group is projected over
    the tasks that reach it. The optimiser itself stays the caller's to step: loss scale, clipping
    and schedule act on the combined `.grad` as on any other. `generator` is a CPU generator and the
    only state between steps: a resumed run needs it to draw the same orders.
    """

    def __init__(
        self, optimizer: Optimizer, shared: Mapping[str, Iterable[Parameter]], generator: torch.Generator
    ) -> None:
        self.shared = {name: list(parameters) for name, parameters in shared.items()}
        self.generator = generator
        self._rows: dict[str, dict[str, Row]] = {name: {} for name in self.shared}  # by group, task
        self._halves: dict[str, dict[str, Row]] = {name: {} for name in self.shared}
        self._components: dict[str, dict[str, dict[str, float]]] = {name: {} for name in self.shared}
        check_groups(optimizer, self.shared)

    def halve(self, task: str) -> None:
        """Mark the middle of `task`'s micro-batches, so that the report compares its halves with others'.

        The gradient so far is copied to the CPU: K more of them would cost the GPU a smaller batch.
        """
        for name, parameters in self.shared.items():
            self._halves[name][task] = [
                None if p.grad is None else p.grad.to("cpu", copy=True) for p in parameters
            ]

    def compare(self, task: str, losses: Mapping[str, Tensor]) -> None:
        """Note the cosines between the gradients of one task's losses, by component, before its backward.

        Costs one backward pass for each loss and leaves graph and `.grad` as they are. Nothing is projected
        within a task.
        """
        for name, parameters in self.shared.items():
            rows = [_gradient(loss, parameters) for loss in losses.values()]
            self._components[name][task] = cosines_of(list(losses), gram_matrix(rows), of_zero=torch.nan)

    def collect(self, task: str) -> None:
        """Move the shared gradients out of `.grad` into `task`'s rows, after its last backward."""
        for name, parameters in self.shared.items():
            row = [parameter.grad for parameter in parameters]
            if all(gradient is None for gradient in row):
                continue  # the task does not reach this group: no row, rather than a zero row
            if task in self._rows[name]:
                raise KitError(
                    f"task {task!r} was collected twice in one step; collect it once, after the "
                    "backward pass of its last micro-batch"
                )
            self._rows[name][task] = row
            for parameter in parameters:
                parameter.grad = None

    def combine(self) -> ConflictReport:
        """Project every group and leave the combined gradients in `.grad`.

        If a task's row is not finite, its whole group becomes NaN, so that a loss scaler skips the
        step instead of taking the unprojected sum; without a scaler, look at `report.nonfinite`.
        """
        groups: dict[str, GroupConflicts] = {}
        for name, rows in self._rows.items():
            if rows:
                gram = gram_matrix(list(rows.values()))
                weights = self._weights(gram)
                halves = self._compared_halves(name)  # before the rows' memory takes the combination
                write_combination(self.shared[name], list(rows.values()), weights.tolist())
                noted = (halves, dict(self._components[name]))
                groups[name] = GroupConflicts(tuple(rows), gram, weights, *noted)
            for kept in (rows, self._halves[name], self._components[name]):
                kept.clear()
        return ConflictReport(groups)

    def _compared_halves(self, name: str) -> dict[str, list[float]]:
        """By pair of halved tasks that reached the group."""
        firsts, rows = self._halves[name], self._rows[name]
        tasks = [task for task in firsts if task in rows]
        both = [firsts[task] for task in tasks] + [rows[task] for task in tasks]
        return cosines_of_halves(tasks, gram_matrix(both)) if tasks else {}

    def _weights(self, gram: Tensor) -> Tensor:
        """Return the (K,) factors of the original gradients in the update."""
        if not gram.diagonal().isfinite().all():  # every comparison with NaN is false: no projection
            return torch.full((len(gram),), torch.nan, dtype=gram.dtype)
        return project_coefficients(gram, self.generator).sum(dim=0)


def _gradient(loss: Tensor, parameters: Sequence[Parameter]) -> Row:
    """Return one loss's gradient on the CPU, None where it does not reach."""
    if not loss.requires_grad:
        return [None] * len(parameters)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [None if gradient is None else gradient.to("cpu") for gradient in found]


def write_combination(parameters: list[Parameter], rows: Sequence[Row], weights: list[float]) -> None:
    """Set every `.grad` to the weighted sum of its rows, in the memory of the first one."""
    for parameter, *column in zip(parameters, *rows, strict=True):
        held = [(gradient, w) for gradient, w in zip(column, weights, strict=True) if gradient is not None]
        if held:
            (total, first), *others = held
            total.mul_(first)
            for gradient, weight in others:
                total.add_(gradient, alpha=weight)
            parameter.grad = total


def check_groups(optimizer: Optimizer, shared: Mapping[str, list[Parameter]]) -> None:
    """Refuse groups that overlap or hold parameters the optimiser does not move."""
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    owner: dict[int, str] = {}
    for name, parameters in shared.items():
        for parameter in parameters:
            if id(parameter) in owner:
                raise ConfigError(
                    f"a parameter of shape {tuple(parameter.shape)} is in the PCGrad groups "
                    f"{owner[id(parameter)]!r} and {name!r}; put it in exactly one"
                )
            if id(parameter) not in moved:
                raise ConfigError(
                    f"the PCGrad group {name!r} holds a parameter of shape {tuple(parameter.shape)} that "
                    "the optimiser does not move; build the optimiser from the same list of parameters"
                )
            owner[id(parameter)] = name
