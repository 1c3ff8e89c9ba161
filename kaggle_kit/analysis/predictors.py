"""Predictors of transfer between two tasks, read from the run folder that measured it.

    found = predictors(run, tasks, ["affinity", "log_size_ratio"])     # name -> (K, K)

Every matrix is laid out as the transfer matrix: entry [i, j] is about what j may do to i.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kaggle_kit.analysis.conflict_table import conflict_counts
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError, RunFolderError

SIMILARITY, AFFINITY = "similarity.json", "affinity.json"
CONFOUNDER = "log_size_ratio"


def predictors(run: RunFolder, tasks: Sequence[str], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the predictors named, (K, K) each; NaN on the diagonal and where nothing was measured.

    Raises ConfigError for a name that is none, and where the confounder is not among them.
    """
    similarity, affinity = (_read(run, name) for name in (SIMILARITY, AFFINITY))
    pairs = similarity["pairs"].items()
    matrices = {name: _matrix(tasks, lambda i, j, table=table: table[i][j]) for name, table in pairs}
    # The log is of what a step on one task does to another; the transfer matrix of what happens to a task.
    matrices["affinity"] = _matrix(tasks, lambda i, j: affinity["affinity"][j][i])
    matrices["conflict_excess"] = conflict_excess(run.events(), tasks)
    if unknown := [name for name in names if name not in matrices]:
        raise ConfigError(f"experiment.predictors names {', '.join(unknown)}; allowed: {', '.join(matrices)}")
    if CONFOUNDER not in names:
        raise ConfigError(f"experiment.predictors lacks {CONFOUNDER}, the known confounder; add it")
    return {name: matrices[name] for name in names}


def conflict_excess(
    events: Iterable[Mapping[str, Any]], tasks: Sequence[str], group: str = "shared"
) -> np.ndarray:
    """Return the share of halved steps in which two tasks conflict beyond either's own rate, (K, K).

    NaN for a pair that never met on a halved step, or a task never halved.
    """
    counts = conflict_counts(events)
    return _matrix(tasks, lambda i, j: counts.excess(group, i, j))


def _matrix(tasks: Sequence[str], entry: Any) -> np.ndarray:
    matrix = np.full((len(tasks), len(tasks)), np.nan)
    for row, i in enumerate(tasks):
        for column, j in enumerate(tasks):
            if i != j and (value := entry(i, j)) is not None:
                matrix[row, column] = value
    return matrix


def _read(run: RunFolder, name: str) -> dict[str, Any]:
    path = run.path / name
    if not path.is_file():
        raise RunFolderError(f"{path} is not there; only a run of the page 03_transfer_heatmap measures it")
    return json.loads(path.read_text(encoding="utf-8"))
