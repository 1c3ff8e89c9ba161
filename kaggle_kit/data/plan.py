"""A training run as a plan: every optimiser step, its micro-batches, tasks and tokens, before it runs.

    sampler = MultiTaskBatchSampler({"ner": TaskRows(lengths, groups)}, PlanSettings(...), seed=42)
    plan = sampler.plan()
    plan.steps[0].micro_batches[0].rows, plan.tokens["ner"], plan.sha256

The plan is a pure function of the encoded rows, the settings and the seed. Token totals are known
before training, a resumed run needs only the step number, and every sampling strategy can be tested
without a model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

import numpy as np

from kaggle_kit.core.errors import ConfigError

SAMPLING = ("proportional", "uniform", "temperature")


@dataclass(frozen=True)
class PlanSettings:
    """`effective_batch` counts sequences per optimiser step; `token_budget` tokens per micro-batch.

    Only a group that is larger than the budget by itself makes a larger micro-batch.
    """

    epochs: float = 3.0
    max_steps: int | None = None
    effective_batch: int = 16
    token_budget: int = 2048
    sampling: str = "proportional"
    temperature: float = 1.0
    target_tokens: int | None = None  # of all tasks together, met to the token whatever the epochs
    null_every: int | None = None  # every n-th step, one task in turn is halved for the conflict null

    def __post_init__(self) -> None:
        if self.sampling not in SAMPLING:
            raise ConfigError(f"sampling is {self.sampling!r}; allowed: {', '.join(SAMPLING)}")
        for name in ("epochs", "effective_batch", "token_budget", "temperature"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.target_tokens is not None and self.target_tokens <= 0:
            raise ConfigError(f"target_tokens is {self.target_tokens}; it must be above 0")


@dataclass(frozen=True)
class TaskRows:
    """What the plan must know of a task: the length of every row and which rows stay together."""

    lengths: np.ndarray  # (rows,) tokens
    groups: np.ndarray  # (rows,) non-decreasing group numbers

    @cached_property
    def longest_group(self) -> int:
        """Tokens of the largest group, which no micro-batch divides."""
        return int(np.add.reduceat(self.lengths, self.bounds[:-1]).max())

    @cached_property
    def bounds(self) -> np.ndarray:
        """(groups + 1,) first row of each group, then the number of rows."""
        starts = np.flatnonzero(np.diff(self.groups, prepend=self.groups[:1] - 1))
        return np.append(starts, len(self.groups))


@dataclass(frozen=True)
class PlannedBatch:
    """Rows of one task that pass through the model together, longest first.

    `cut` is how many tokens are taken off the end of the last row: only the very last sequence of a
    token-controlled run is ever cut, so that the run ends on its target to the token. `half` is 0 or 1
    where the step splits this task's rows at random, to see how often one task conflicts with itself.
    """

    task: str
    rows: tuple[int, ...]
    tokens: int
    cut: int = 0
    half: int | None = None


@dataclass(frozen=True)
class PlannedStep:
    """One optimiser step."""

    micro_batches: tuple[PlannedBatch, ...]

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Real tokens of the step, per task."""
        return _total(self.micro_batches)


@dataclass(frozen=True)
class StepPlan:
    """The whole run. As a sequence it is the dataset that the trainer iterates, one item a step."""

    steps: tuple[PlannedStep, ...]
    settings: PlanSettings
    seed: int
    tasks: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.steps)

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Real tokens of the run, per task."""
        totals = dict.fromkeys(self.tasks, 0)
        totals.update(_total(batch for step in self.steps for batch in step.micro_batches))
        return totals

    @cached_property
    def sha256(self) -> str:
        """Changes with any step, row, setting or the seed."""
        digest = hashlib.sha256(json.dumps([asdict(self.settings), self.seed]).encode())
        for step in self.steps:
            for batch in step.micro_batches:
                digest.update(f"{batch.task}:{batch.rows}:{batch.tokens}:{batch.cut}:{batch.half};".encode())
            digest.update(b"|")
        return digest.hexdigest()


def _total(batches: Iterator[PlannedBatch] | Sequence[PlannedBatch]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for batch in batches:
        totals[batch.task] = totals.get(batch.task, 0) + batch.tokens
    return totals


class MultiTaskBatchSampler:
    """Draws groups task by task until each step is full, then packs them into micro-batches.

    Every task is a stream that passes over its own data in a fresh order each epoch. Which stream the
    next group comes from follows the sampling: in proportion to the data, uniformly, or in proportion
    to size ** (1 / temperature). The number of groups in a run is the same under each: `epochs` times
    all tasks' groups.
    """

    def __init__(self, tasks: Mapping[str, TaskRows], settings: PlanSettings, seed: int) -> None:
        if not tasks:
            raise ConfigError("a plan needs at least one task")
        self.tasks = dict(tasks)
        self.settings = settings
        self.seed = seed

    def plan(self) -> StepPlan:
        """The run's plan; calling it again gives the same one."""
        target = self.settings.target_tokens or math.inf
        steps: list[PlannedStep] = []
        drawn: dict[str, list[int]] = {}
        sequences = tokens = 0
        cuts: dict[str, int] = {}  # of the task whose sequence is the last of all
        for task, group in self._draws():
            rows, cut = self._fit(task, group, target - tokens)
            cuts[task] = cut
            drawn.setdefault(task, []).extend(rows)
            sequences += len(rows)
            tokens += int(self.tasks[task].lengths[rows].sum()) - cut
            if sequences >= self.settings.effective_batch or tokens == target:
                steps.append(self._step(drawn, cuts, number=len(steps)))
                drawn, sequences = {}, 0
            if tokens == target or len(steps) == self.settings.max_steps:
                break
        if drawn:
            steps.append(self._step(drawn, cuts, number=len(steps)))
        return StepPlan(tuple(steps), self.settings, self.seed, tuple(self.tasks))

    def shares(self) -> dict[str, float]:
        """The probability with which the next group comes from each task."""
        sizes = {task: float(len(rows.bounds) - 1) for task, rows in self.tasks.items()}
        exponent = {"proportional": 1.0, "uniform": 0.0, "temperature": 1.0 / self.settings.temperature}
        weights = {task: size ** exponent[self.settings.sampling] for task, size in sizes.items()}
        return {task: weight / sum(weights.values()) for task, weight in weights.items()}

    def _draws(self) -> Iterator[tuple[str, int]]:
        """(task, group) in training order; without end where a token target will stop it."""
        sizes = {task: len(rows.bounds) - 1 for task, rows in self.tasks.items()}
        names, children = list(self.tasks), np.random.SeedSequence(self.seed).spawn(len(self.tasks) + 1)
        streams = {
            name: _epochs(sizes[name], np.random.default_rng(child))
            for name, child in zip(names, children[1:], strict=True)
        }
        total, rng = math.ceil(self.settings.epochs * sum(sizes.values())), np.random.default_rng(children[0])
        while True:
            for number in self._task_order(total, rng):
                yield names[number], next(streams[names[number]])
            if self.settings.target_tokens is None:
                return

    def _fit(self, task: str, group: int, left: float) -> tuple[list[int], int]:
        """The group's rows as far as `left` tokens reach, and the tokens to cut off the last of them."""
        rows = list(range(*self.tasks[task].bounds[group : group + 2]))
        ends = np.cumsum(self.tasks[task].lengths[rows])
        if ends[-1] <= left:
            return rows, 0
        kept = int(np.searchsorted(ends, left)) + 1
        return rows[:kept], int(ends[kept - 1] - left)

    def _task_order(self, total: int, rng: np.random.Generator) -> np.ndarray:
        """Task numbers of all draws: each task exactly its share, in random order."""
        exact = np.array([total * share for share in self.shares().values()])
        counts = np.floor(exact).astype(int)
        largest_remainders = np.argsort(counts - exact, kind="stable")[: total - counts.sum()]
        counts[largest_remainders] += 1
        return rng.permutation(np.repeat(np.arange(len(counts)), counts))

    def _step(self, drawn: Mapping[str, Sequence[int]], cuts: Mapping[str, int], number: int) -> PlannedStep:
        """The step's tasks in their order, but the halved one first: its extra gradient is gone by then."""
        present = [task for task in self.tasks if task in drawn]
        units = {task: list(self._units(task, drawn[task])) for task in present}
        halved = self._halved(number, [task for task in present if len(units[task]) > 1])
        batches: list[PlannedBatch] = []
        for task in sorted(present, key=lambda task: task != halved):
            rows, cut = drawn[task], cuts[task]
            if task == halved:  # groups come in random order, so any two halves are a random split
                middle = _middle(units[task])
                batches += [replace(batch, half=0) for batch in self._pack(task, rows[:middle], cut=0)]
                batches += [replace(batch, half=1) for batch in self._pack(task, rows[middle:], cut)]
            else:
                batches += self._pack(task, rows, cut)
        return PlannedStep(tuple(batches))

    def _halved(self, number: int, candidates: Sequence[str]) -> str | None:
        every = self.settings.null_every
        if every is None or number % every or not candidates:
            return None
        return candidates[number // every % len(candidates)]

    def _pack(self, task: str, rows: Sequence[int], cut: int) -> Iterator[PlannedBatch]:
        """Micro-batches of like size, as few as the budget allows, their rows by falling length.

        A group stays whole (a question with its candidates, whose margins compare them), so that the
        loss does not depend on the budget. The group of a row that is cut comes last.
        """
        lengths = self.tasks[task].lengths
        units = list(self._units(task, rows))
        last = [units.pop()] if cut else []
        units = sorted(units, key=lambda unit: (-lengths[unit].max(), unit)) + last
        total = int(lengths[list(rows)].sum())
        share = total / math.ceil(total / self.settings.token_budget)
        batch: list[int] = []
        tokens = 0
        for unit in units:
            size = int(lengths[unit].sum())
            if batch and (tokens + size > self.settings.token_budget or tokens >= share):
                yield self._batch(task, batch)
                batch, tokens = [], 0
            batch += unit
            tokens += size
        yield self._batch(task, batch, cut)

    def _units(self, task: str, rows: Sequence[int]) -> Iterator[list[int]]:
        """The rows, group by group; a group that was drawn twice in a row is two."""
        groups = self.tasks[task].groups
        unit: list[int] = []
        for row in rows:
            if unit and (groups[row] != groups[unit[-1]] or row <= unit[-1]):
                yield unit
                unit = []
            unit.append(row)
        yield unit

    def _batch(self, task: str, rows: Sequence[int], cut: int = 0) -> PlannedBatch:
        lengths = self.tasks[task].lengths
        whole, shortened = (rows[:-1], rows[-1:]) if cut else (rows, [])
        ordered = [*sorted(whole, key=lambda row: (-lengths[row], row)), *shortened]
        return PlannedBatch(task, tuple(ordered), int(lengths[ordered].sum()) - cut, cut)


def _epochs(groups: int, rng: np.random.Generator) -> Iterator[int]:
    """Group numbers, epoch after epoch, each in a fresh order."""
    while True:
        yield from (int(group) for group in rng.permutation(groups))


def _middle(units: Sequence[Sequence[int]]) -> int:
    """How many rows come before the boundary of units that halves them best; never none and never all."""
    ends = np.cumsum([len(unit) for unit in units])[:-1]
    return int(ends[np.abs(2 * ends - sum(map(len, units))).argmin()])
