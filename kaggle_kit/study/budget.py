"""`study plan`: hours and Kaggle weeks of a selection, what it can show, and what can be saved.

print(predict("full", [], Path("runs")))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kaggle_kit.core.folders import find_runs
from kaggle_kit.study.cost import Bill, Limits, RunCost, savings, total
from kaggle_kit.study.graph import KINDS, Study, StudyRun
from kaggle_kit.study.power import reach
from kaggle_kit.study.spec import PLACEBO, SHARE, load_selection
from kaggle_kit.study.status import DONE, states
from kaggle_kit.study.throughput import Known, read_table, sources

COLUMNS = f"{'':34}{'runs':>7}{'Mtokens':>10}{'%s-hours':>12}{'sessions':>10}{'weeks':>8}"
ORDER = ("model", "strategy", "ablation", "control", "seed")  # of what can be left out


def predict(name: str, changes: Sequence[str], runs_dir: Path) -> str:
    """The plan as text. Raises ConfigError for a selection that is wrong or of which nothing is known."""
    study = Study(load_selection(name, changes))
    table = read_table()
    known, limits = Known(table, find_runs(runs_dir, damaged=[])), table.limit()
    costs = run_costs(study, known)
    done = {id for id, state in states(study, runs_dir).items() if state == DONE}
    return "\n".join(
        [
            study.selection.title,
            *_sums(study, costs, done, limits),
            *reach(study),
            *_saved(costs, limits),
            *_assumed(known, limits),
        ]
    )


def run_costs(study: Study, known: Known) -> list[RunCost]:
    """The cost of each run. A control trains to the tokens of its run: all of them, or its task's share.

    A placebo run trains what its run trains, with the same strategy.
    """
    per_task: dict[str, dict[str, float]] = {}
    costs = []
    for run in study.runs.values():  # a run stands behind those that it needs
        if run.twin_of is None:
            epochs = run.config.training.epochs
            per_task[run.id] = {t: epochs * known.tokens_of_epoch(run.config, t) for t in run.tasks}
            tokens = sum(per_task[run.id].values())
        else:
            theirs = per_task[run.twin_of]
            tokens = theirs[run.tasks[0]] if run.control == SHARE else sum(theirs.values())
        same = study.runs[run.twin_of].strategy if run.control == PLACEBO else run.strategy
        costs.append(
            RunCost(
                run.id,
                tokens,
                known.rate(run.config, same),
                known.overhead_hours(run.config) + known.evaluation_hours(run.config, same),
                _needs(study, run),
                tuple(_labels(study, run)),
                run.on_gpu,
            )
        )
    return costs


def _needs(study: Study, run: StudyRun) -> tuple[tuple[str, ...], ...]:
    """What must not be left out: its multi-task run, or of each candidate strategy one seed."""
    seeds: dict[str, list[str]] = {}
    for id in run.needs:
        seeds.setdefault(study.runs[id].strategy, []).append(id)
    return tuple(map(tuple, seeds.values()))


def _labels(study: Study, run: StudyRun) -> Iterator[str]:
    """What could be left out together with this run."""
    yield f"model {run.config.model.name}"
    yield f"seed {run.config.seed}"
    if run.ablation:
        yield f"ablation {run.ablation}"
    else:
        yield f"strategy {study.runs[run.twin_of].strategy if run.twin_of else run.strategy}"
    if run.control:
        yield f"control {run.control}"


def _sums(study: Study, costs: Sequence[RunCost], done: set[str], limits: Limits) -> Iterator[str]:
    yield COLUMNS % ("GPU" if any(cost.on_gpu for cost in costs) else "CPU")
    by_id = {cost.id: cost for cost in costs}
    for kind in KINDS:
        if runs := study.of_kind(kind):
            yield _row(kind, total([by_id[run.id] for run in runs], limits))
    yield _row("all", total(costs, limits))
    if done:
        yield _row("of them finished", total([c for c in costs if c.id in done], limits))
        yield _row("left to do", total([c for c in costs if c.id not in done], limits))


def _saved(costs: Sequence[RunCost], limits: Limits) -> Iterator[str]:
    yield "\nLeaving one of these out saves what only it needs:"
    saved = savings(costs, limits)
    for label in sorted(saved, key=lambda label: ORDER.index(label.split()[0])):
        yield _row(f"  {label}", saved[label])


def _assumed(known: Known, limits: Limits) -> Iterator[str]:
    yield "\nTokens of one pass over the training split:"
    yield from sources(known.used["tokens"].items(), "")
    yield "Real tokens a second in training:"
    yield from sources(known.used["rates"].items(), "")
    yield "Hours of a session beside training:"
    yield from sources(known.used["overheads"].items(), "")
    if known.used["evaluations"]:
        yield "Passes over the training splits that scoring a run is worth:"
        yield from sources(known.used["evaluations"].items(), "")
    yield "Limits, by which hours become weeks:"
    yield from sources(known.table.limits.items(), "")


def _row(name: str, bill: Bill) -> str:
    figures = f"{bill.tokens / 1e6:>10,.1f}{bill.hours:>12,.2f}{bill.sessions:>10,}{bill.weeks:>8,.1f}"
    return f"{name:34}{bill.runs:>7,}{figures}"
