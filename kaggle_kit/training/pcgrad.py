"""PCGrad on the shared parameters: one Gram matrix, one projection of coefficients, one combination.

    pcgrad = PCGradOptimizer(optimizer, {"shared": shared_parameters}, generator)
    leaves = pcgrad.leaves({"ner": ["shared"], "relations": ["shared"]})
    loss.backward()                 # of a model in which each task multiplies by its own leaves
    report = pcgrad.combine()       # .grad now holds the projected sum; then unscale, clip, step

Gradient surgery (Yu et al., NeurIPS 2020, arXiv 2001.06782, algorithm 1) lets every task's gradient
go through the others in a random order and lose the part that opposes them. Whatever is subtracted
is a multiple of another *original* gradient, so every projected gradient stays a linear combination
of the K originals, and its inner products follow from the K × K Gram matrix alone. The projection
therefore happens on K × K coefficients in float64, and the gradients are read twice, never copied.

A leaf is a stand-in for a parameter: the same memory, and a gradient of its own, which lies in the task's
row of one (tasks, values) matrix. Parameters are projected per group, over the tasks that reach the group;
private parameters are in no group, so they neither dilute the norms nor get another task's weight. The
method is positively homogeneous, so gradients may carry a loss scale, and weights on the task losses may
be applied before or after it with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.conflicts import ConflictReport, GroupConflicts, cosines_of, cosines_of_halves

Weigh = Callable[[Tensor, torch.Generator], Tensor]  # (K, K) Gram matrix -> (K,) factors
NO_PARTS: Mapping[str, Sequence[str]] = {}
BLOCK = 1 << 14  # terms per dot product: float32 is accurate over so many, and sums of blocks are float64


def gram_matrix(rows: Tensor | Sequence[Tensor]) -> Tensor:
    """Compute inner products of K gradients, (K, P) or K times (P,): (K, K), float64, on the CPU."""
    rows = rows if isinstance(rows, Tensor) else torch.stack(list(rows))
    whole = rows.shape[1] // BLOCK * BLOCK
    blocks = rows[:, :whole].unflatten(1, (-1, BLOCK)).transpose(0, 1)  # (blocks, K, BLOCK)
    rest = rows[:, whole:]
    gram = (rest @ rest.T).double() + (blocks @ blocks.mT).sum(0, dtype=torch.float64)
    return gram.cpu()  # the only synchronisation with the device


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


def surgery(gram: Tensor, generator: torch.Generator) -> Tensor:
    """Return the (K,) factors of the original gradients in the sum of the projected ones."""
    return project_coefficients(gram, generator).sum(dim=0)


class PCGradOptimizer:
    """Holds the tasks' gradients of the shared parameters and combines them once per step.

    `shared` names disjoint groups of parameters that `optimizer` moves; a group is projected over
    the tasks that reach it. The optimiser itself stays the caller's to step: loss scale, clipping
    and schedule act on the combined `.grad` as on any other. `generator` is a CPU generator and the
    only state between steps: a resumed run needs it to draw the same orders. `weigh` and `per_matrix` make
    it another method than PCGrad (`resolvers`).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        shared: Mapping[str, Iterable[Parameter]],
        generator: torch.Generator,
        *,
        weigh: Weigh = surgery,
        per_matrix: bool = False,
    ) -> None:
        groups = {name: list(parameters) for name, parameters in shared.items()}
        check_groups(optimizer, groups)
        self.groups = {name: GroupRows(parameters) for name, parameters in groups.items()}
        self.generator = generator
        self.weigh, self.per_matrix = weigh, per_matrix

    def leaves(
        self, reached: Mapping[str, Collection[str]], parts: Mapping[str, Sequence[str]] = NO_PARTS
    ) -> dict[str, dict[Parameter, Tensor]]:
        """Begin a step: return each task's stand-ins for the parameters of the groups that it reaches.

        What is accumulated in their `.grad` until `combine` is the task's gradient. A task with several
        `parts` has a gradient of each, named `task.part`: `turn_to` says which one the leaves gather.
        """
        found: dict[str, dict[Parameter, Tensor]] = {task: {} for task in reached}
        for name, group in self.groups.items():
            tasks = [task for task, names in reached.items() if name in names]
            group.begin({task: tuple(parts.get(task, ())) for task in tasks})
            for task, leaves in group.leaves.items():
                found[task] |= dict(zip(group.parameters, leaves, strict=True))
        return found

    def turn_to(self, part: int) -> None:
        """Let the leaves gather the gradient of their task's part of this number, where it has so many."""
        for group in self.groups.values():
            group.turn_to(part)

    def halve(self, tasks: Collection[str]) -> None:
        """Mark the middle of these tasks' batches, so that the report compares their halves.

        The gradients so far are copied to the CPU: K more of them would cost the GPU a smaller batch.
        """
        for group in self.groups.values():
            group.halved = [name for task in tasks for name in group.names_of.get(task, ())]
            group.first = group.of(group.halved).to("cpu", copy=True)

    def compare(self, task: str, losses: Mapping[str, Tensor]) -> None:
        """Note the cosines between the gradients of one task's losses, by component, before its backward.

        Costs one backward pass for each loss and leaves graph and `.grad` as they are. Nothing is projected
        within a task.
        """
        for group in self.groups.values():
            if task in group.leaves:
                rows = [group.gradient(task, loss) for loss in losses.values()]
                group.components[task] = cosines_of(list(losses), gram_matrix(rows), of_zero=torch.nan)

    @property
    def compared(self) -> set[str]:
        """The tasks whose components were compared in this step."""
        return {task for group in self.groups.values() for task in group.components}

    def combine(self) -> ConflictReport:
        """Project every group and leave the combined gradients in `.grad`; the leaves are of no more use.

        If a task's row is not finite, its whole group becomes NaN, so that a loss scaler skips the
        step instead of taking the unprojected sum; without a scaler, look at `report.nonfinite`.
        """
        groups: dict[str, GroupConflicts] = {}
        for name, group in self.groups.items():
            if group.names:
                gram = gram_matrix(group.rows)
                noted = (group.cosines_of_halves(), dict(group.components))
                weights = self._write(group, gram)
                groups[name] = GroupConflicts(tuple(group.names), gram, weights, *noted)
            group.begin({})
        return ConflictReport(groups)

    def _write(self, group: GroupRows, gram: Tensor) -> Tensor:
        """Leave the combined gradient; return the (K,) factors in it, of several matrices their mean."""
        finite = bool(gram.diagonal().isfinite().all())  # every comparison with NaN is false: no projection
        if not (self.per_matrix and finite):
            nan = torch.full((len(gram),), torch.nan, dtype=gram.dtype)
            weights = self.weigh(gram, self.generator) if finite else nan
            group.write([(0, group.rows.shape[1])], [weights])
            return weights
        grams = [gram_matrix(group.rows[:, start:stop]) for start, stop in group.bounds]
        factors = [self.weigh(one, self.generator) for one in grams]
        group.write(group.bounds, factors)
        return torch.stack(factors).mean(dim=0)


class GroupRows:
    """The gradients of one group of parameters, as rows of a matrix that every step uses again.

    There is a row for each task, or for each of a task's parts.
    """

    def __init__(self, parameters: list[Parameter]) -> None:
        self.parameters = parameters
        self.bounds = list(pairwise(accumulate((p.numel() for p in parameters), initial=0)))
        self._memory = torch.empty(0, 0)
        self._pieces: list[list[Tensor]] = []  # of each row of the memory, by parameter, in its shape
        self._stand_ins: dict[str, list[Tensor]] = {}
        self.begin({})

    def begin(self, parts: Mapping[str, Sequence[str]]) -> None:
        """Forget the last step: rows of zeros for the tasks' parts, and leaves whose `.grad` lies there."""
        self.names_of = {task: [f"{task}.{part}" for part in some] or [task] for task, some in parts.items()}
        self.names = [name for names in self.names_of.values() for name in names]
        self.halved = list[str]()
        self.first: Tensor | None = None
        self.components: dict[str, dict[str, float]] = {}
        if self.names:
            self._allot(len(self.names))
        self.rows = self._memory[: len(self.names)].zero_()  # (names, values)
        self.leaves = {task: self._leaves_of(task) for task in parts}
        self.turn_to(0)

    def turn_to(self, part: int) -> None:
        """Put every leaf's `.grad` into the row of its task's part of this number, where there is one."""
        for task, leaves in self.leaves.items():
            for name in self.names_of[task][part : part + 1]:
                for leaf, piece in zip(leaves, self._pieces[self.names.index(name)], strict=True):
                    leaf.grad = piece

    def of(self, names: Sequence[str]) -> Tensor:
        """Return a copy of these rows: (names, values)"""
        return self.rows[[self.names.index(name) for name in names]]

    def gradient(self, task: str, loss: Tensor) -> Tensor:
        """Return one loss's gradient of the task's leaves, on the CPU: (values,)"""
        leaves = self.leaves[task]
        if not loss.requires_grad:
            return torch.zeros(self.rows.shape[1])
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        return torch.cat([one.flatten().to("cpu") for one in torch.autograd.grad(loss, leaves, **options)])

    def cosines_of_halves(self) -> dict[str, list[float]]:
        """By pair of the halved tasks; empty on a step without halves."""
        if self.first is None or not self.halved:
            return {}
        spans = zip(self.first.split(BLOCK, 1), self.of(self.halved).split(BLOCK, 1), strict=True)
        grams = [gram_matrix(torch.cat([first.to(whole.device), whole])) for first, whole in spans]
        return cosines_of_halves(self.halved, torch.stack(grams).sum(0))

    def write(self, spans: Sequence[tuple[int, int]], weights: Sequence[Tensor]) -> None:
        """Set every parameter's `.grad` to a weighted sum of the rows, in the memory of the first one.

        Each span of values, [start, stop), has its own weights.
        """
        for (start, stop), factors in zip(spans, weights, strict=True):
            factors = factors.to(self.rows)
            total = self.rows[0, start:stop].mul_(factors[0])
            if len(factors) > 1:
                total.addmv_(self.rows[1:, start:stop].T, factors[1:])
        for parameter, piece in zip(self.parameters, self._pieces[0], strict=True):
            parameter.grad = piece

    def _allot(self, rows: int) -> None:
        """Have memory for so many rows where the parameters are."""
        some = self.parameters[0]
        if rows <= len(self._memory) and self._memory.device == some.device:
            return
        self._memory = some.new_empty(rows, self.bounds[-1][1])
        spans = list(zip(self.parameters, self.bounds, strict=True))
        self._pieces = [[row[start:stop].view(p.shape) for p, (start, stop) in spans] for row in self._memory]

    def _leaves_of(self, task: str) -> list[Tensor]:
        """Return the task's stand-ins; those of an earlier step while the parameters lie where they lay."""
        kept = self._stand_ins.get(task, [])
        places = [leaf.data_ptr() for leaf in kept]
        if places != [parameter.data_ptr() for parameter in self.parameters]:
            self._stand_ins[task] = kept = [p.detach().requires_grad_() for p in self.parameters]
        return kept


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
