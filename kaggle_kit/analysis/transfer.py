"""The transfer matrix: what a second task does to the first, at equal tokens.

    found = transfer_matrix(find_runs(runs_dir), tasks, model="llama3b", profile="t4")
    found.values[i, j]                  # score(i | trained with j) - score(i | alone), mean over the seeds

Each cell compares finished two-task runs with the token-controlled twins of their tasks (control `total`).
Two runs that differ in anything but the second task are not compared: IncomparableRuns names the field. A
cell without such a pair is missing, and is never a zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from kaggle_kit.analysis.comparability import assert_comparable
from kaggle_kit.analysis.token_parity import assert_token_parity
from kaggle_kit.analysis.verdict_inputs import Entry
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError, IncomparableRuns
from kaggle_kit.core.schema import RunConfig

CONTROL = "total"
EXPERIMENT = "experiment=token_controlled"  # of both arms


@dataclass(frozen=True)
class Cell:
    """What training with `partner` does to `task`: by seed, the difference and the twin's score."""

    task: str
    partner: str
    differences: dict[int, float]
    alone: dict[int, float]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.differences.values())))

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; NaN for one."""
        values = list(self.differences.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


@dataclass(frozen=True)
class TransferMatrix:
    """`cells[i, j]` is the effect of j on i; cells that no finished runs give are not in it."""

    tasks: tuple[str, ...]
    cells: dict[tuple[str, str], Cell]
    needed: tuple[tuple[str, ...], ...]  # arguments of `python -m kaggle_kit` that would fill it

    @property
    def values(self) -> np.ndarray:
        """(K, K) mean differences in the tasks' own metrics; NaN on the diagonal and where missing."""
        return self._array(lambda cell: cell.mean)

    @property
    def spreads(self) -> np.ndarray:
        """(K, K) standard deviations over the seeds."""
        return self._array(lambda cell: cell.spread)

    @property
    def relative(self) -> np.ndarray:
        """(K, K) mean difference over the mean score alone: tasks with different metrics on one scale."""
        return self._array(_relative)

    @property
    def missing(self) -> list[tuple[str, str]]:
        return [pair for pair in _ordered(self.tasks) if pair not in self.cells]

    def table(self) -> pd.DataFrame:
        """One row per known cell, in the task's own metric; the spread is over seeds."""
        columns = ("task", "trained with", "seeds", "alone", "difference", "spread")
        rows = [
            (c.task, c.partner, len(c.differences), float(np.mean(list(c.alone.values()))), c.mean, c.spread)
            for c in self.cells.values()
        ]
        return pd.DataFrame(rows, columns=columns)

    def record(self) -> dict[str, Any]:
        """Plain values for a file; a missing cell is null."""
        cells = [
            {"task": cell.task, "partner": cell.partner, "mean": cell.mean, "spread": cell.spread}
            | {"differences": cell.differences, "alone": cell.alone}
            for cell in self.cells.values()
        ]
        return {
            "tasks": self.tasks,
            "values": self.values.tolist(),
            "relative": self.relative.tolist(),
            "cells": cells,
            "missing": self.missing,
        }

    def _array(self, figure: Any) -> np.ndarray:
        array = np.full((len(self.tasks), len(self.tasks)), np.nan)
        for (task, partner), cell in self.cells.items():
            array[self.tasks.index(task), self.tasks.index(partner)] = figure(cell)
        return array


def transfer_matrix(
    runs: Iterable[RunFolder],
    tasks: Sequence[str],
    *,
    model: str,
    profile: str,
    seeds: Sequence[int] = (),
    strategy: str = "s2_shared",
    split: str = "dev",
    data: Mapping[str, str] | None = None,
) -> TransferMatrix:
    """Every cell that finished runs of a model and profile give.

    With `data`, task -> sha256 of its corpus, runs on other corpora are left aside: practice data of other
    settings, say, in the same folder. `seeds` are those that the matrix should have; what they lack is in
    `needed`. Raises IncomparableRuns for runs that may not be compared, or that are there twice with
    different configurations.
    """
    wanted = {"model": model, "profile": profile}
    fitting = [run for run in runs if all(run.facts[key] == value for key, value in wanted.items())]
    scored = [run for run in fitting if run.metrics() and _is_on(run, data or {})]
    pairs = _by_key(scored, lambda run: _pair_key(run, strategy, tasks))
    twins = _by_key(scored, _twin_key)
    cells: dict[tuple[str, str], Cell] = {}
    for (_, seed), pair in pairs.items():
        for task, partner in (pair.facts["tasks"], pair.facts["tasks"][::-1]):
            if twin := twins.get((pair.run_id, task)):
                both, alone = Entry.of(pair), Entry.of(twin)
                assert_comparable("transfer", {"pairs": [both], "controls": [alone]}, [task], split)
                assert_token_parity(both, alone, task)
                cell = cells.setdefault((task, partner), Cell(task, partner, {}, {}))
                cell.alone[seed] = alone.primary(task, split).value
                cell.differences[seed] = both.primary(task, split).value - cell.alone[seed]
    _check_one_corpus([*pairs.values(), *twins.values()])
    kept = {pair: cells[pair] for pair in _ordered(tasks) if pair in cells}
    needed = tuple(_needed(tasks, seeds, pairs, twins, strategy, wanted))
    return TransferMatrix(tuple(tasks), kept, needed)


def declared(config: RunConfig) -> dict[str, Any]:
    """What a configuration asks of `transfer_matrix`. ConfigError without split or seeds."""
    said = config.experiment
    if not {"split", "seeds"} <= said.keys():
        raise ConfigError("the experiment declares no split and seeds; add experiment=transfer_matrix")
    names = {"model": config.model.name, "profile": config.profile.name, "strategy": config.strategy.name}
    return {"tasks": list(config.tasks), **names, "seeds": said["seeds"], "split": said["split"]}


def _pair_key(run: RunFolder, strategy: str, tasks: Sequence[str]) -> tuple[Any, ...] | None:
    held = run.facts["tasks"]
    if run.facts["strategy"] != strategy or len(held) != 2 or not set(held) <= set(tasks):
        return None
    return frozenset(held), run.facts["seed"]


def _twin_key(run: RunFolder) -> tuple[Any, ...] | None:
    twin = run.manifest().get("twin")
    if not twin or twin["control"] != CONTROL:
        return None
    return twin["of"], run.facts["tasks"][0]


def _by_key(runs: Iterable[RunFolder], key_of: Any) -> dict[tuple[Any, ...], RunFolder]:
    """The newest run by key; two configurations under one key are an error, not a choice."""
    found: dict[tuple[Any, ...], RunFolder] = {}
    for run in sorted(runs, key=lambda run: run.manifest()["finished"]):
        key = key_of(run)
        if key is None:
            continue
        before = found.get(key)
        if before and before.facts["config_hash"] != run.facts["config_hash"]:
            raise IncomparableRuns(
                "config_hash",
                f"{before.run_id} and {run.run_id} are of the same tasks and seed, with "
                f"{before.facts['config_hash']} and {run.facts['config_hash']}; keep them apart",
            )
        found[key] = run
    return found


def _is_on(run: RunFolder, data: Mapping[str, str]) -> bool:
    return all(data.get(task, digest) == digest for task, digest in run.manifest()["data_hashes"].items())


def _check_one_corpus(runs: Iterable[RunFolder]) -> None:
    """All cells of the matrix are of the same data."""
    first: dict[str, tuple[str, str]] = {}
    for run in runs:
        for task, digest in run.manifest()["data_hashes"].items():
            name, known = first.setdefault(task, (run.run_id, digest))
            if digest != known:
                raise IncomparableRuns(
                    f"data_hashes.{task}",
                    f"{known} in {name} and {digest} in {run.run_id}; a matrix is of one corpus, keep the "
                    "others in separate folders",
                )


def _needed(
    tasks: Sequence[str], seeds: Sequence[int], pairs: Any, twins: Any, strategy: str, wanted: Any
) -> Iterator[tuple[str, ...]]:
    """The missing two-task runs, and the missing twins of those that are there."""
    for seed in seeds:
        common = ("--model", wanted["model"], "--profile", wanted["profile"], "--seed", str(seed))
        for one, other in combinations(tasks, 2):
            pair = pairs.get((frozenset((one, other)), seed))
            if pair is None:
                yield ("run", strategy, "--task", f"{one},{other}", *common, EXPERIMENT)
                continue
            experiment = (f"experiment.twin={pair.run_id}", f"experiment.control={CONTROL}")
            for task in (one, other):
                if (pair.run_id, task) not in twins:
                    own = ("--task", task, *common, EXPERIMENT, *experiment)
                    yield ("run", "token_controlled", *own)


def _relative(cell: Cell) -> float:
    alone = np.mean(list(cell.alone.values()))
    return cell.mean / float(alone) if alone else float("nan")


def _ordered(tasks: Sequence[str]) -> list[tuple[str, str]]:
    return [(task, partner) for task in tasks for partner in tasks if task != partner]
