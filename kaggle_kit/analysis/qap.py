"""Does one matrix over the tasks predict another? Mantel's test, exact for few tasks, and its power.

    result = exploratory(transfer, {"affinity": affinity, "log_size_ratio": ratio}, alpha=0.05, seed=42)
    prediction_table(result), power_table(result)

The cells of a matrix over K tasks are not independent, so the tasks are relabelled instead of the cells
shuffled (Mantel 1967; Krackhardt 1988). With five tasks all 120 relabellings are gone through, and no p is
smaller than 1/120: whatever comes out is exploratory. Diagonals are left out everywhere.
"""

from collections.abc import Mapping
from itertools import permutations
from math import factorial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kaggle_kit.analysis import stats
from kaggle_kit.analysis.predictors import CONFOUNDER
from kaggle_kit.core.errors import ConfigError

EFFECTS = (0.5, 0.7, 0.9)  # true correlations whose power is simulated
MOST_TASKS = 8  # 40,320 relabellings: still exact, and seconds
TIE = 1e-12  # correlations closer than that are one


class Prediction(NamedTuple):
    """The correlation of one predictor with the transfer matrix.

    `r` is Pearson's over the off-diagonal cells, `p` its two-sided exact one. `r_given` and `p_given`
    are those with the confounder partialled out, `p_holm` is adjusted over the family of these. `auc` is
    the probability that a negative cell has the lower predictor (0.5: says nothing). NaN where a matrix
    is constant, a predictor lacks cells, or all cells or none are negative.
    """

    predictor: str
    r: float
    p: float
    r_given: float
    p_given: float
    p_holm: float
    auc: float


def exploratory(
    transfer: np.ndarray, predictors: Mapping[str, np.ndarray], *, alpha: float, seed: int
) -> dict[str, Any]:
    """Return predictions or why there are none, and the power of the test, as plain values.

    `power` is by true correlation, for symmetric and for directed matrices, alone and at the first step of
    Holm; it needs no data.
    """
    tasks, generator = len(transfer), np.random.default_rng(seed)
    levels = {"alone": alpha, "holm": alpha / len(predictors)}
    result: dict[str, Any] = {"exploratory": True, "smallest_p": smallest_p(tasks), "alpha": alpha}
    result["power"] = {
        f"{kind} {name}": {
            str(rho): power(rho, tasks, generator, alpha=level, symmetric=kind == "symmetric", trials=500)
            for rho in EFFECTS
        }
        for kind in ("symmetric", "directed")
        for name, level in levels.items()
    }
    try:
        predictions, because = predict(transfer, predictors, CONFOUNDER), None
    except ConfigError as error:
        predictions, because = [], str(error)
    return result | {"predictions": [one._asdict() for one in predictions], "because": because}


def prediction_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per predictor of the result of `exploratory`; none where the matrix lacks a cell."""
    return pd.DataFrame(result["predictions"], columns=Prediction._fields)


def power_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return the share of true correlations that would have been found, one column for each correlation."""
    table = pd.DataFrame.from_dict(result["power"], orient="index").add_prefix("r = ")
    return table.rename_axis("matrices").reset_index()


def predict(
    transfer: np.ndarray, predictors: Mapping[str, np.ndarray], given: str = CONFOUNDER
) -> list[Prediction]:
    """Correlate every predictor with `transfer` (K, K), alone and given the confounder named `given`.

    The confounder itself is tested as it is. Raises ConfigError where `transfer` lacks a cell: a
    subset of the cells has no exact test.
    """
    cells = off_diagonal(transfer)
    if missing := int(np.isnan(cells).sum()):
        found = f"{missing} of {cells.size} cells of the transfer matrix are missing, or relative to 0"
        raise ConfigError(f"{found}; finish the runs that the page lists, or name fewer tasks")
    plain = {name: mantel(transfer, matrix) for name, matrix in predictors.items()}
    controlled = {
        name: plain[name] if name == given else mantel(transfer, matrix, predictors[given])
        for name, matrix in predictors.items()
    }
    adjusted = holm({name: p for name, (_, p) in controlled.items()})
    return [
        Prediction(name, *plain[name], *controlled[name], adjusted[name], negative_auc(transfer, matrix))
        for name, matrix in predictors.items()
    ]


def mantel(y: np.ndarray, x: np.ndarray, given: np.ndarray | None = None) -> tuple[float, float]:
    """Return Pearson's r over the off-diagonal cells of two (K, K) matrices, and its exact two-sided p.

    With a third matrix `given`, r and p are those of y and x free of it: the residual of x on it is
    relabelled (double semi-partialling: Dekker, Krackhardt and Snijders 2007).
    """
    cells = off_diagonal(y)
    design = np.column_stack([np.ones(cells.size), *([] if given is None else [off_diagonal(given)])])
    residual = np.zeros_like(x, dtype=float)
    residual[~np.eye(len(x), dtype=bool)] = _residuals(off_diagonal(x)[None], design)[0]
    own, relabelled = _residuals(cells[None], design)[0], _residuals(_relabelled(residual), design)
    scale = np.linalg.norm(own) * np.linalg.norm(relabelled, axis=1)
    if not scale[0] > TIE:  # a constant, or a missing cell
        return float("nan"), float("nan")
    r = np.divide(relabelled @ own, scale, out=np.zeros_like(scale), where=scale > TIE)
    return float(r[0]), float(np.mean(np.abs(r) >= abs(r[0]) - TIE))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's adjusted p by name; a test that could not be made (NaN) is not in the family."""
    made = {name: p for name, p in p_values.items() if not np.isnan(p)}
    adjusted = stats.holm(list(made.values()))
    return dict.fromkeys(p_values, float("nan")) | dict(zip(made, adjusted, strict=True))


def negative_auc(transfer: np.ndarray, predictor: np.ndarray) -> float:
    """Return P(the predictor of a negative cell < that of another cell), ties counted half."""
    y, x = off_diagonal(transfer), off_diagonal(predictor)
    if (y < 0).all() or (y >= 0).all() or np.isnan(x).any():
        return float("nan")
    from sklearn.metrics import roc_auc_score  # half a second of imports, which few pages need

    return float(roc_auc_score(y >= 0, x))


def smallest_p(tasks: int) -> float:
    """Return the smallest exact p that this many tasks can give."""
    return 1 / factorial(tasks)


def power(
    rho: float,
    tasks: int,
    generator: np.random.Generator,
    *,
    alpha: float = 0.05,
    symmetric: bool = True,
    trials: int = 2000,
) -> float:
    """Return the share of simulated normal matrices with true correlation `rho` that the test finds.

    `symmetric` matrices have K(K-1)/2 cells that say something, directed ones twice as many.
    """
    x, noise = generator.standard_normal((2, trials, tasks, tasks))
    y = rho * x + np.sqrt(1 - rho**2) * noise
    if symmetric:
        x, y = (np.triu(m, 1) + np.triu(m, 1).swapaxes(1, 2) for m in (x, y))
    p_values = np.array([mantel(one, other)[1] for one, other in zip(y, x, strict=True)])
    return float(np.mean(p_values <= alpha + TIE))


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    """Return the off-diagonal cells row by row: (K, K) -> (K (K-1),)."""
    matrix = np.asarray(matrix, dtype=float)
    return matrix[~np.eye(len(matrix), dtype=bool)]


def _relabelled(matrix: np.ndarray) -> np.ndarray:
    """Return the off-diagonal cells under all relabellings, (K!, K (K-1)), the first unchanged."""
    tasks = len(matrix)
    if tasks > MOST_TASKS:
        raise ConfigError(f"{tasks} tasks have {factorial(tasks):,} relabellings; at most {MOST_TASKS} tasks")
    orders = np.array(list(permutations(range(tasks))))
    row, column = np.nonzero(~np.eye(tasks, dtype=bool))
    return np.asarray(matrix, dtype=float)[orders[:, row], orders[:, column]]


def _residuals(rows: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Return the residuals (rows, cells) of a regression on `design` (cells, columns)."""
    basis, _ = np.linalg.qr(design)
    return rows - (rows @ basis) @ basis.T
