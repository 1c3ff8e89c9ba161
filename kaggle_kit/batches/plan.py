"""A training run as a plan: every optimiser step, its micro-batches, tasks and tokens, before it runs.

    plan = MultiTaskBatchSampler({"ner": TaskRows(lengths, groups)}, PlanSettings(...), seed=42).plan()
    plan.steps[0].micro_batches[0].rows, plan.tokens["ner"], plan.sha256

The plan is a pure function of the encoded rows, the settings and the seed (`batches/sampler.py` draws it).
Token totals are known before training, a resumed run needs only the step number, and every sampling
strategy can be tested without a model.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

import numpy as np

from kaggle_kit.batches.pace import StepTargets
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import WHOLE, Prefix

MIN_SHARED_TOKENS = 8  # a shorter beginning is not worth the sharing
COUNTS = ("presented", "computed")  # what a target counts: every token of a sequence, or those read anew


@dataclass(frozen=True)
class PlanSettings:
    """`effective_batch` counts sequences per optimiser step; `token_budget` tokens per micro-batch.

    Only a group that is larger than the budget by itself makes a larger micro-batch.
    """

    epochs: float = 5.0
    max_steps: int | None = None
    effective_batch: int = 16
    token_budget: int = 2048
    sampling: str = "proportional"  # proportional | uniform | temperature
    temperature: float = 1.0
    target_tokens: int | None = None  # of all tasks together, met to the token whatever the epochs
    targets: StepTargets | None = None  # the same for every step, whatever epochs and effective batch
    count: str = "presented"  # which tokens the targets count
    reads_once: bool = False  # whether the model computes the common beginning of a group once (causal)
    null_every: int | None = None  # every n-th step, every task is halved for the conflict null
    part: tuple[float, float] = (0.0, 1.0)  # from where to where of the run's steps a phase goes

    @property
    def drawing(self) -> PlanSettings:
        """Keep the settings that choose each step's rows; reset those that cut a step into micro-batches."""
        settings = self if self.sampling == "temperature" else replace(self, temperature=1.0)
        return replace(settings, token_budget=PlanSettings.token_budget, null_every=None)

    def __post_init__(self) -> None:
        if self.targets and (self.max_steps or self.target_tokens):
            raise ConfigError(
                f"targets fix {len(self.targets)} steps and {self.targets.total:,} tokens, but max_steps is "
                f"{self.max_steps} and target_tokens {self.target_tokens}; leave both out"
            )


@dataclass(frozen=True)
class TaskRows:
    """What the plan must know of a task: the length of every row and which rows stay together.

    The rows of a group begin with the same `beginnings[row]` tokens: a question, before its candidates.
    """

    lengths: np.ndarray  # (rows,) tokens
    groups: np.ndarray  # (rows,) non-decreasing group numbers
    beginnings: np.ndarray | None = None  # (rows,) tokens, equal within a group; none: nothing in common

    @cached_property
    def longest_group(self) -> int:
        """Return the tokens of the largest group, which no micro-batch divides."""
        return int(np.add.reduceat(self.lengths, self.bounds[:-1]).max())

    @cached_property
    def bounds(self) -> np.ndarray:
        """Return the first row of each group, then the number of rows, shape (groups + 1,)."""
        starts = np.flatnonzero(np.diff(self.groups, prepend=self.groups[:1] - 1))
        return np.append(starts, len(self.groups))


@dataclass(frozen=True)
class PlannedBatch:
    """Rows of one task that pass through the model together, longest first.

    `cut` is how many tokens are taken off the end of the last row, so that a token-controlled run meets its
    target to the token. `shared` of the tokens are computed once for several rows. `half` is 0 or 1
    where the step splits its tasks' rows at random, to see how often one task conflicts with itself.
    """

    task: str
    rows: tuple[int, ...]
    tokens: int
    cut: int = 0
    half: int | None = None
    shared: int = 0
    units: tuple[int, ...] = ()  # a number per row, alike for rows drawn together; none: as the groups

    @classmethod
    def of(
        cls, task: str, units: Sequence[Sequence[int]], cut: int, of: TaskRows, reads_once: bool
    ) -> PlannedBatch:
        """Sort the rows of some units by falling length; a row that is cut stays the last."""
        numbered = [(row, number) for number, unit in enumerate(units) for row in unit]
        whole, shortened = (numbered[:-1], numbered[-1:]) if cut else (numbered, [])
        ordered = [*sorted(whole, key=lambda one: (-of.lengths[one[0]], one[0])), *shortened]
        rows, unit_of = zip(*ordered, strict=True)
        lengths = of.lengths[list(rows)]
        lengths[-1] -= cut
        batch = cls(task, rows, int(lengths.sum()), cut)
        if of.beginnings is None:
            return batch
        prefixes = shared_prefixes(unit_of, of.beginnings[list(rows)], lengths) if reads_once else ()
        return replace(batch, shared=sum(prefix.tokens for prefix in prefixes), units=unit_of)


@dataclass(frozen=True)
class PlannedStep:
    """One optimiser step."""

    micro_batches: tuple[PlannedBatch, ...]

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Count the step's tokens, per task."""
        return self.counted(COUNTS[0])

    def counted(self, count: str) -> dict[str, int]:
        """Count the step's tokens, per task: all that are `presented`, or those that are `computed`."""
        totals: Counter[str] = Counter()
        for batch in self.micro_batches:
            totals[batch.task] += batch.tokens - (batch.shared if count == COUNTS[1] else 0)
        return dict(totals)


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
        """Count the run's tokens, per task."""
        return self.counted(COUNTS[0])

    def counted(self, count: str) -> dict[str, int]:
        """Count the run's tokens, per task: all that are `presented`, or those that are `computed`."""
        totals = Counter(dict.fromkeys(self.tasks, 0))
        for step in self.steps:
            totals.update(step.counted(count))
        return dict(totals)

    @cached_property
    def sha256(self) -> str:
        """Hash the plan: every step and row, the settings and the seed."""
        digest = hashlib.sha256(json.dumps([asdict(self.settings), self.seed]).encode())
        for step in self.steps:
            for batch in step.micro_batches:
                digest.update(f"{batch.task}:{batch.rows}:{batch.tokens}:{batch.cut}:{batch.half};".encode())
            digest.update(b"|")
        return digest.hexdigest()

    @cached_property
    def steps_sha256(self) -> str:
        """Hash the rows and tokens of each step alone.

        How a step is cut into micro-batches follows a GPU's memory and the conflict null, and is left out.
        """
        digest = hashlib.sha256()
        for step in self.steps:
            rows = sorted((batch.task, row) for batch in step.micro_batches for row in batch.rows)
            digest.update(json.dumps([rows, sorted(step.tokens.items())]).encode())
        return digest.hexdigest()


def steps_per_epoch(plan: StepPlan, groups: Mapping[str, np.ndarray]) -> float:
    """Return the optimiser steps in which a plan draws as many groups as all its tasks hold: one pass.

    `groups` are the group numbers of each task's rows, shape (rows,). Under any sampling but the proportional
    one a small task is passed more often in an epoch, a large one less, as with `PlanSettings.epochs`.
    """
    total = sum(len(np.unique(groups[task])) for task in plan.tasks)
    batches = (batch for step in plan.steps for batch in step.micro_batches)
    draws = sum(len(np.unique(groups[batch.task][list(batch.rows)])) for batch in batches)
    return len(plan) * total / draws


def shared_prefixes(
    units: Sequence[int], beginnings: Sequence[int] | np.ndarray, lengths: Sequence[int] | np.ndarray
) -> tuple[Prefix, ...]:
    """Return for each row of a batch the beginning that it shares with the first row of its unit there.

    `units` are numbers, one a row: rows of one number were drawn together from one group. A row that is
    cut within the beginning shares less of it.
    """
    first: dict[int, int] = {}
    prefixes = []
    for number, unit in enumerate(units):
        of = first.setdefault(unit, number)
        tokens = min(beginnings[number], lengths[number] - 1, lengths[of])
        prefixes.append(Prefix(of, int(tokens)) if of != number and tokens >= MIN_SHARED_TOKENS else WHOLE)
    return tuple(prefixes)
