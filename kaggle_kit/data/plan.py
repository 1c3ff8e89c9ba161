"""A training run as a plan: every optimiser step, its micro-batches, tasks and tokens, before it runs.

    plan = MultiTaskBatchSampler({"ner": TaskRows(lengths, groups)}, PlanSettings(...), seed=42).plan()
    plan.steps[0].micro_batches[0].rows, plan.tokens["ner"], plan.sha256

The plan is a pure function of the encoded rows, the settings and the seed (`data/sampler.py` draws it).
Token totals are known before training, a resumed run needs only the step number, and every sampling
strategy can be tested without a model.
"""

from __future__ import annotations

import hashlib
import json
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

    epochs: float = 5.0
    max_steps: int | None = None
    effective_batch: int = 16
    token_budget: int = 2048
    sampling: str = "proportional"
    temperature: float = 1.0
    target_tokens: int | None = None  # of all tasks together, met to the token whatever the epochs
    null_every: int | None = None  # every n-th step, one task in turn is halved for the conflict null
    part: tuple[float, float] = (0.0, 1.0)  # from where to where of the run's steps a phase goes

    @property
    def drawing(self) -> PlanSettings:
        """Those that say which rows each step reads; what only cuts a step into micro-batches is reset."""
        kept = self if self.sampling == "temperature" else replace(self, temperature=1.0)
        return replace(kept, token_budget=PlanSettings.token_budget, null_every=None)

    def __post_init__(self) -> None:
        if self.sampling not in SAMPLING:
            raise ConfigError(f"sampling is {self.sampling!r}; allowed: {', '.join(SAMPLING)}")
        for name in ("epochs", "effective_batch", "token_budget", "temperature"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.target_tokens is not None and self.target_tokens <= 0:
            raise ConfigError(f"target_tokens is {self.target_tokens}; it must be above 0")
        start, stop = self.part
        if not 0 <= start < stop <= 1:
            raise ConfigError(f"part is {self.part}; it must rise within 0 to 1, as (0, 0.5) does")


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
    """The whole run, or the part that a phase takes.

    As a sequence it is the dataset that the trainer iterates, one item a step.
    """

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

    @cached_property
    def steps_sha256(self) -> str:
        """Changes with any row or token of any step, and with nothing else: not with how the step is cut into
        micro-batches, which follows a GPU's memory and the conflict null."""
        digest = hashlib.sha256()
        for step in self.steps:
            rows = sorted((batch.task, row) for batch in step.micro_batches for row in batch.rows)
            digest.update(json.dumps([rows, sorted(step.tokens.items())]).encode())
        return digest.hexdigest()


def steps_per_epoch(plan: StepPlan, groups: Mapping[str, np.ndarray]) -> float:
    """Optimiser steps in which a plan draws as many groups as all its tasks hold: one pass over the data.

    `groups` are the group numbers of each task's rows, shape (rows,). Under any sampling but the proportional
    one a small task is passed more often in an epoch, a large one less, as with `PlanSettings.epochs`.
    """
    held = sum(len(np.unique(groups[task])) for task in plan.tasks)
    batches = (batch for step in plan.steps for batch in step.micro_batches)
    drawn = sum(len(np.unique(groups[batch.task][list(batch.rows)])) for batch in batches)
    return len(plan) * held / drawn


def _total(batches: Iterator[PlannedBatch] | Sequence[PlannedBatch]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for batch in batches:
        totals[batch.task] = totals.get(batch.task, 0) + batch.tokens
    return totals
