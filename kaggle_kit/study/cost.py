"""What a study costs, and what leaving something out saves: arithmetic on runs, nothing else.

    bill = total(costs, limits)
    bill.hours, bill.weeks; savings(costs, limits)["model llama8b"]

Tokens and rates come from elsewhere (`prediction`); everything here is a pure function of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kaggle_kit.core.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """What the machine's owner allows."""

    weekly_gpu_hours: float = 30.0
    sessions_at_once: int = 2
    session_hours: float = 11.5
    runs_per_session: int = 1  # 2 where two runs share a session, one GPU each


@dataclass(frozen=True)
class RunCost:
    """One run: real tokens, the rate at which they are trained, what it needs, what it belongs to.

    Of each group in `needs` at least one run has to be there: S5 chooses among the seeds that there are.
    `overhead_hours` is what each of its sessions takes beside training. `labels` name whatever could be
    left out with it, such as `model gemma2b` or `seed 3`.
    """

    id: str
    tokens: float
    tokens_per_second: float
    overhead_hours: float = 0.0
    needs: tuple[tuple[str, ...], ...] = ()
    labels: tuple[str, ...] = ()
    on_gpu: bool = True

    @property
    def training_hours(self) -> float:
        return self.tokens / self.tokens_per_second / 3600


@dataclass(frozen=True)
class Bill:
    """Sums over runs. `weeks` is the longer of what the quota and what the sessions at once allow."""

    runs: int
    tokens: float
    hours: float
    sessions: int
    weeks: float


def sessions_of(run: RunCost, limits: Limits) -> int:
    """A run that outlasts a session goes on in the next one; each session pays for its start again.

    ConfigError where a session's start leaves no time to train.
    """
    left = limits.session_hours - run.overhead_hours
    if left <= 0:
        raise ConfigError(
            f"{run.id}: a session takes {run.overhead_hours:.2f} h beside training, and limits.session_hours "
            f"is {limits.session_hours:g}; raise that in params/cost/, or plan without the runs folder where "
            "this was measured (--runs-dir)"
        )
    return max(1, math.ceil(run.training_hours / left))


def hours_of(run: RunCost, limits: Limits) -> float:
    return run.training_hours + sessions_of(run, limits) * run.overhead_hours


def total(runs: Iterable[RunCost], limits: Limits) -> Bill:
    """The bill of different runs. Only those on a GPU need Kaggle weeks."""
    different = {run.id: run for run in runs}.values()
    hours = sum(hours_of(run, limits) for run in different)
    quota = sum(hours_of(run, limits) for run in different if run.on_gpu) / limits.runs_per_session
    weeks = max(quota / limits.weekly_gpu_hours, quota / limits.sessions_at_once / (7 * 24))
    sessions = sum(sessions_of(run, limits) for run in different)
    return Bill(len(different), sum(run.tokens for run in different), hours, sessions, weeks)


def without(runs: Sequence[RunCost], label: str) -> list[RunCost]:
    """The runs that are left when everything of that label goes, and with it whatever needs it."""
    gone = {run.id for run in runs if label in run.labels}
    while more := {run.id for run in runs if run.id not in gone and any(gone >= set(n) for n in run.needs)}:
        gone |= more
    return [run for run in runs if run.id not in gone]


def savings(runs: Sequence[RunCost], limits: Limits) -> dict[str, Bill]:
    """For each label, the difference that leaving it out makes: what only it needs."""
    whole, saved = total(runs, limits), {}
    for label in dict.fromkeys(label for run in runs for label in run.labels):
        left = total(without(runs, label), limits)
        saved[label] = Bill(
            whole.runs - left.runs,
            whole.tokens - left.tokens,
            whole.hours - left.hours,
            whole.sessions - left.sessions,
            whole.weeks - left.weeks,
        )
    return saved
