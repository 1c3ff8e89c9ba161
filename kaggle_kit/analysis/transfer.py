"""The transfer matrix: what a second task does to the first, at equal tokens.

    found = transfer_matrix(find_runs(runs_dir), tasks, model="llama3b", profile="t4")
    found.values[i, j]                  # score(i | trained with j) - score(i | alone), mean over the seeds

Each cell compares finished two-task runs with the token-controlled twins of their tasks (control `total`).
Two runs that differ in anything but the second task are not compared: IncomparableRuns names the field. A
cell without such a pair is missing, and is never a zero.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
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
SCORES = ("task", "trained with", "seed", "alone", "difference")


@dataclass(frozen=True)
class TransferMatrix:
    """The effect of a second task on the first, by cell and seed; a cell without finished runs is missing.

    `scores` has a row per cell and seed: the twin's score, and the difference to it.
    """

    tasks: tuple[str, ...]
    scores: pd.DataFrame
    needed: tuple[tuple[str, ...], ...]  # arguments of `python -m kaggle_kit` that would fill it

    def table(self) -> pd.DataFrame:
        """Return a row per known cell: means over seeds in the task's own metric, and their spread."""
        cells = self.scores.groupby(["task", "trained with"], sort=False)
        of = {"seeds": ("seed", "size"), "alone": ("alone", "mean"), "difference": ("difference", "mean")}
        return cells.agg(**of, spread=("difference", "std")).reset_index()

    @property
    def values(self) -> np.ndarray:
        """Return (K, K) mean effects of column on row in the row's metric; NaN on the diagonal or missing."""
        return self._array(self.table()["difference"])

    @property
    def spreads(self) -> np.ndarray:
        """Return (K, K) standard deviations over the seeds; NaN for one seed."""
        return self._array(self.table()["spread"])

    @property
    def relative(self) -> np.ndarray:
        """Return (K, K) mean differences over the mean score alone: unlike metrics on one scale."""
        cells = self.table()
        return self._array(cells["difference"] / cells["alone"].where(cells["alone"] != 0))

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Return the cells (task, trained with) that no seed has scored."""
        known = set(self.scores[["task", "trained with"]].itertuples(index=False, name=None))
        return [pair for pair in permutations(self.tasks, 2) if pair not in known]

    def record(self) -> dict[str, Any]:
        """Return plain values for a file; a missing cell is null."""
        arrays = {"values": self.values.tolist(), "relative": self.relative.tolist()}
        scores = self.scores.to_dict("records")
        return {"tasks": self.tasks, **arrays, "scores": scores, "missing": self.missing}

    def _array(self, figures: pd.Series) -> np.ndarray:
        cells = self.table().assign(figure=figures.astype(float))
        matrix = cells.pivot(index="task", columns="trained with", values="figure")
        return matrix.reindex(index=self.tasks, columns=self.tasks).to_numpy(float)


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
    """Return the matrix of all cells that finished runs of a model and profile give.

    With `data`, task -> sha256 of its corpus, runs on other corpora are left aside: practice data of other
    settings, say, in the same folder. `seeds` are those that the matrix should have; what they lack is in
    `needed`. Raises IncomparableRuns for runs that may not be compared, or that are there twice with
    different configurations.
    """

    def pair_key(run: RunFolder) -> tuple[Any, ...] | None:
        held = set(run.facts["tasks"])
        wanted = run.facts["strategy"] == strategy and len(held) == 2 and held <= set(tasks)
        return (frozenset(held), run.facts["seed"]) if wanted else None

    def twin_key(run: RunFolder) -> tuple[Any, ...] | None:
        twin = run.manifest().get("twin", {})
        return (twin["of"], run.facts["tasks"][0]) if twin.get("control") == CONTROL else None

    known = data or {}
    setting = {"model": model, "profile": profile}.items()
    here = (run for run in runs if setting <= run.facts.items() and run.metrics())
    hashes_of = ((run, run.manifest()["data_hashes"].items()) for run in here)
    scored = [run for run, hashes in hashes_of if all(known.get(name, one) == one for name, one in hashes)]
    pairs, twins = _by_key(scored, pair_key), _by_key(scored, twin_key)
    rows = []
    for (_, seed), pair in pairs.items():
        for task, partner in permutations(pair.facts["tasks"]):
            if twin := twins.get((pair.run_id, task)):
                both, alone = Entry.of(pair), Entry.of(twin)
                assert_comparable("transfer", {"pairs": [both], "controls": [alone]}, [task], split)
                assert_token_parity(both, alone, task)
                score = alone.primary(task, split).value
                rows.append((task, partner, seed, score, both.primary(task, split).value - score))
    _assert_one_corpus([*pairs.values(), *twins.values()], tasks)
    rows.sort(key=lambda row: (tasks.index(row[0]), tasks.index(row[1]), row[2]))
    scores = pd.DataFrame(rows, columns=SCORES).astype({"alone": "float64", "difference": "float64"})
    common = ("--model", model, "--profile", profile)
    needed = (words for seed in seeds for words in _needed(tasks, seed, pairs, twins, strategy, common))
    return TransferMatrix(tuple(tasks), scores, tuple(needed))


def transfer_settings(config: RunConfig) -> dict[str, Any]:
    """Return the arguments for `transfer_matrix` in a configuration. ConfigError without split or seeds."""
    experiment = config.experiment
    if not {"split", "seeds"} <= experiment.keys():
        raise ConfigError("the experiment declares no split and seeds; add experiment=transfer_matrix")
    names = {"model": config.model.name, "profile": config.profile.name, "strategy": config.strategy.name}
    return {"tasks": list(config.tasks), **names, "seeds": experiment["seeds"], "split": experiment["split"]}


def _by_key(
    runs: Iterable[RunFolder], key_of: Callable[[RunFolder], tuple[Any, ...] | None]
) -> dict[tuple[Any, ...], RunFolder]:
    """Return the newest run by key; two configurations under one key are an error, not a choice."""
    newest: dict[tuple[Any, ...], RunFolder] = {}
    for run in sorted(runs, key=lambda run: run.manifest()["finished"]):
        if (key := key_of(run)) is not None:
            one, other = (each.facts["config_hash"] for each in (newest.get(key, run), run))
            if one != other:
                both = f"{newest[key].run_id} and {run.run_id} are of the same tasks and seed"
                raise IncomparableRuns("config_hash", f"{both}, with {one} and {other}; keep them apart")
            newest[key] = run
    return newest


def _assert_one_corpus(runs: Sequence[RunFolder], tasks: Sequence[str]) -> None:
    for task in tasks:
        hashes = {run.run_id: run.manifest()["data_hashes"].get(task) for run in runs}
        digests = {digest: run_id for run_id, digest in hashes.items() if digest}
        if len(digests) > 1:
            values = " and ".join(f"{digest} in {run_id}" for digest, run_id in digests.items())
            then = "a matrix is of one corpus, keep the others in separate folders"
            raise IncomparableRuns(f"data_hashes.{task}", f"{values}; {then}")


def _needed(
    tasks: Sequence[str], seed: int, pairs: Any, twins: Any, strategy: str, common: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    """Return the missing two-task runs of a seed, and the missing baselines of those that are there."""
    common += ("--seed", str(seed), EXPERIMENT)
    for one, other in combinations(tasks, 2):
        pair = pairs.get((frozenset((one, other)), seed))
        if pair is None:
            yield ("run", strategy, "--task", f"{one},{other}", *common)
            continue
        twin = (f"experiment.twin={pair.run_id}", f"experiment.control={CONTROL}")
        for task in (one, other):
            if (pair.run_id, task) not in twins:
                yield ("run", "token_controlled", "--task", task, *common, *twin)
