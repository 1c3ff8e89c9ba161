"""Is the judge right where the truth is known? Planted transfer: trained, controlled, judged, many times.

    python -m benchmarks.planted_transfer train --runs FOLDER --seeds 1 12     # skips what is there
    python -m benchmarks.planted_transfer judge --runs FOLDER

`train` makes a pool of seeds for each condition, through the functions that the pages call: S2 on two
tasks, and for each task the control of as many tokens. `judge` gives disjoint studies of the pool to the
verdict as they lie, run folders and all, and then asks how often it is right: the pool, its seeds and its
documents, is taken for the population, of which every difference is known exactly, and studies of n seeds
are drawn from it with replacement. `same arm` draws both arms from the controls: there the truth is zero.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring import publish
from kaggle_kit.analysis.verdict import declared, verdict
from kaggle_kit.analysis.verdict_checks import assert_comparable, documents_of
from kaggle_kit.analysis.verdict_estimates import Table, judge
from kaggle_kit.analysis.verdict_inputs import Arms, find_arms
from kaggle_kit.analysis.verdict_rule import EXPOSURE, GENUINE, NEGATIVE, UNDECIDED, Rule
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import compose
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.evaluation.documents import figure
from kaggle_kit.models.build import build_model
from kaggle_kit.ops import rounds, twins, wiring

TASKS = ("semeval2014t7", "semeval2015t14")
CONDITIONS = {
    "shared": ("practice.transfer=shared",),
    "none": ("practice.transfer=none", "practice.lexicon_overlap=0"),  # not a term in common
    "conflicting": ("practice.transfer=conflicting",),
}
SAME = "same arm"  # both arms drawn from the controls of `shared`
STUDIES = 400
SEED_COUNTS = (3, 5, 8)
WORDS = (GENUINE, EXPOSURE, UNDECIDED, NEGATIVE)


def train_pool(folder: Path, condition: str, seeds: Sequence[int]) -> None:
    """The runs of one condition that are not there yet."""
    for seed in seeds:
        overrides = ["experiment=planted", *CONDITIONS[condition]]
        config = compose(task=list(TASKS), strategy="s2_shared", overrides=overrides, seed=seed)
        multi = page(config, "s2_shared", folder / condition / f"seed{seed:02d}")
        for task in TASKS:
            own = [*overrides, f"experiment.twin={multi.run_id}", "experiment.control=total"]
            asked = compose(task=[task], overrides=own, seed=seed)
            control, _ = twins.control_of(multi, asked)
            page(control, "token_controlled", folder / condition / f"seed{seed:02d}-{task}", multi)


def page(config: RunConfig, name: str, path: Path, multi: RunFolder | None = None) -> RunFolder:
    """A training page without its figures: from configuration to manifest, once per folder."""
    if (path / "manifest.json").is_file():
        return RunFolder.open(path)
    run = start_run(config, page=name, run_dir=path)
    corpora = wiring.open_corpora(config)
    specs = wiring.task_specs(config, corpora)
    train = wiring.split_samples(config, corpora, "train")
    torch.manual_seed(config.seed)
    loaded = wiring.open_backbone(config)
    encoded = wiring.encode_split(config, train, specs, loaded)
    network = build_model(loaded, specs.values(), config.strategy)
    if multi is not None:
        twins.assert_same_data(multi, corpora)
        twins.assert_active_parameters(multi, network)
    plan = wiring.plan_training(config, encoded)
    trainer = rounds.open_trainer(config, run, network, loaded, plan, encoded)
    if (end := rounds.train(config, run, trainer, corpora)).paused:
        raise SystemExit(end.message)
    metrics = rounds.evaluate_reported(config, run, network, loaded, specs, corpora)
    run.write_metrics(metrics)
    rounds.record(config, run, network, loaded, [trainer], corpora)
    sys.stdout.write(f"{path.parent.name} {path.name}: {twins.side_by_side(multi or run, metrics)}\n")
    sys.stdout.flush()
    return run


@dataclass(frozen=True)
class Pool:
    """One condition's runs as a population: task -> (seeds, documents, columns) of either arm."""

    tables: Mapping[str, Table]
    rule: Rule

    @classmethod
    def of(cls, arms: Arms) -> Pool:
        rule, margins = declared(arms)
        tables = {}
        for task in arms.tasks:
            controls = arms.controls["total"][task]
            _, parts = documents_of([*arms.multi_task, *controls], task, arms.split)
            tables[task] = Table(parts[: len(arms.multi_task)], parts[len(arms.multi_task) :], margins[task])
        return cls(tables, replace(rule, resamples=500))

    def same_arm(self) -> Pool:
        """Controls against controls."""
        tables = {task: replace(table, multi_task=table.control) for task, table in self.tables.items()}
        return replace(self, tables=tables)

    def truth(self, task: str) -> float:
        table = self.tables[task]
        return float(_population(table.multi_task) - _population(table.control))

    def study(self, seeds: int, rng: np.random.Generator) -> dict[str, Table]:
        """Seeds of either arm and documents, all drawn with replacement."""
        drawn = {}
        for task, table in self.tables.items():
            pool, documents, _ = table.control.shape
            order = rng.integers(documents, size=documents)
            one, other = (rng.integers(pool, size=seeds) for _ in range(2))
            drawn[task] = Table(table.multi_task[one][:, order], table.control[other][:, order], table.margin)
        return drawn


def _population(arm: np.ndarray) -> float:
    return figure(arm.sum(axis=1)).mean()


@dataclass
class Rates:
    """What the judge said of one task in many studies."""

    words: Counter[str]
    covered: int = 0
    studies: int = 0

    def row(self) -> str:
        shares = " | ".join(f"{self.words[word] / self.studies:.3f}" for word in WORDS)
        return f"{shares} | {self.covered / self.studies:.3f}"


def rates(pool: Pool, seeds: int, rng: np.random.Generator) -> dict[str, Rates]:
    found = {task: Rates(Counter()) for task in pool.tables}
    for _ in range(STUDIES):
        judged = judge(pool.study(seeds, rng), pool.rule, rng)["tasks"]
        for task, rate in found.items():
            low, high = judged[task]["interval"]
            rate.words[judged[task]["verdict"]] += 1
            rate.covered += low <= pool.truth(task) <= high
            rate.studies += 1
    return found


def whole_seeds(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The runs of those seeds whose control of every task is trained."""
    trained = Counter(run.facts["seed"] for run in runs)
    return [run for run in runs if trained[run.facts["seed"]] == 1 + len(TASKS)]


def as_they_lie(runs: Sequence[RunFolder], seeds: int) -> Iterator[str]:
    """The verdicts on disjoint studies of so many seeds, from their run folders: by task, and overall."""
    known = sorted({run.facts["seed"] for run in runs})
    for start in range(0, len(known) - seeds + 1, seeds):
        chosen = known[start : start + seeds]
        total = verdict([run for run in runs if run.facts["seed"] in chosen])["controls"]["total"]
        yield from (f"{task}: {judged['verdict']}" for task, judged in total["tasks"].items())
        yield f"overall: {total['overall']['verdict']}"


def report(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pools, disjoint = {}, []
    for condition in CONDITIONS:
        runs = whole_seeds(find_runs(folder / condition))
        arms = find_arms(runs)
        assert_comparable(arms)
        pools[condition] = Pool.of(arms)
        for seeds in SEED_COUNTS:
            words = Counter(as_they_lie(runs, seeds))
            disjoint += [f"| {condition} | {seeds} | {word} | {n} |" for word, n in sorted(words.items())]
    pools[SAME] = pools["shared"].same_arm()
    lines = [
        "| condition | task | multi-task | control | difference | SD over seeds |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for condition, pool in pools.items():
        for task, table in pool.tables.items():
            one, other = (figure(arm.sum(axis=1)) for arm in (table.multi_task, table.control))
            deviations = f"{one.std(ddof=1):.3f}, {other.std(ddof=1):.3f}"
            means = f"{one.mean():.3f} | {other.mean():.3f} | {one.mean() - other.mean():+.3f}"
            lines.append(f"| {condition} | {task} | {means} | {deviations} |")
    lines += ["", f"| condition | task | seeds | {' | '.join(WORDS)} | interval covers |"]
    lines.append("|---|---|---:|" + "---:|" * (len(WORDS) + 1))
    for condition, pool in pools.items():
        for seeds in SEED_COUNTS:
            for task, rate in rates(pool, seeds, rng).items():
                lines.append(f"| {condition} | {task} | {seeds} | {rate.row()} |")
    lines += [
        "",
        "| condition | seeds | verdict on run folders, disjoint studies | times |",
        "|---|---:|---|---:|",
    ]
    count = len(next(iter(pools["shared"].tables.values())).control)
    margin = next(iter(pools["shared"].tables.values())).margin
    notes = (
        f"{count} seeds a condition; {STUDIES} studies drawn for each rate; margin {margin} F1, alpha 0.05."
    )
    publish("planted_transfer", "Planted transfer, judged", [notes, "", *lines, *disjoint])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "judge"))
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "LAST"), default=(1, 12))
    options = parser.parse_args()
    if options.what == "judge":
        report(options.runs)
        return
    first, last = options.seeds
    for seed in range(first, last + 1):
        for condition in options.conditions:
            train_pool(options.runs, condition, [seed])


if __name__ == "__main__":
    main()
