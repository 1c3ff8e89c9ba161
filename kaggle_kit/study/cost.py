"""`study plan`: hours and Kaggle weeks of a selection, what it can show, and what can be saved.

    print(predict("full", [], Path("runs")))
    bill = total(run_costs(study, known), limits)    # bill.hours, bill.weeks

Tokens and rates are those of `throughput`; what follows from them is arithmetic.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_kit.core.artifacts import find_runs
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.study.graph import KINDS, Study, StudyRun
from kaggle_kit.study.power import reach
from kaggle_kit.study.spec import PLACEBO, SHARE, load_selection
from kaggle_kit.study.status import DONE, states
from kaggle_kit.study.throughput import KNOWN, CostTable, Known, read_table, sources

COLUMNS = f"{'':34}{'runs':>7}{'Mtokens':>10}{'%s-hours':>12}{'sessions':>10}{'weeks':>8}"
ORDER = ("model", "strategy", "ablation", "control", "seed")  # of what can be left out


@dataclass(frozen=True)
class Limits:
    """What the machine's owner allows."""

    weekly_gpu_hours: float = 30.0
    sessions_at_once: int = 2
    session_hours: float = 11.5
    runs_per_session: int = 1  # 2 where two runs share a session, one GPU each

    @classmethod
    def of(cls, table: CostTable) -> "Limits":
        """Read the limits off the table of costs."""
        values: dict[str, Any] = {name: figure.value for name, figure in table.limits.items()}
        return cls(**values)


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

    def sessions(self, limits: Limits) -> int:
        """How many it takes: a run goes on in the next one. ConfigError where its start leaves no time."""
        left = limits.session_hours - self.overhead_hours
        if left <= 0:
            takes = f"a session takes {self.overhead_hours:.2f} h beside training"
            limit = f"limits.session_hours is {limits.session_hours:g}; raise that in params/cost/"
            raise ConfigError(f"{self.id}: {takes}, and {limit}, or plan without this --runs-dir")
        return max(1, math.ceil(self._training_hours / left))

    def hours(self, limits: Limits) -> float:
        """Hours of training, and those that each session takes beside it."""
        return self._training_hours + self.sessions(limits) * self.overhead_hours

    @property
    def _training_hours(self) -> float:
        return self.tokens / self.tokens_per_second / 3600


class Bill(NamedTuple):
    """Sums over runs. `weeks` is the longer of what the quota and what the sessions at once allow."""

    runs: int
    tokens: float
    hours: float
    sessions: int
    weeks: float


def total(runs: Iterable[RunCost], limits: Limits) -> Bill:
    """The bill of different runs. Only those on a GPU need Kaggle weeks."""
    different = {run.id: run for run in runs}.values()
    hours = {run.id: run.hours(limits) for run in different}
    quota = sum(hours[run.id] for run in different if run.on_gpu) / limits.runs_per_session
    weeks = max(quota / limits.weekly_gpu_hours, quota / limits.sessions_at_once / (7 * 24))
    sessions = sum(run.sessions(limits) for run in different)
    return Bill(len(different), sum(run.tokens for run in different), sum(hours.values()), sessions, weeks)


def without(runs: Sequence[RunCost], label: str) -> list[RunCost]:
    """The runs that are left when everything of that label goes, and with it whatever needs it."""
    gone = {run.id for run in runs if label in run.labels}
    while more := {run.id for run in runs if run.id not in gone and any(gone >= set(n) for n in run.needs)}:
        gone |= more
    return [run for run in runs if run.id not in gone]


def savings(runs: Sequence[RunCost], limits: Limits) -> dict[str, Bill]:
    """For each label, the difference that leaving it out makes: what only it needs."""
    whole, labels = total(runs, limits), dict.fromkeys(label for run in runs for label in run.labels)
    left = {label: total(without(runs, label), limits) for label in labels}
    return {name: Bill._make(a - b for a, b in zip(whole, bill, strict=True)) for name, bill in left.items()}


def run_costs(study: Study, known: Known) -> list[RunCost]:
    """The cost of each run. A control trains to the tokens of its run: all of them, or its task's share.

    A placebo run trains what its run trains, with the same strategy.
    """
    per_task: dict[str, dict[str, float]] = {}
    costs = []
    for run in study.runs.values():  # a run stands behind those that it needs
        of = study.runs[run.twin_of] if run.twin_of else run
        if of is run:
            epochs = run.config.training.epochs
            per_task[run.id] = {t: epochs * known.tokens_of_epoch(run.config, t) for t in run.tasks}
        theirs = per_task[of.id]
        tokens = theirs[run.tasks[0]] if run.control == SHARE else sum(theirs.values())
        trained = of.strategy if run.control == PLACEBO else run.strategy
        beside = known.overhead_hours(run.config) + known.evaluation_hours(run.config, trained)
        seeds: dict[str, list[str]] = {}  # of a candidate's strategy: one of them is enough
        for id in run.needs:
            seeds.setdefault(study.runs[id].strategy, []).append(id)
        needs, labels = tuple(map(tuple, seeds.values())), tuple(_labels(run, of.strategy))
        rate = known.rate(run.config, trained)
        costs.append(RunCost(run.id, tokens, rate, beside, needs, labels, run.on_gpu))
    return costs


def predict(name: str, changes: Sequence[str], runs_dir: Path) -> str:
    """The plan as text. Raises ConfigError for a selection that is wrong or of which nothing is known."""
    study, table = Study(load_selection(name, changes)), read_table()
    known, limits = Known(table, find_runs(runs_dir, damaged=[])), Limits.of(table)
    costs = run_costs(study, known)
    done = {id for id, state in states(study, runs_dir).items() if state == DONE}
    saved = savings(costs, limits)
    lines = [study.selection.title, *_sums(study, costs, done, limits), *reach(study)]
    lines.append("\nLeaving one of these out saves what only it needs:")
    for label in sorted(saved, key=lambda label: ORDER.index(label.split()[0])):
        lines.append(_row(f"  {label}", saved[label]))
    lines.append("")
    for kind, heading in KNOWN.items():
        if figures := known.used[kind]:
            lines += [heading, *sources(figures.items())]
    return "\n".join([*lines, "Limits, by which hours become weeks:", *sources(table.limits.items())])


def _labels(run: StudyRun, strategy: str) -> Iterator[str]:
    """What could be left out together with this run."""
    yield f"model {run.config.model.name}"
    yield f"seed {run.config.seed}"
    yield f"ablation {run.ablation}" if run.ablation else f"strategy {strategy}"
    if run.control:
        yield f"control {run.control}"


def _sums(study: Study, costs: Sequence[RunCost], done: set[str], limits: Limits) -> Iterator[str]:
    yield COLUMNS % ("GPU" if any(cost.on_gpu for cost in costs) else "CPU")
    groups = {kind: [c for c in costs if study.runs[c.id].kind == kind] for kind in KINDS}
    groups["all"] = list(costs)
    if done:
        groups["of them finished"] = [cost for cost in costs if cost.id in done]
        groups["left to do"] = [cost for cost in costs if cost.id not in done]
    for name, group in groups.items():
        if group or name not in KINDS:
            yield _row(name, total(group, limits))


def _row(name: str, bill: Bill) -> str:
    figures = f"{bill.tokens / 1e6:>10,.1f}{bill.hours:>12,.2f}{bill.sessions:>10,}{bill.weeks:>8,.1f}"
    return f"{name:34}{bill.runs:>7,}{figures}"
