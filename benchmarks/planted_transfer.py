"""Is the judge right where the truth is known? Planted transfer: trained, controlled, judged, many times.

    python -m benchmarks.planted_transfer train --runs FOLDER --seeds 1 12     # skips what is there
    python -m benchmarks.planted_transfer train --runs OTHER --overrides experiment.margin.f1=0.02
    python -m benchmarks.planted_transfer judge --runs FOLDER

`train` makes a pool of seeds for each condition, by the pages themselves: S2 on two tasks, and for each task
the control of as many tokens, that of its own share of them, and the placebo. `--overrides` trains with
other settings than those of experiment=planted, such as a study's own. `judge` gives disjoint studies of the
pool to the verdict as they lie, run folders and all, and then asks how often it is right: the pool, its seeds
and its documents, is taken for the population, of which every difference is known exactly, and studies of n
seeds are drawn from it with replacement. They are judged at the margin of experiment=planted and at that of
the study, one point. `same arm` draws both arms from the controls: the truth is zero. Where nothing shared is
planted, a study errs that says *genuine transfer* of any task or over all.

Where one run of a pool lies far behind, its mean is that of a mixture: most studies of a few seeds miss the
run, and no interval made from them can reach that mean. So coverage is given for both estimands.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import trim_mean

from benchmarks.measuring import publish
from kaggle_kit.analysis.stats import TRIM, scores
from kaggle_kit.analysis.token_parity import assert_controlled
from kaggle_kit.analysis.verdict import declared_rule, tables_of, verdict
from kaggle_kit.analysis.verdict_estimates import Table, judge
from kaggle_kit.analysis.verdict_inputs import Arms, find_arms
from kaggle_kit.analysis.verdict_rule import ESTIMANDS, Rule, Verdict
from kaggle_kit.core.artifacts import RunFolder, find_runs
from kaggle_kit.experiment.page_run import run_page

TASKS = ("semeval2014t7", "semeval2015t14")
CONDITIONS = {
    "shared": ("practice.transfer=shared",),
    "none": ("practice.transfer=none", "practice.lexicon_overlap=0"),  # not a term in common
    "conflicting": ("practice.transfer=conflicting",),
}
CONTROLS = {
    "total": ("experiment.control=total",),
    "share": ("experiment.control=share",),
    "placebo": ("experiment.control=total", "experiment.placebo=true"),
}
RUNS_OF_A_SEED = 1 + len(TASKS) * len(CONTROLS)
SAME = "same arm"  # both arms drawn from the controls of `shared`
STUDIES = 400
STUDY_MARGIN = 0.01  # of experiment=token_controlled, which the study takes
SEED_COUNTS = (3, 5, 8)
WORDS = (Verdict.GENUINE, Verdict.REGULARISATION, Verdict.EXPOSURE, Verdict.UNDECIDED, Verdict.NEGATIVE)


def train_pool(folder: Path, condition: str, seed: int, overrides: Sequence[str] = ()) -> None:
    """The runs of one condition and seed that are not there yet, each by its page."""
    place = folder / condition
    settings = ["experiment=planted", *CONDITIONS[condition], *overrides]
    multi = run_page(
        "s2_shared",
        task=",".join(TASKS),
        strategy="s2_shared",
        seed=seed,
        overrides=settings,
        into=place / f"seed{seed:02d}",
        progress=False,
    )
    for task in TASKS:
        for name, words in CONTROLS.items():
            run_page(
                "token_controlled",
                task=task,
                seed=seed,
                overrides=[*settings, f"experiment.twin={multi.name}", *words],
                into=place / f"seed{seed:02d}-{task}-{name}",
                progress=False,
            )


@dataclass(frozen=True)
class Pool:
    """One condition's runs as a population: task -> (seeds, documents, columns) of every arm."""

    tables: Mapping[str, Table]
    rule: Rule

    @classmethod
    def of(cls, arms: Arms) -> Pool:
        rule, margins = declared_rule(arms)
        whole = {task: {"unit": 1.0} for task in arms.tasks}
        rule = replace(rule, resamples=500, seeds=(), looks=())
        return cls(tables_of(arms, margins, whole, [entry.seed for entry in arms.multi_task]), rule)

    def same_arm(self) -> Pool:
        """Controls against controls."""
        tables = self.tables.items()
        same = {task: replace(t, arms=t.arms | {"multi_task": t.arms["total"]}) for task, t in tables}
        return replace(self, tables=same)

    def at(self, margin: float) -> Pool:
        return replace(self, tables={task: replace(t, margin=margin) for task, t in self.tables.items()})

    def truth(self, task: str, estimand: str = "mean") -> float:
        arms = self.tables[task].arms
        return _population(arms["multi_task"], estimand) - _population(arms["total"], estimand)

    def study(self, seeds: int, rng: np.random.Generator) -> dict[str, Table]:
        """Seeds of every arm and documents, all drawn with replacement."""
        drawn = {}
        for task, table in self.tables.items():
            pool, documents, _ = table.arms["total"].shape
            order = rng.integers(documents, size=documents)
            one, total, *others = (rng.integers(pool, size=seeds) for _ in range(4))
            own = {"multi_task": one, "total": total, "best_development": total}
            own |= dict(zip(("share", "placebo"), others, strict=True))
            drawn[task] = replace(
                table,
                arms={name: arm[own[name]][:, order] for name, arm in table.arms.items()},
                clusters=table.clusters and [table.clusters[place] for place in order],
            )
        return drawn


def _population(arm: np.ndarray, estimand: str) -> float:
    return float(trim_mean(scores(arm), TRIM if estimand == "trimmed" else 0.0))


@dataclass
class Rates:
    """What the judge said of one task in many studies, by one estimand."""

    words: Counter[str] = field(default_factory=Counter)
    specification: int = 0  # genuine transfer by the specification's rule alone
    covered: int = 0
    studies: int = 0

    def row(self) -> str:
        counts = [*(self.words[word] for word in WORDS), self.specification, self.covered]
        return " | ".join(f"{count / self.studies:.3f}" for count in counts)


Found = dict[tuple[str, str], Rates]


def rates(pool: Pool, seeds: int, rng: np.random.Generator) -> tuple[Found, list[float]]:
    """(task, estimand) -> the rates over studies of so many seeds.

    And by estimand, the share of studies that say *genuine transfer* of any task or over all.
    """
    found = {(task, kind): Rates() for task in pool.tables for kind in ESTIMANDS}
    anything: Counter[str] = Counter()
    for _ in range(STUDIES):
        document = judge(pool.study(seeds, rng), pool.rule, rng, plan=False)
        judged = document["tasks"]
        for kind in ESTIMANDS:
            said = [
                member["estimands"][kind]["verdict"] for member in (*judged.values(), document["overall"])
            ]
            anything[kind] += Verdict.GENUINE in said
        for (task, kind), rate in found.items():
            said = judged[task]["estimands"][kind]
            low, high = said["interval"]
            rate.words[said["verdict"]] += 1
            rate.specification += said["specification"] == Verdict.GENUINE
            rate.covered += low <= pool.truth(task, kind) <= high
            rate.studies += 1
    return found, [anything[kind] / STUDIES for kind in ESTIMANDS]


def judged_rates(pools: Mapping[str, Pool], margins: Sequence[float], rng: np.random.Generator) -> list[str]:
    """What the judge said of each task at each margin, and how often a study erred: two tables."""
    columns = " | ".join([*WORDS, "genuine by the specification", "interval covers"])
    lines = ["", f"| condition | task | margin | seeds | estimand | {columns} |"]
    lines.append("|---|---|---:|---:|---|" + "---:|" * (len(WORDS) + 2))
    whole = ["", "| condition | margin | seeds | studies that say *genuine* of anything, mean | trimmed |"]
    whole.append("|---|---:|---:|---:|---:|")
    for (condition, pool), margin, seeds in product(pools.items(), margins, SEED_COUNTS):
        found, anything = rates(pool.at(margin), seeds, rng)
        for (task, kind), rate in found.items():
            lines.append(f"| {condition} | {task} | {margin} | {seeds} | {kind} | {rate.row()} |")
        whole.append(f"| {condition} | {margin} | {seeds} | {' | '.join(f'{x:.3f}' for x in anything)} |")
    return lines + whole


def whole_seeds(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The runs of those seeds whose controls of every task are trained."""
    trained = Counter(run.facts["seed"] for run in runs)
    return [run for run in runs if trained[run.facts["seed"]] == RUNS_OF_A_SEED]


def as_they_lie(runs: Sequence[RunFolder], seeds: int) -> Iterator[str]:
    """The verdicts on disjoint studies of so many seeds, from their run folders: by task, and overall."""
    known = sorted({run.facts["seed"] for run in runs})
    for start in range(0, len(known) - seeds + 1, seeds):
        chosen = known[start : start + seeds]
        document = verdict([run for run in runs if run.facts["seed"] in chosen])
        yield from (f"{task}: {judged['verdict']}" for task, judged in document["tasks"].items())
        yield f"overall: {document['verdict']}"


def report(folder: Path, conditions: Sequence[str]) -> None:
    rng = np.random.default_rng(0)
    pools, disjoint = {}, []
    for condition in conditions:
        runs = whole_seeds(find_runs(folder / condition))
        arms = find_arms(runs)
        assert_controlled(arms)
        pools[condition] = Pool.of(arms)
        for seeds in SEED_COUNTS:
            words = Counter(as_they_lie(runs, seeds))
            disjoint += [f"| {condition} | {seeds} | {word} | {n} |" for word, n in sorted(words.items())]
    if "shared" in pools:
        pools[SAME] = pools["shared"].same_arm()
    arms = ("total", "best_development", "share", "placebo")
    lines = [
        f"| condition | task | multi-task | {' | '.join(arms)} | trimmed difference | SD over seeds |",
        "|---|---|" + "---:|" * (len(arms) + 3),
    ]
    for condition, pool in pools.items():
        for task, table in pool.tables.items():
            found = {name: scores(arm) for name, arm in table.arms.items()}
            deviations = ", ".join(f"{found[name].std(ddof=1):.3f}" for name in ("multi_task", "total"))
            means = " | ".join(f"{found[name].mean():.3f}" for name in ("multi_task", *arms))
            trimmed = f"{pool.truth(task, 'trimmed'):+.3f}"
            lines.append(f"| {condition} | {task} | {means} | {trimmed} | {deviations} |")
    margin = next(iter(next(iter(pools.values())).tables.values())).margin
    lines += judged_rates(pools, (margin, STUDY_MARGIN), rng)
    lines += [
        "",
        "| condition | seeds | verdict on run folders, disjoint studies | times |",
        "|---|---:|---|---:|",
    ]
    count = len(next(iter(next(iter(pools.values())).tables.values())).arms["total"])
    notes = f"{count} seeds a condition; {STUDIES} studies drawn for each rate; alpha 0.05."
    publish("planted_transfer", "Planted transfer, judged", [notes, "", *lines, *disjoint])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "judge"))
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "LAST"), default=(1, 12))
    options = parser.parse_args()
    if options.what == "judge":
        report(options.runs, options.conditions)
        return
    first, last = options.seeds
    for seed in range(first, last + 1):
        for condition in options.conditions:
            train_pool(options.runs, condition, seed, options.overrides)


if __name__ == "__main__":
    main()
