"""Draws a plan: which rows each optimiser step reads, and how they pack into micro-batches.

sampler = MultiTaskBatchSampler({"ner": TaskRows(lengths, groups)}, PlanSettings(...), seed=42)
plan = sampler.plan()
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from kaggle_kit.batches.pace import Draw, fill, follow
from kaggle_kit.batches.plan import PlannedBatch, PlannedStep, PlanSettings, StepPlan, TaskRows
from kaggle_kit.core.errors import ConfigError


class MultiTaskBatchSampler:
    """Draws groups task by task until each step is full, then packs them into micro-batches.

    Every task is a stream that passes over its own data in a fresh order each epoch. Which stream the
    next group comes from follows the sampling: in proportion to the data, uniformly, or in proportion
    to size ** (1 / temperature). The number of groups in a run is the same under each: `epochs` times
    all tasks' groups. A phase is a part of the run's steps, so phases that follow one another read
    together what a run without phases reads.
    """

    def __init__(self, tasks: Mapping[str, TaskRows], settings: PlanSettings, seed: int) -> None:
        if not tasks:
            raise ConfigError("a plan needs at least one task")
        self.tasks = dict(tasks)
        self.settings = settings
        self.seed = seed

    def plan(self) -> StepPlan:
        """Draw the plan of the run, or of the part that the settings name; each call draws the same one.

        Raises ConfigError where the part holds no step.
        """
        steps = self._steps()
        first, last = (math.ceil(share * len(steps)) for share in self.settings.part)
        if first == last:
            start, stop = self.settings.part
            raise ConfigError(
                f"the part from {start:g} to {stop:g} of a plan of {len(steps)} steps has none; raise "
                "training.epochs or training.max_steps, or lower training.effective_batch"
            )
        return StepPlan(tuple(steps[first:last]), self.settings, self.seed, tuple(self.tasks))

    def shares(self) -> dict[str, float]:
        """Return the probability with which the next group comes from each task."""
        sizes = {task: float(len(rows.bounds) - 1) for task, rows in self.tasks.items()}
        exponent = {"proportional": 1.0, "uniform": 0.0, "temperature": 1.0 / self.settings.temperature}
        weights = {task: size ** exponent[self.settings.sampling] for task, size in sizes.items()}
        return {task: weight / sum(weights.values()) for task, weight in weights.items()}

    def _steps(self) -> list[PlannedStep]:
        """Every step of the whole run."""
        settings = self.settings
        if settings.targets:
            steps = follow(self._draws(), settings.targets)
        else:
            steps = fill(self._draws(), settings.effective_batch, settings.target_tokens)
        return [self._step(draws, number) for number, draws in enumerate(islice(steps, settings.max_steps))]

    def _draws(self) -> Iterator[Draw]:
        """One group after the other in training order; without end where token targets will stop it."""
        sizes = {task: len(rows.bounds) - 1 for task, rows in self.tasks.items()}
        names, seeds = list(self.tasks), np.random.SeedSequence(self.seed).spawn(len(self.tasks) + 1)
        rng, *own = map(np.random.default_rng, seeds)
        streams = {name: _epochs(sizes[name], mine) for name, mine in zip(names, own, strict=True)}
        total = math.ceil(self.settings.epochs * sum(sizes.values()))
        while True:
            for number in self._task_order(total, rng):
                yield self._draw(names[number], next(streams[names[number]]))
            if self.settings.target_tokens is None and self.settings.targets is None:
                return

    def _draw(self, task: str, group: int) -> Draw:
        of = self.tasks[task]
        start, stop = of.bounds[group : group + 2]
        computed = self.settings.count == "computed" and self.settings.reads_once
        beginning = int(of.beginnings[start]) if computed and of.beginnings is not None else 0
        return Draw(task, tuple(range(start, stop)), tuple(of.lengths[start:stop].tolist()), beginning)

    def _task_order(self, total: int, rng: np.random.Generator) -> np.ndarray:
        """Task numbers of all draws: each task exactly its share, in random order."""
        exact = np.array([total * share for share in self.shares().values()])
        counts = np.floor(exact).astype(int)
        largest_remainders = np.argsort(counts - exact, kind="stable")[: total - counts.sum()]
        counts[largest_remainders] += 1
        return rng.permutation(np.repeat(np.arange(len(counts)), counts))

    def _step(self, draws: Sequence[Draw], number: int) -> PlannedStep:
        """The step's tasks in their order; every n-th step halves each of them that can be halved."""
        every, batches = self.settings.null_every, []
        for task in self.tasks:
            mine = [draw for draw in draws if draw.task == task]
            if not mine:
                continue
            rows, cut = [row for draw in mine for row in draw.rows], mine[-1].cut  # only the last is ever cut
            units = list(self._units(task, rows))
            if every and number % every == 0 and len(units) > 1:
                middle = _middle(units)  # groups come in random order, so any two halves are a random split
                batches += [replace(batch, half=0) for batch in self._pack(task, rows[:middle], cut=0)]
                batches += [replace(batch, half=1) for batch in self._pack(task, rows[middle:], cut)]
            else:
                batches += self._pack(task, rows, cut)
        return PlannedStep(tuple(batches))

    def _pack(self, task: str, rows: Sequence[int], cut: int) -> Iterator[PlannedBatch]:
        """Micro-batches of like size, as few as the budget allows, their rows by falling length.

        A group stays whole (a question with its candidates, whose margins compare them), so that the
        loss does not depend on the budget. The group of a row that is cut comes last.
        """
        of, budget = self.tasks[task], self.settings.token_budget
        units = list(self._units(task, rows))
        last = [units.pop()] if cut else []
        units = sorted(units, key=lambda unit: (-of.lengths[unit].max(), unit)) + last
        total = int(of.lengths[list(rows)].sum())
        share = total / math.ceil(total / budget)
        packs: list[list[list[int]]] = [[]]
        tokens = 0
        for unit in units:
            size = int(of.lengths[unit].sum())
            if packs[-1] and (tokens + size > budget or tokens >= share):
                packs.append([])
                tokens = 0
            packs[-1].append(unit)
            tokens += size
        for pack in packs:
            shortened = cut if pack is packs[-1] else 0
            yield PlannedBatch.of(task, pack, shortened, of, self.settings.reads_once)

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


def _epochs(groups: int, rng: np.random.Generator) -> Iterator[int]:
    """Group numbers, epoch after epoch, each in a fresh order."""
    while True:
        yield from (int(group) for group in rng.permutation(groups))


def _middle(units: Sequence[Sequence[int]]) -> int:
    """How many rows come before the boundary of units that halves them best; never none and never all."""
    ends = np.cumsum([len(unit) for unit in units])[:-1]
    return int(ends[np.abs(2 * ends - sum(map(len, units))).argmin()])
